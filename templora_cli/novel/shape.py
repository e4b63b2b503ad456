"""The shape of prose: one-line paragraphs, lists of names, capitals, sentences that all begin alike.

The limits were set on PG-19 3125 and GuoFeng 102; the maximum in these books is given with each.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from heapq import nlargest
from itertools import pairwise
from statistics import median

from templora_cli.novel.marks import Match
from templora_cli.novel.passage import Passage

MAX_SHORT_LINES = ((5, 6), (8, 10), (12, 17))
"""(words, paragraphs): a longer run of paragraphs, each of at most this many words and without dialogue, is a
fault. Two Chinese characters count as a word. The maxima are 4, 4, 5 in English and 4, 6, 10 in Chinese."""
MIN_SHORT_PARAGRAPHS = 14
"""New paragraphs without dialogue that are enough to compare their length with the paragraphs before."""
MIN_NARRATED = 0.7
"""The share of the new paragraphs that have no dialogue; with more dialogue they are short in any book."""
MAX_SHORT_LETTERS = 45
"""Their median length in characters, if they are a fall; a Chinese character counts as three."""
FALL = 3
"""The paragraphs before are at least this many times as long."""
MAX_SHORT_SENTENCES = ((2, 5), (4, 9))
"""Like `MAX_SHORT_LINES`, for sentences in paragraphs too. The maxima are 3 and 4, without citations."""
MAX_NAMES = 9
"""Names between commas. The maximum is 7."""
MAX_HAN_NAMES = 14
"""Words of up to six characters between commas. The maximum is 6."""
MAX_CAPITALISED = ((30, 0.7), (60, 0.62))
"""(words, share of them with a capital). The maxima are 0.6 and 0.45; nouns have capitals in German."""
MAX_CAPITALS = 20
"""Words in a row that are all in capitals."""
MAX_SAME = 7
"""Sentences in a row that begin with the same word. The maximum is 4."""
SENTENCES, MAX_FIRST, MAX_FIRST_TWO = 20, 13, 16
"""Of this many sentences, those that begin with the most frequent first word, and with one of the two most
frequent. The maxima are 11 and 15."""
MAX_PART_WORDS = 180
"""Words without a full stop, a colon, a semicolon or a quotation mark. The maximum is 134."""

_SPEECH = re.compile(r"[\"“”„«»「」『』]|^\s*[—–―-]\s*\S|[:：]\s*$|^['‘]")
_SENTENCE_END = re.compile(r"[.!?…。！？]+[\s*_”’)]+|[…。！？]|\n\s*")
_ENDS = re.compile(r"[.!?…。！？]\W{0,4}\Z")
_PART_END = re.compile(r"[.!?…;:。！？；：\"“”«»]")
_UNSPACED = re.compile(r"[\u3040-\u9fff]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NAME = r"[A-ZÀ-ÞŁŚŠŽ][\w'’.-]*"
_LINK = r"(?:(?:the|of|and|de|la|von|y|et|und|del|du) )*"
_ITEM = rf"{_NAME}(?: {_LINK}{_NAME}){{0,3}}"
_NAMES = re.compile(rf"{_ITEM}(?:[,;、]\s+{_LINK}{_ITEM}){{{MAX_NAMES},}}")
_HAN_ITEM = r"[\u4e00-\u9fff·]{1,6}"
_HAN_NAMES = re.compile(rf"{_HAN_ITEM}(?:[、，]{_HAN_ITEM}){{{MAX_HAN_NAMES},}}")


class _Run:
    """A run of items that are all of at most `words` words; `start` is where it begins."""

    def __init__(self, words: int, maximum: int) -> None:
        self.words = words
        self.maximum = maximum
        self.length = 0
        self.start = 0

    def add(self, start: int, words: float) -> bool:
        """Add an item; has the run become longer than its maximum?"""
        if words > self.words:
            self.length = 0
            return False
        self.start = self.start if self.length else start
        self.length += 1
        return self.length > self.maximum


def one_line_paragraphs(passage: Passage) -> Iterator[Match]:
    """A run of paragraphs of a few words; or many short ones after longer ones in the text before."""
    runs = [_Run(words, maximum) for words, maximum in MAX_SHORT_LINES]
    new: list[tuple[int, int]] = []
    total = 0
    for start, end in passage.paragraphs:
        paragraph = passage.text[start:end]
        has_speech = bool(_SPEECH.search(paragraph))
        if start >= passage.offset:
            total += 1
            new += [] if has_speech else [(start, _letters(paragraph))]
        words = math.inf if has_speech else _length(paragraph, 110)
        if not words:
            continue
        for run in runs:
            # Lines of verse are not as short, and do not all end a sentence.
            is_line = run is runs[0] or _ENDS.search(paragraph)
            if run.add(start, words if is_line else math.inf):
                yield run.start, end, "it falls into lines of a few words"
    if len(new) >= max(MIN_SHORT_PARAGRAPHS, MIN_NARRATED * total):
        letters = median(letters for _, letters in new)
        if letters <= MAX_SHORT_LETTERS and _usual_letters(passage) >= FALL * letters:
            yield new[0][0], len(passage.text), "it falls into one-line paragraphs"


def _usual_letters(passage: Passage) -> float:
    """The median length of the paragraphs before without dialogue, as `_letters`; 0 if they are few."""
    lengths = [
        _letters(paragraph) for paragraph in passage.paragraphs_before if not _SPEECH.search(paragraph)
    ]
    return median(lengths) if len(lengths) >= 4 else 0


def _letters(text: str) -> int:
    """Length in characters; a Chinese one counts as three."""
    return len(text) * (3 if _is_unspaced(text) else 1)


def _length(text: str, max_characters: int) -> float:
    """Length in words; two Chinese characters count as a word. A longer text is not counted."""
    if len(text) > max_characters:
        return math.inf
    if _is_unspaced(text):
        return sum(char.isalnum() for char in text) / 2
    return sum(any(map(str.isalnum, word)) for word in text.split())


def _is_unspaced(text: str) -> bool:
    return bool(_UNSPACED.search(text, 0, 40))


def names(passage: Passage) -> Iterator[Match]:
    """Lists of names, or of single words as sentences."""
    for pattern, separators in ((_NAMES, ",;"), (_HAN_NAMES, "、，")):
        if sum(passage.text.count(separator) for separator in separators) >= MAX_NAMES:
            for match in pattern.finditer(passage.text):
                yield match.start(), match.end(), "it is a list of names"
    runs = [_Run(words, maximum) for words, maximum in MAX_SHORT_SENTENCES]
    for start, end in _sentences(passage.narration):
        sentence = passage.narration[start:end]
        is_whole = '"' not in sentence and not sentence[0].islower()
        words = _length(sentence, 50) if is_whole else math.inf
        if words:
            for run in runs:
                if run.add(start, words):
                    yield run.start, end, "it is a list of single words"


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of the sentences of `text`, without the space and marks after them."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if match.start() > start:
            yield start, match.start()
        start = match.end()


def capitals(passage: Passage) -> Iterator[Match]:
    """Words that mostly begin with capitals, or sentences in capitals."""
    words = [
        (match.start(), match.end(), match[0].isupper())
        for match in _WORD.finditer(passage.text)
        if match[0][0].isupper() or match[0][0].islower()  # in a script with capitals
    ]
    run = 0
    for index, (_, end, is_upper) in enumerate(words):
        run = run + 1 if is_upper else 0
        if run > MAX_CAPITALS:
            yield words[index - run + 1][0], end, "it is all in capitals"
    is_capital = [passage.text[start].isupper() for start, _, _ in words]
    for size, share in MAX_CAPITALISED:
        count = sum(is_capital[:size])
        for index in range(size, len(words) + 1):
            if count > share * size and words[index - 1][1] > passage.offset:
                first = _first_run(is_capital, index - size)
                yield words[first][0], words[index - 1][1], "almost all of its words have capitals"
                break
            if index < len(words):
                count += is_capital[index] - is_capital[index - size]


def _first_run(flags: list[bool], start: int) -> int:
    """The first index from `start` on where three flags in a row are set; `start` if there is none."""
    found = (i for i in range(start, len(flags) - 2) if all(flags[i : i + 3]))
    return next(found, start)


def same_beginnings(passage: Passage) -> Iterator[Match]:
    """Many sentences that begin with the same word, or with the same two words by turns."""
    firsts = [
        (match.start(), end, match[0])
        for start, end in _sentences(passage.text)
        if (match := _WORD.search(passage.text, start, end))
    ]
    run = 0
    for index, (_, end, word) in enumerate(firsts):
        run = run + 1 if index and word.lower() == firsts[index - 1][2].lower() else 1
        if run > MAX_SAME:
            yield firsts[index - run + 1][0], end, f"sentence after sentence begins with “{word}”"
    counts = Counter(word.lower() for _, _, word in firsts[:SENTENCES])
    for index in range(SENTENCES, len(firsts) + 1):
        common = nlargest(2, counts.values())
        is_same = common[0] > MAX_FIRST or sum(common) > MAX_FIRST_TWO
        if is_same and firsts[index - 1][1] > passage.offset:
            beginnings = {beginning for beginning, _ in counts.most_common(2)}
            first = _first_run([word.lower() in beginnings for _, _, word in firsts], index - SENTENCES)
            yield firsts[first][0], firsts[index - 1][1], "almost all of its sentences begin alike"
            break
        if index < len(firsts):
            counts[firsts[index][2].lower()] += 1
            counts[firsts[index - SENTENCES][2].lower()] -= 1


def endless_sentences(passage: Passage) -> Iterator[Match]:
    """Very many words without any mark that ends a sentence or a part of it."""
    for start, end in passage.paragraphs:
        if end - start > MAX_PART_WORDS:
            bounds = [match.start() for match in _PART_END.finditer(passage.text, start, end)]
            for part_start, part_end in pairwise([start, *bounds, end]):
                if _length(passage.text[part_start:part_end], part_end) > MAX_PART_WORDS:
                    yield part_start, part_end, "a sentence does not end"
