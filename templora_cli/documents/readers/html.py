"""HTML files, read as tolerantly as browsers read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from templora_cli.documents.document import Chapter, Found, Paragraph, chapter_starts, in_chapters
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import plain
from templora_cli.documents.markup import Splice, Token, attributes_of, spliced, tokens_of
from templora_cli.documents.readers.page import Page

_DECLARED = re.compile(rb"""<meta[^>]{0,200}?\bcharset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
_XML_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*\bencoding\s*=\s*["']([\w-]+)["']""")
_HEAD_BYTES = 4096
_SAID = re.compile(r"charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)


class HtmlDocument:
    """A .html file. A title that is the text of a heading takes that heading's translation."""

    def __init__(
        self, content: bytes, name: str, encoding: str | None = None, *, suffix: str = ".html"
    ) -> None:
        self.suffix = suffix
        self._content = content
        self._marked = content.startswith(b"\xef\xbb\xbf")
        text = decode(content, name, encoding or declared_encoding(content))
        self._page = Page(text, xml=text.lstrip()[:5] == "<?xml")
        headings: dict[str, int] = {}
        for index, block in enumerate(self._page.blocks):
            if block.kind == "heading":
                headings.setdefault(plain(block.inline.text), index)
        self._title_of = {
            index: headings[plain(block.inline.text)]
            for index, block in enumerate(self._page.blocks)
            if block.kind == "metadata" and plain(block.inline.text) in headings
        }
        self._own = [i for i in range(len(self._page.blocks)) if i not in self._title_of]

    @cached_property
    def _in_chapters(self) -> tuple[tuple[Paragraph, ...], tuple[Chapter, ...]]:
        blocks = [self._page.blocks[index] for index in self._own]
        found = [Found(block.inline.text, block.kind, block.level) for block in blocks]
        return in_chapters(found, chapter_starts(found))

    @property
    def paragraphs(self) -> tuple[Paragraph, ...]:
        """See `Document`."""
        return self._in_chapters[0]

    @property
    def chapters(self) -> tuple[Chapter, ...]:
        """See `Document`."""
        return self._in_chapters[1]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. The file comes out in UTF-8, and says so where it said another encoding."""
        of_blocks = {self._own[index]: text for index, text in translations.items()}
        for title, heading in self._title_of.items():
            if heading in of_blocks:
                of_blocks[title] = plain(of_blocks[heading])
        text = self._page.render(of_blocks, language, bilingual=bilingual)
        if text == self._page.text:
            return self._content
        return b"\xef\xbb\xbf" * self._marked + _saying_utf_8(text).encode("utf-8", "xmlcharrefreplace")


def declared_encoding(content: bytes) -> str | None:
    """The encoding that the page says it has, if Python knows it and no byte order mark overrules it."""
    head = content[:_HEAD_BYTES]
    match = _XML_DECLARED.match(head) or _DECLARED.search(head)
    if match is None or content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return None
    said = match[1].decode("ascii", "replace").lower()
    # what browsers take these for
    said = {"iso-8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}.get(
        said, said
    )
    try:
        content.decode(said)
    except (LookupError, ValueError):
        return None
    return said


def _saying_utf_8(text: str) -> str:
    """`text` with its declarations of an encoding changed to UTF-8."""
    splices = []
    for token in tokens_of(text[:_HEAD_BYTES]):
        raw = text[token.start : token.end]
        if token.name == "meta":
            splices += _charset_splices(raw, token)
        elif raw.startswith("<?xml") and (match := re.search(r"encoding\s*=\s*[\"']([\w-]+)", raw)):
            splices.append(Splice(token.start + match.start(1), token.start + match.end(1), "UTF-8"))
    return spliced(text, splices)


def _charset_splices(raw: str, token: Token) -> list[Splice]:
    """Of `<meta charset="...">` and `<meta content="text/html; charset=...">`."""
    at = token.start
    for found in attributes_of(raw):
        match = _SAID.search(raw, found.start, found.end) if found.name.lower() == "content" else None
        if found.name.lower() == "charset" and found.value.lower() != "utf-8":
            return [Splice(at + found.start, at + found.end, "utf-8")]
        if match is not None and match[1].lower() != "utf-8":
            return [Splice(at + match.start(1), at + match.end(1), "utf-8")]
    return []
