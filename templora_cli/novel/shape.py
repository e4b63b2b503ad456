"""The shape of prose: one-line paragraphs, lists of names, capitals, sentences that all begin alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median

from templora_cli.novel.marks import Match
from templora_cli.novel.passage import Passage
from templora_cli.text import count_words

MAX_SHORT_LINE = 5
"""Words of a paragraph that is a single line of a list; twice as many characters in Chinese."""
MAX_SHORT_LINES = 8
MAX_LINE_WORDS = 12
MIN_LINES = 12
FALL = 3.0
MAX_SHORT_SENTENCES = 8
MAX_NAMES = 10
WINDOW = 40
MAX_CAPITALISED = 0.75
MAX_CAPITALS = 25
MAX_SAME = 12

_SPEECH = re.compile(r"[\"“”„«»「」『』]|^\s*[—–―-]\s*\S|[:：]\s*$|^['‘]")
_SENTENCE_END = re.compile(r"[.!?…。！？]+[\s*_”’)]*|\n\s*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ITEM = r"(?:(?:the|of|and|de|la|von|y|et|und|&) )*[A-ZÀ-ÞŁŚŠŽ][\w'’.-]*(?: (?:(?:of|the|de|la|von|del|du) )*[A-ZÀ-ÞŁŚŠŽ0-9][\w'’.-]*){0,3}"
_NAMES = re.compile(rf"{_ITEM}(?:[,;、]\s+(?:and )?{_ITEM}){{{MAX_NAMES - 1},}}")
_HAN_ITEM = r"[\u4e00-\u9fff·]{1,6}"
_HAN_NAMES = re.compile(rf"{_HAN_ITEM}(?:、{_HAN_ITEM}){{14,}}|{_HAN_ITEM}(?:，{_HAN_ITEM}){{19,}}")


def is_speech(paragraph: str) -> bool:
    """Does a paragraph have dialogue?"""
    return bool(_SPEECH.search(paragraph))


def one_line_paragraphs(passage: Passage) -> Iterator[Match]:
    """A run of paragraphs of a few words; or many short ones after longer ones in the text before."""
    run: list[int] = []
    lines = [(start, line) for start, line in passage.lines()] if not passage.is_wrapped else []
    new: list[tuple[int, int]] = []
    for start, line in lines:
        words = count_words(line)
        if not words:
            continue
        is_short = words <= MAX_SHORT_LINE * (2 if _is_unspaced(line) else 1) and not is_speech(line)
        run = [*run, start] if is_short else []
        if len(run) >= MAX_SHORT_LINES:
            yield run[0], start + len(line), "it falls into lines of a few words"
        if start >= passage.offset and not is_speech(line):
            new.append((start, words))
    if len(new) >= MIN_LINES and (usual := _usual(passage)):
        lengths = median(words for _, words in new)
        if lengths <= MAX_LINE_WORDS and usual >= FALL * lengths:
            yield new[0][0], len(passage.text), "it falls into one-line paragraphs"


def _usual(passage: Passage) -> float:
    """The median number of words of the paragraphs before without dialogue; 0 if they are few."""
    words = [count_words(paragraph) for paragraph in passage.paragraphs_before if not is_speech(paragraph)]
    return median(words) if len(words) >= 4 else 0


def _is_unspaced(text: str) -> bool:
    return any("\u3040" <= char <= "\u9fff" for char in text)


def names(passage: Passage) -> Iterator[Match]:
    """Lists of names, or of single words as sentences."""
    for pattern in (_NAMES, _HAN_NAMES):
        for match in pattern.finditer(passage.text):
            yield match.start(), match.end(), "it is a list of names"
    start, run, first = 0, 0, 0
    for match in _SENTENCE_END.finditer(passage.narration):
        sentence = passage.narration[start : match.start()]
        words = count_words(sentence.replace('"', " "))
        if words:
            is_short = words <= (4 if _is_unspaced(sentence) else 2) and '"' not in sentence
            run = run + 1 if is_short else 0
            first = start if run == 1 else first
            if run >= MAX_SHORT_SENTENCES:
                yield first, match.end(), "it is a list of single words"
        start = match.end()


def capitals(passage: Passage) -> Iterator[Match]:
    """Words that mostly begin with capitals, or whole sentences in capitals."""
    words = [match for match in _WORD.finditer(passage.text) if match[0][0].lower() != match[0][0].upper()]
    is_capital = [match[0][0].isupper() for match in words]
    run = 0
    for index, match in enumerate(words):
        run = run + 1 if match[0].isupper() else 0
        if run >= MAX_CAPITALS:
            yield words[index - run + 1].start(), match.end(), "it is all in capitals"
    count = sum(is_capital[:WINDOW])
    for index in range(WINDOW, len(words) + 1):
        if count > MAX_CAPITALISED * WINDOW:
            yield words[index - WINDOW].start(), words[index - 1].end(), "almost all its words have capitals"
        if index < len(words):
            count += is_capital[index] - is_capital[index - WINDOW]


def same_beginnings(passage: Passage) -> Iterator[Match]:
    """Many sentences in a row that begin with the same word."""
    start, run, first, last = 0, 0, 0, ""
    for match in _SENTENCE_END.finditer(passage.text):
        word = _WORD.search(passage.text, start, match.start())
        if word:
            beginning = word[0].lower()
            run = run + 1 if beginning == last else 1
            first = word.start() if run == 1 else first
            last = beginning
            if run >= MAX_SAME:
                yield first, match.end(), f"sentence after sentence begins with “{word[0]}”"
        start = match.end()
