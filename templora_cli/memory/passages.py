"""Cut a growing text into passages of whole sentences, so that more text only changes the last one."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from templora_cli.memory.terms import word_starts

MIN_WORDS = 30
"""A passage ends at the first end of a paragraph after this number of words,"""
TARGET_WORDS = 45
"""or at the first end of a sentence after this one,"""
MAX_WORDS = 90
"""or at this one, in text without punctuation,"""
MAX_CHARACTERS = 1200
"""or at this number of characters, in text without words."""

_CLOSING = r"""["'”’»)\]」』】）*_]*"""
_END = re.compile(
    rf"(?P<paragraph>\n[^\S\n]*\n\s*)|[。！？…]+{_CLOSING}\s*|(?<![.!?…‥])[.!?…‥؟۔।॥]+{_CLOSING}\s+"
)
_ABBREVIATION = re.compile(r"\b[A-Z][a-z]{0,3}\.\s+\Z")
"""The end of "Mr. " and of initials. Where the last word of a sentence is as short, it ends no passage."""


@dataclass(frozen=True)
class Span:
    """A passage of a text: its characters from `start` to `end`."""

    start: int
    end: int
    read: int | None
    """Text beyond this offset does not change the passage; None if more text may make it longer."""


def spans(text: str, start: int = 0) -> Iterator[Span]:
    """The passages of `text` from `start`, the start of a passage. Joined they are the text."""
    while start < len(text):
        span = _span(text, start)
        yield span
        start = span.end


def _span(text: str, start: int) -> Span:
    """The passage that starts at `start`. Depends on nothing before it."""
    limit = min(start + MAX_CHARACTERS, len(text))
    starts = list(islice(word_starts(text, start, limit), MAX_WORDS + 1))
    cut = limit if limit < len(text) else None
    if len(starts) > MAX_WORDS:
        cut = starts[MAX_WORDS]
    last_end = start
    for match in _END.finditer(text, start, limit):
        end = match.end()
        words = bisect_left(starts, end)
        if end == limit or words > MAX_WORDS:
            break  # at the limit, more space or closing quotes may follow
        if "\n\n" in match.group() or match.lastgroup == "paragraph":
            if words >= MIN_WORDS:
                return Span(start, end, end + 1)
        elif _ABBREVIATION.search(text, max(start, end - 8), end) or text[end].islower():
            continue
        elif words >= TARGET_WORDS:
            return Span(start, end, end + 1)
        last_end = end
    if cut is None:
        return Span(start, len(text), None)
    return Span(start, last_end if last_end > start else cut, cut + 1)
