"""Plain text files: paragraphs and headings for a translation."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping

from templora_cli.documents.document import ReadParagraph, chapter_starts, split_into_chapters
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import TAG, has_words, one_line
from templora_cli.documents.markup import Splice, apply_splices
from templora_cli.documents.readers.headings import is_chapter_heading
from templora_cli.documents.readers.line_wrapping import (
    LineSpan,
    line_blocks,
    lines_of,
    paragraph_spans,
    wrapped_width,
)


class TextDocument:
    """A .txt file. It has no markup: tags in it are text."""

    suffix = ".txt"

    def __init__(self, content: bytes, name: str, encoding: str | None = None) -> None:
        self._content = content
        self._text = decode(content, name, encoding)
        self._byte_order_mark = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
        blocks = list(line_blocks(lines_of(self._text)))
        width = wrapped_width(blocks)
        spans = (span for block in blocks for span in paragraph_spans(block, width))
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

    def _separator(self, span: LineSpan) -> str:
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
