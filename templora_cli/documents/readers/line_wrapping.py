"""Joins the lines of a plain text to paragraphs.

Most texts have one paragraph per line. Others (Project Gutenberg, old mail) wrap lines at a width and put a
blank line between paragraphs. A text counts as wrapped if, among lines directly followed by another line, at
least 60% are full (the next word would not have fitted into the width of the text) and at most 50% end a
sentence. In a wrapped text, a block of lines is one paragraph if at least half of its lines except the last
are full; otherwise (verse, lists) each line is one. An indented line begins a paragraph.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|$)")
_SENTENCE_END = re.compile(r"[.!?:;…。！？：；][\"'”’»」』）)\]*_]*$")
_MIN_WIDTH, _MAX_WIDTH = 36, 120
"""Plausible widths of wrapped lines, in columns."""
_MIN_PAIRS = 3
"""Lines directly followed by another line: with fewer, no width can be found."""


class Line(NamedTuple):
    """A line and the offsets of its text."""

    start: int
    end: int
    """Before the line end."""
    text: str


class LineSpan(NamedTuple):
    """A paragraph: the offsets of its text, and the text on one line."""

    start: int
    end: int
    text: str
    is_isolated: bool
    """Whether it is the only paragraph in its block of lines."""


def lines_of(text: str) -> Iterator[Line]:
    """The lines of a text."""
    for match in _LINE.finditer(text):
        if match.end() > match.start():
            yield Line(match.start(1), match.end(1), match[1])


def line_blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Groups of lines without a blank line between them."""
    block: list[Line] = []
    for line in lines:
        if line.text.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def may_end_paragraph(line: str) -> bool:
    """Whether a line ends with a mark that can end a paragraph."""
    return _SENTENCE_END.search(line.rstrip()) is not None


def wrapped_width(blocks: list[list[Line]]) -> int | None:
    """The width of wrapped lines, in columns; None if each line is a paragraph."""
    pairs = [pair for block in blocks for pair in pairwise(block)]
    if len(pairs) < _MIN_PAIRS:
        return None
    widths = sorted(_columns(line.text) for line, _ in pairs)
    width = widths[int(len(widths) * 0.9)]
    if not _MIN_WIDTH <= width <= _MAX_WIDTH:
        return None
    full = sum(_is_full(line, next_line, width) for line, next_line in pairs)
    sentences = sum(may_end_paragraph(line.text) for line, _ in pairs)
    if full < 0.6 * len(pairs) or sentences > 0.5 * len(pairs):
        return None
    return widths[len(widths) // 2]  # widths vary in a text; lines that are paragraphs are much shorter


def _is_full(line: Line, next_line: Line, width: int) -> bool:
    """Whether the first word of the next line would not have fitted at the end of `line`."""
    word = next_line.text.split(None, 1)[0]
    if _is_wide(word[0]):  # no blanks between words, and some punctuation must not begin a line
        return _columns(line.text) + 4 > width - 2
    return _columns(line.text.rstrip()) + 1 + _columns(word) > width


def _columns(text: str) -> int:
    return sum(1 + _is_wide(char) for char in text) if not text.isascii() else len(text)


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def paragraph_spans(block: list[Line], width: int | None) -> list[LineSpan]:
    """The paragraphs of a block of lines."""
    pairs = list(pairwise(block))
    full = [width is not None and _is_full(line, next_line, width) for line, next_line in pairs]
    joins = bool(pairs) and sum(full) * 2 >= len(pairs)
    paragraphs = [[block[0]]]
    for line, next_line in pairs:
        if joins and _indent(next_line) <= _indent(line):
            paragraphs[-1].append(next_line)
        else:
            paragraphs.append([next_line])
    return [_span(paragraph, is_isolated=len(paragraphs) == 1) for paragraph in paragraphs]


def _indent(line: Line) -> int:
    return len(line.text) - len(line.text.lstrip())


def _span(lines: list[Line], *, is_isolated: bool) -> LineSpan:
    text = " ".join(lines[0].text.split())
    for line in lines[1:]:
        words = " ".join(line.text.split())
        hyphen = text.endswith("-") and not text.endswith(" -")
        text += words if hyphen or (_is_wide(text[-1]) and _is_wide(words[0])) else f" {words}"
    start = lines[0].start + _indent(lines[0])
    end = lines[-1].start + len(lines[-1].text.rstrip())
    return LineSpan(start, end, text, is_isolated)
