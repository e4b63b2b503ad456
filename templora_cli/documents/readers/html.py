"""HTML files, read as tolerantly as browsers do."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from functools import cached_property

from templora_cli.documents.document import (
    Chapter,
    Paragraph,
    ReadParagraph,
    chapter_starts,
    split_into_chapters,
)
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import strip_tags
from templora_cli.documents.markup import Splice, Token, apply_splices, attributes_of, tokens_of
from templora_cli.documents.readers.page import Page

_DECLARED = re.compile(rb"""<meta[^>]{0,200}?\bcharset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
_XML_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*\bencoding\s*=\s*["']([\w-]+)["']""")
_HEAD_BYTES = 4096
_SUPERSETS = {"iso-8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
"""The encodings that browsers use for these labels."""
_CONTENT_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)


class HtmlDocument:
    """A .html file. A title that repeats a heading gets the translation of that heading."""

    def __init__(
        self, content: bytes, name: str, encoding: str | None = None, *, suffix: str = ".html"
    ) -> None:
        self.suffix = suffix
        self._content = content
        self._byte_order_mark = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
        text = decode(content, name, encoding or declared_encoding(content))
        self._page = Page(text, xml=text.lstrip()[:5] == "<?xml")
        headings: dict[str, int] = {}
        for index, block in enumerate(self._page.blocks):
            if block.kind == "heading":
                headings.setdefault(strip_tags(block.inline.text), index)
        self._heading_of_title = {
            index: headings[strip_tags(block.inline.text)]
            for index, block in enumerate(self._page.blocks)
            if block.kind == "metadata" and strip_tags(block.inline.text) in headings
        }
        self._paragraph_blocks = [i for i in range(len(self._page.blocks)) if i not in self._heading_of_title]

    @cached_property
    def _split(self) -> tuple[tuple[Paragraph, ...], tuple[Chapter, ...]]:
        blocks = [self._page.blocks[index] for index in self._paragraph_blocks]
        paragraphs = [ReadParagraph(block.inline.text, block.kind, block.level) for block in blocks]
        return split_into_chapters(paragraphs, chapter_starts(paragraphs))

    @property
    def paragraphs(self) -> tuple[Paragraph, ...]:
        """See `Document`."""
        return self._split[0]

    @property
    def chapters(self) -> tuple[Chapter, ...]:
        """See `Document`."""
        return self._split[1]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. The file is written as UTF-8, and a declaration of another encoding is changed."""
        by_block = {self._paragraph_blocks[index]: text for index, text in translations.items()}
        for title, heading in self._heading_of_title.items():
            if heading in by_block:
                by_block[title] = strip_tags(by_block[heading])
        text = self._page.render(by_block, language, bilingual=bilingual)
        if text == self._page.text:
            return self._content
        return self._byte_order_mark + _declare_utf_8(text).encode("utf-8", "xmlcharrefreplace")


def declared_encoding(content: bytes) -> str | None:
    """The encoding that the page declares; None if it is wrong or there is a byte order mark."""
    head = content[:_HEAD_BYTES]
    match = _XML_DECLARED.match(head) or _DECLARED.search(head)
    if match is None or content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return None
    declared = match[1].decode("ascii", "replace").lower()
    declared = _SUPERSETS.get(declared, declared)
    try:
        content.decode(declared)
    except (LookupError, ValueError):
        return None
    return declared


def _declare_utf_8(text: str) -> str:
    """`text` with its encoding declarations changed to UTF-8."""
    splices = []
    for token in tokens_of(text[:_HEAD_BYTES]):
        raw = text[token.start : token.end]
        if token.name == "meta":
            splices += _charset_splices(raw, token)
        elif raw.startswith("<?xml") and (match := re.search(r"encoding\s*=\s*[\"']([\w-]+)", raw)):
            splices.append(Splice(token.start + match.start(1), token.start + match.end(1), "UTF-8"))
    return apply_splices(text, splices)


def _charset_splices(raw: str, token: Token) -> list[Splice]:
    """For `<meta charset="...">` and `<meta content="text/html; charset=...">`."""
    offset = token.start
    for attribute in attributes_of(raw):
        name, start, end = attribute.name.lower(), attribute.start, attribute.end
        match = _CONTENT_CHARSET.search(raw, start, end) if name == "content" else None
        if name == "charset" and attribute.value.lower() != "utf-8":
            return [Splice(offset + start, offset + end, "utf-8")]
        if match is not None and match[1].lower() != "utf-8":
            return [Splice(offset + match.start(1), offset + match.end(1), "utf-8")]
    return []
