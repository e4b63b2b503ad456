"""Plain text files: joins lines to paragraphs, and finds headings.

Most texts have one paragraph per line. Others (Project Gutenberg, old mail) wrap lines at a width and put a
blank line between paragraphs. A text counts as wrapped if, among lines directly followed by another line, at
least 60% are full (the next word would not have fitted into the width of the text) and at most 50% end a
sentence. In a wrapped text, a block of lines is one paragraph if at least half of its lines except the last
are full; otherwise (verse, lists) each line is one. An indented line begins a paragraph.
"""

from __future__ import annotations

import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from templora_cli.documents.document import ReadParagraph, chapter_starts, split_into_chapters
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import TAG, has_words, one_line
from templora_cli.documents.markup import Splice, apply_splices
from templora_cli.documents.readers.headings import is_chapter_heading

_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|$)")
_SENTENCE_END = re.compile(r"[.!?:;…。！？：；][\"'”’»」』）)\]*_]*$")
_MIN_WIDTH, _MAX_WIDTH = 36, 120
"""Plausible widths of wrapped lines, in columns."""
_MIN_PAIRS = 3
"""Lines directly followed by another line: with fewer, no width can be found."""


class _Line(NamedTuple):
    start: int
    end: int
    """Before the line end."""
    text: str


class _TextSpan(NamedTuple):
    """A paragraph: the offsets of its text, and the text on one line."""

    start: int
    end: int
    text: str
    is_isolated: bool
    """Whether it is the only paragraph in its block of lines."""


class TextDocument:
    """A .txt file. It has no markup: tags in it are text."""

    suffix = ".txt"

    def __init__(self, content: bytes, name: str, encoding: str | None = None) -> None:
        self._content = content
        self._text = decode(content, name, encoding)
        self._byte_order_mark = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
        blocks = list(_blocks(_lines(self._text)))
        width = _line_width(blocks)
        spans = (span for block in blocks for span in _spans(block, width))
        self._spans = [span for span in spans if has_words(span.text)]
        paragraphs = [
            ReadParagraph(span.text, "heading", 1)
            if is_chapter_heading(span.text)
            else ReadParagraph(span.text, "text")
            for span in self._spans
        ]
        self.paragraphs, self.chapters = split_into_chapters(paragraphs, chapter_starts(paragraphs))

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Each translation is one line; the file is written as UTF-8."""
        splices = []
        for index, translation in translations.items():
            span = self._spans[index]
            words = _drop_invented_tags(one_line(translation), span.text)
            if not words:
                continue
            if bilingual:
                splices.append(Splice(span.end, span.end, self._separator(span) + words))
            else:
                splices.append(Splice(span.start, span.end, words))
        if not splices:
            return self._content
        return self._byte_order_mark + apply_splices(self._text, splices).encode("utf-8")

    def _separator(self, span: _TextSpan) -> str:
        """Line ends and the indent of the source, for a translation after its source."""
        line_start = max(self._text.rfind("\n", 0, span.start), self._text.rfind("\r", 0, span.start)) + 1
        match = re.search(r"\r\n|\r|\n", self._text)
        line_ends = (match[0] if match else "\n") * (2 if span.is_isolated else 1)
        return line_ends + self._text[line_start : span.start]


def _drop_invented_tags(translation: str, source: str) -> str:
    """`translation` without the tags that a model invented; if the source contains tags as text, all stay."""
    if not TAG.search(source):
        translation = TAG.sub("", translation)
    return re.sub(" +", " ", translation).strip()


def _lines(text: str) -> Iterator[_Line]:
    for match in _LINE.finditer(text):
        if match.end() > match.start():
            yield _Line(match.start(1), match.end(1), match[1])


def _blocks(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Groups of lines without a blank line between them."""
    block: list[_Line] = []
    for line in lines:
        if line.text.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _line_width(blocks: list[list[_Line]]) -> int | None:
    """The width of wrapped lines, in columns; None if each line is a paragraph."""
    pairs = [pair for block in blocks for pair in pairwise(block)]
    if len(pairs) < _MIN_PAIRS:
        return None
    widths = sorted(_columns(line.text) for line, _ in pairs)
    width = widths[int(len(widths) * 0.9)]
    if not _MIN_WIDTH <= width <= _MAX_WIDTH:
        return None
    full = sum(_is_full(line, next_line, width) for line, next_line in pairs)
    sentences = sum(bool(_SENTENCE_END.search(line.text.rstrip())) for line, _ in pairs)
    if full < 0.6 * len(pairs) or sentences > 0.5 * len(pairs):
        return None
    return widths[len(widths) // 2]  # widths vary in a text; lines that are paragraphs are much shorter


def _is_full(line: _Line, next_line: _Line, width: int) -> bool:
    """Whether the first word of the next line would not have fitted at the end of `line`."""
    word = next_line.text.split(None, 1)[0]
    if _is_wide(word[0]):  # no blanks between words, and some punctuation must not begin a line
        return _columns(line.text) + 4 > width - 2
    return _columns(line.text.rstrip()) + 1 + _columns(word) > width


def _columns(text: str) -> int:
    return sum(1 + _is_wide(char) for char in text) if not text.isascii() else len(text)


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def _spans(block: list[_Line], width: int | None) -> list[_TextSpan]:
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


def _indent(line: _Line) -> int:
    return len(line.text) - len(line.text.lstrip())


def _span(lines: list[_Line], *, is_isolated: bool) -> _TextSpan:
    text = " ".join(lines[0].text.split())
    for line in lines[1:]:
        words = " ".join(line.text.split())
        hyphen = text.endswith("-") and not text.endswith(" -")
        text += words if hyphen or (_is_wide(text[-1]) and _is_wide(words[0])) else f" {words}"
    start = lines[0].start + _indent(lines[0])
    end = lines[-1].start + len(lines[-1].text.rstrip())
    return _TextSpan(start, end, text, is_isolated)
