"""Plain text files: which lines are a paragraph, and which paragraphs are headings.

Most texts have a paragraph a line. Others (Project Gutenberg, old mail) break lines at a width and part
paragraphs with a blank line. A text is taken for one of these if, of the lines that another line follows
directly, six in ten or more are full (the next word would not have fitted into the width of the text) and at
most half end a sentence. In such a text a block of lines is a paragraph if most of its lines but the last are
full, and else (verse, lists) each of its lines is one; an indented line begins a paragraph.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from templora_cli.documents.document import Found, chapter_starts, in_chapters
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import TAG, has_words, one_line
from templora_cli.documents.markup import Splice, spliced
from templora_cli.documents.readers.headings import is_chapter_heading

_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|$)")
_SENTENCE_END = re.compile(r"[.!?:;…。！？：；][\"'”’»」』）)\]*_]*$")
_MIN_WIDTH, _MAX_WIDTH = 36, 120
"""Widths at which people have lines broken, in columns."""
_MIN_PAIRS = 3
"""Lines that another follows directly: fewer say nothing about a width."""


class _Line(NamedTuple):
    start: int
    end: int
    """Without the line end."""
    text: str


class _TextSpan(NamedTuple):
    """A paragraph: where its words begin and end, and the words on one line."""

    start: int
    end: int
    text: str
    alone: bool
    """Whether blank lines part it from others."""


class TextDocument:
    """A .txt file: no markup, so what looks like a tag is text."""

    suffix = ".txt"

    def __init__(self, content: bytes, name: str, encoding: str | None = None) -> None:
        self._content = content
        self._text = decode(content, name, encoding)
        self._marked = content.startswith(b"\xef\xbb\xbf")
        blocks = list(_blocks(_lines(self._text)))
        width = _width(blocks)
        spans = (span for block in blocks for span in _spans(block, width))
        self._spans = [span for span in spans if has_words(span.text)]
        found = [
            Found(span.text, "heading", 1) if is_chapter_heading(span.text) else Found(span.text, "text")
            for span in self._spans
        ]
        self.paragraphs, self.chapters = in_chapters(found, chapter_starts(found))

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Each translation is one line; the file comes out in UTF-8."""
        splices = []
        for index, translation in translations.items():
            span = self._spans[index]
            words = _fitting(one_line(translation), span.text)
            if not words:
                continue
            if bilingual:
                splices.append(Splice(span.end, span.end, self._apart(span) + words))
            else:
                splices.append(Splice(span.start, span.end, words))
        if not splices:
            return self._content
        return b"\xef\xbb\xbf" * self._marked + spliced(self._text, splices).encode("utf-8")

    def _apart(self, span: _TextSpan) -> str:
        """What parts a translation from its source here: line ends, and the indent of the source."""
        line_start = max(self._text.rfind("\n", 0, span.start), self._text.rfind("\r", 0, span.start)) + 1
        found = re.search(r"\r\n|\r|\n", self._text)
        return (found[0] if found else "\n") * (2 if span.alone else 1) + self._text[line_start : span.start]


def _fitting(translation: str, source: str) -> str:
    """`translation` without tags that a model made up: the source had none but those that are text."""
    if not TAG.search(source):
        translation = TAG.sub("", translation)
    return re.sub(" +", " ", translation).strip()


def _lines(text: str) -> Iterator[_Line]:
    for match in _LINE.finditer(text):
        if match.end() > match.start():
            yield _Line(match.start(1), match.end(1), match[1])


def _blocks(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Runs of lines without a blank one between."""
    block: list[_Line] = []
    for line in lines:
        if line.text.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _width(blocks: list[list[_Line]]) -> int | None:
    """The columns at which lines are broken; None if a line is a paragraph."""
    pairs = [pair for block in blocks for pair in pairwise(block)]
    if len(pairs) < _MIN_PAIRS:
        return None
    widths = sorted(_columns(line.text) for line, _ in pairs)
    width = widths[int(len(widths) * 0.9)]
    if not _MIN_WIDTH <= width <= _MAX_WIDTH:
        return None
    full = sum(_is_full(line, after, width) for line, after in pairs)
    sentences = sum(bool(_SENTENCE_END.search(line.text.rstrip())) for line, _ in pairs)
    if full < 0.6 * len(pairs) or sentences > 0.5 * len(pairs):
        return None
    return widths[len(widths) // 2]  # widths vary in a text; lines that are paragraphs are much shorter


def _is_full(line: _Line, after: _Line, width: int) -> bool:
    """Whether the first word of the next line would not have fitted behind `line`."""
    word = after.text.split(None, 1)[0]
    if _is_wide(word[0]):  # no blanks between words; and some signs must not begin a line
        return _columns(line.text) + 4 > width - 2
    return _columns(line.text.rstrip()) + 1 + _columns(word) > width


def _columns(text: str) -> int:
    return sum(1 + _is_wide(char) for char in text) if not text.isascii() else len(text)


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def _spans(block: list[_Line], width: int | None) -> list[_TextSpan]:
    """The paragraphs of a block of lines."""
    pairs = list(pairwise(block))
    full = [width is not None and _is_full(line, after, width) for line, after in pairs]
    joins = bool(pairs) and sum(full) * 2 >= len(pairs)
    paragraphs = [[block[0]]]
    for line, after in pairs:
        if joins and _indent(after) <= _indent(line):
            paragraphs[-1].append(after)
        else:
            paragraphs.append([after])
    return [_span(paragraph, alone=len(paragraphs) == 1) for paragraph in paragraphs]


def _indent(line: _Line) -> int:
    return len(line.text) - len(line.text.lstrip())


def _span(lines: list[_Line], *, alone: bool) -> _TextSpan:
    text = " ".join(lines[0].text.split())
    for line in lines[1:]:
        words = " ".join(line.text.split())
        hyphen = text.endswith("-") and not text.endswith(" -")
        text += words if hyphen or (_is_wide(text[-1]) and _is_wide(words[0])) else f" {words}"
    start = lines[0].start + _indent(lines[0])
    end = lines[-1].start + len(lines[-1].text.rstrip())
    return _TextSpan(start, end, text, alone)
