"""An HTML or XHTML page as the blocks of a manuscript.

The blocks are those of a translation (`page.py`), but with scene breaks and empty paragraphs, and without
marks of notes, the notes, comments, deleted text and navigation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import unescape

from templora_cli.documents.encoding import decode
from templora_cli.documents.front_matter import matter_of_type
from templora_cli.documents.manuscript_blocks import (
    SCENE_BREAK,
    ManuscriptBlock,
    ManuscriptSource,
    counted,
    joined_title,
    tidy,
)
from templora_cli.documents.markup import Token, attribute_value, element_names, tokens_of
from templora_cli.documents.readers.html import declared_encoding
from templora_cli.documents.readers.manuscript_text import scene_break_or_text
from templora_cli.documents.readers.note_marks import Mark, mark_of
from templora_cli.documents.readers.page_tokens import (
    ELEMENT_KINDS,
    NO_PROSE,
    block_boundaries,
    join_opaque,
    partners_of,
)

_LEFT_OUT = (NO_PROSE - element_names("code pre xmp")) | element_names("del head")
_NOTE_CLASS = re.compile(
    r"\b(?:mso(?:foot|end)note\w*|(?:foot|end|rear)notes?|msocomtxt|msocomment\w*)\b", re.IGNORECASE
)
_NOTE_TYPE = re.compile(r"\b(?:doc-)?(?:foot|end|rear)note\b")
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all|visibility\s*:\s*hidden", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\n\r\f]+")
_NOTE_HOLDERS = element_names("div li aside dd")
"""Elements that hold one note: all of their paragraphs belong to it."""
_MIN_PROSE_SHARE = 0.5


@dataclass
class _Region:
    """An open element, and what it and those around it say about the blocks inside."""

    end: int
    """The index of its closing tag."""
    name: str
    kinds: frozenset[str]
    level: int
    matter: str
    has_blocks: bool = False


_OUTSIDE = _Region(-1, "", frozenset(), 0, "")


@dataclass
class PageContent:
    """The blocks of a page."""

    matter: str = ""
    """The front or back matter that the whole page is; "" for prose."""
    blocks: list[ManuscriptBlock] = field(default_factory=list)
    ids: list[list[str]] = field(default_factory=list)
    """The anchors of each block, to which the entries of a table of contents lead."""
    notes: int = 0
    comments: int = 0

    @property
    def counts(self) -> list[str]:
        """The notes and comments that were left out, for people."""
        counts = {"note": self.notes, "comment": self.comments}
        return [counted(count, name) for name, count in counts.items() if count]


def read_html_manuscript(content: bytes, name: str, encoding: str | None = None) -> ManuscriptSource:
    """The blocks of an HTML file. Raises TemploraError as `decode` does."""
    page = page_content(decode(content, name, encoding or declared_encoding(content)))
    headings = [block.level for block in page.blocks if block.kind == "heading"]
    # "title" is the class of a title in exports of Google Docs, and of many headings elsewhere.
    blocks = page.blocks if headings[:1] == [0] and headings.count(0) == 1 else without_titles(page.blocks)
    return ManuscriptSource("", without_tables(blocks), page.counts)


def page_content(text: str) -> PageContent:
    """The blocks of a page, and what it says about itself."""
    return _PageReader(text).content


def without_titles(blocks: Sequence[ManuscriptBlock]) -> list[ManuscriptBlock]:
    """`blocks` with paragraphs of the class "title" as text."""
    return [
        block._replace(kind="text") if block.kind == "heading" and not block.level else block
        for block in blocks
    ]


def without_tables(blocks: Sequence[ManuscriptBlock]) -> list[ManuscriptBlock]:
    """`blocks` with cells as matter, unless most of the text is in cells, as on pages laid out so."""
    in_cells = sum(len(block.text) for block in blocks if block.matter == "tables")
    outside = sum(len(block.text) for block in blocks if not block.matter)
    if in_cells <= _MIN_PROSE_SHARE * (in_cells + outside):
        return list(blocks)
    return [block._replace(matter="") if block.matter == "tables" else block for block in blocks]


class _PageReader:
    """Reads the tokens of a page from the first to the last."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._marks: dict[int, Mark] = {}
        """The marks of notes by the offset at which they begin."""
        self._tokens = join_opaque(text, tokens_of(text), self._is_left_out)
        self._partners = partners_of(self._tokens)
        self._regions: list[_Region] = []
        self._pending_ids: list[str] = []
        self.content = PageContent()
        self._read()

    def _is_left_out(self, text: str, tokens: list[Token], first: int, last: int) -> bool:
        token = tokens[first]
        if token.name in _LEFT_OUT:
            return True
        mark = mark_of(text, tokens, first, last)
        if mark is not None:
            self._marks[token.start] = mark
            return True
        tag = text[token.start : token.end]
        return "style" in tag and _HIDDEN.search(tag) is not None

    def _read(self) -> None:
        ends = block_boundaries(self._text, self._tokens, self._partners)
        first = 0
        for index, is_end in enumerate([*ends, True]):
            if not is_end:
                continue
            self._add_block(range(first, index))
            while self._regions and self._regions[-1].end <= index:
                self._regions.pop()
            if index < len(self._tokens) and self._tokens[index].kind != "close":
                self._open(index)
            first = index + 1

    def _open(self, index: int) -> None:
        """Note what the tag at a boundary says about the blocks after it."""
        token = self._tokens[index]
        tag = self._raw(token)
        self._pending_ids += _ids(tag)
        if token.name == "hr":
            self._add(ManuscriptBlock(SCENE_BREAK, "break"))
        elif index in self._partners:
            around = self._region
            kind = "pre" if token.name in ("pre", "xmp") else ELEMENT_KINDS.get(token.name)
            level = int(token.name[1]) if kind == "heading" else around.level
            if "title" in _classes(token, tag):
                kind, level = "heading", 0
            matter = around.matter or _matter_of_tag(token, tag)
            kinds = around.kinds | {kind} if kind else around.kinds
            self._regions.append(_Region(self._partners[index], token.name, kinds, level, matter))
            if token.name == "body":
                self.content.matter = matter

    @property
    def _region(self) -> _Region:
        return self._regions[-1] if self._regions else _OUTSIDE

    def _add_block(self, span: range) -> None:
        """Add the block of the tokens in `span`, unless it has neither words nor an empty paragraph."""
        pieces: list[str] = []
        mark: Mark | None = None
        is_pre = "pre" in self._region.kinds
        for index in span:
            token = self._tokens[index]
            raw = self._raw(token)
            if token.kind == "text":
                pieces.append(unescape(raw) if is_pre else _BLANKS.sub(" ", unescape(raw)))
            elif token.kind == "cdata":
                pieces.append(raw[9:].removesuffix("]]>"))
            elif token.name == "br":
                pieces.append("\n")
            elif token.kind in ("open", "empty"):
                self._pending_ids += _ids(raw)
                is_first = not "".join(pieces).strip()
                if token.start in self._marks and (is_first or "↩" in raw or "&#8617;" in raw):
                    mark = self._marks[token.start]
        text = tidy("".join(pieces))
        if text:
            self._add_text(text, mark)
        elif self._is_empty_paragraph(span):
            self._add(ManuscriptBlock("", "blank"))

    def _is_empty_paragraph(self, span: range) -> bool:
        """Whether a block without words fills a paragraph (`<p>&nbsp;</p>`), and has no picture or note."""
        if self._region.end != span.stop or span.start < 1:
            return False
        before = self._tokens[span.start - 1]
        has_other = any(self._tokens[i].kind == "empty" and self._tokens[i].name != "br" for i in span)
        return before.name == "p" and before.kind == "open" and not has_other

    def _add_text(self, text: str, mark: Mark | None) -> None:
        """Add a block with words; `mark` is that of a note which begins with it."""
        block = scene_break_or_text(text)
        kinds, matter = self._region.kinds, self._region.matter
        if "metadata" in kinds:
            return
        if "heading" in kinds:
            block = ManuscriptBlock(joined_title(text.split("\n")), "heading", self._region.level)
        elif mark is not None and not matter:
            matter = f"{mark}s"
            holder = self._regions[-2] if len(self._regions) > 1 else _OUTSIDE
            if holder.name in _NOTE_HOLDERS and not holder.has_blocks:
                holder.matter = matter
            self.content.notes += mark == "note"
            self.content.comments += mark == "comment"
        if not matter:
            matter = "captions" if "caption" in kinds else "tables" if "cell" in kinds else ""
        self._add(block._replace(matter=matter))

    def _add(self, block: ManuscriptBlock) -> None:
        for region in reversed(self._regions):
            if region.has_blocks:
                break
            region.has_blocks = True
        self.content.blocks.append(block)
        self.content.ids.append(self._pending_ids)
        self._pending_ids = []

    def _raw(self, token: Token) -> str:
        return self._text[token.start : token.end]


def _classes(token: Token, tag: str) -> list[str]:
    """The classes of a paragraph or a heading of level 1."""
    return (
        (attribute_value(tag, "class") or "").split() if token.name in ("p", "h1") and "class" in tag else []
    )


def _matter_of_tag(token: Token, tag: str) -> str:
    """The front or back matter, or the notes, that an element with this tag holds; "" for prose."""
    if token.name == "nav":
        return "contents"
    if "=" not in tag:
        return ""
    if token.name == "p" and {"author", "date", "subtitle"} & set(_classes(token, tag)):
        return "title page"
    types = " ".join(filter(None, (attribute_value(tag, "type"), attribute_value(tag, "role"))))
    classes = attribute_value(tag, "class") or ""
    match = _NOTE_TYPE.search(types) or _NOTE_CLASS.search(classes)
    if match is not None and not tag.startswith("<body"):
        return "comments" if "com" in match[0].lower() else "notes"
    return matter_of_type(types)


def _ids(tag: str) -> list[str]:
    """The anchors of a tag."""
    if " id" not in tag and " name" not in tag:
        return []
    return [value for name in ("id", "name") if (value := attribute_value(tag, name))]
