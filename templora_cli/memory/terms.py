"""Words of a text in every script: for finding passages, measuring their length, and comparing them."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence

# Chinese, Japanese, Thai, Lao, Burmese, Khmer: no spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17d3\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
# \w has no combining marks. These are those of Latin, Hebrew, Arabic and the scripts of India, inside words.
_MARKS = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_LETTER = rf"(?:[^\W_{_UNSPACED}]|[{_MARKS}])"
_WORD = rf"{_LETTER}+(?:['’]{_LETTER}+)*"

_POSSESSIVE = ("'s", "'S")

_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|{_WORD}")
_UNIT = re.compile(rf"(?P<character>[{_UNSPACED}])|{_WORD}")
_LENGTH = re.compile(rf"[{_UNSPACED}]{{1,2}}|{_WORD}")


def terms(text: str, *, fold: bool = True) -> list[str]:
    """The index terms of a text, in order: words, and pairs of characters where a script has no spaces.

    The form of apostrophes and accents and a possessive 's make no difference; nor does case, with `fold`.
    """
    found: list[str] = []
    for match in _RUN.finditer(_normalized(text, fold=fold)):
        run = match.group()
        if match.lastgroup is None:
            found.append(run[:-2] if run.endswith(_POSSESSIVE) else run)
        else:
            found.extend(run[i : i + 2] for i in range(max(1, len(run) - 1)))
    return found


def count_words(text: str) -> int:
    """Number of words. Two characters of a script without spaces count as a word."""
    return sum(1 for _ in word_starts(text))


def word_starts(text: str, start: int = 0, end: int = sys.maxsize) -> Iterator[int]:
    """Offsets of the words from `start` to `end`. Two characters of a script without spaces are a word."""
    return (match.start() for match in _LENGTH.finditer(text, start, end))


def last_words(text: str, words: int) -> str:
    """The end of a text that has the given number of words, at least 1. Takes as long for a long text."""
    length = 16 * words
    while True:
        tail = text[-length:]
        starts = list(word_starts(tail))
        if len(starts) > words or length >= len(text):
            return tail[starts[-words] :] if len(starts) > words else tail
        length *= 2


def copied_run(text: str, passages: Sequence[str], words: int = 12) -> str | None:
    """The first run of more than `words` consecutive words that `text` copies from one of the passages.

    Two characters of a script without spaces count as a word. Case and punctuation make no difference.
    """
    copied = {window for passage in passages for _, _, window in _windows(passage, 2 * words)}
    start = end = -1
    for first, last, window in _windows(text, 2 * words):
        if window in copied:
            start, end = (first, last) if start < 0 else (start, last)
        elif start >= 0:
            break
    return text[start:end] if start >= 0 else None


def _windows(text: str, limit: int) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """For each word, the shortest run from there that weighs over `limit`: start, end, its words.

    A character of a script without spaces weighs 1, any other word 2.
    """
    units = [
        (
            match.start(),
            match.end(),
            _without_possessive(_normalized(match.group())),
            1 if match.lastgroup else 2,
        )
        for match in _UNIT.finditer(text)
    ]
    last, weight = 0, 0
    for first, (start, _, _, first_weight) in enumerate(units):
        while last < len(units) and weight <= limit:
            weight += units[last][3]
            last += 1
        if weight <= limit:
            return
        yield start, units[last - 1][1], tuple(unit[2] for unit in units[first:last])
        weight -= first_weight


def _normalized(text: str, *, fold: bool = True) -> str:
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return text.casefold() if fold else text


def _without_possessive(word: str) -> str:
    return word[:-2] if word.endswith(_POSSESSIVE) else word
