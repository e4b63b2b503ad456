"""A Word document as a manuscript: the body with all tracked changes accepted, without notes and comments."""

from __future__ import annotations

from collections.abc import Iterator

from templora_cli.documents.manuscript_blocks import (
    ManuscriptBlock,
    ManuscriptSource,
    counted,
    joined_title,
    tidy,
)
from templora_cli.documents.readers.docx_description import FALLBACK
from templora_cli.documents.readers.docx_fragments import Element, W
from templora_cli.documents.readers.docx_package import MAIN, DocxPackage, value_of
from templora_cli.documents.readers.manuscript_page import without_tables
from templora_cli.documents.readers.manuscript_text import scene_break_or_text

_DELETED = frozenset(f"{W}{name}" for name in ("del", "moveFrom", "rPr", "pPr", "sdtPr", "sdtEndPr"))
_CHARS = {f"{W}tab": "\t", f"{W}cr": "\n", f"{W}noBreakHyphen": "\u2011", f"{W}ptab": "\t"}
_NOTES = (f"{W}footnoteReference", f"{W}endnoteReference")
_OBJECTS = frozenset(f"{W}{name}" for name in ("p", "drawing", "pict", "object"))
_NO_TEXT = [f"{W}{name}" for name in ("drawing", "pict", "object", "fldChar", "del", "moveFrom")]
_OFF = ("0", "false", "off")


def read_docx_manuscript(content: bytes, name: str) -> ManuscriptSource:
    """The blocks of a Word document. Raises TemploraError as `DocxPackage` does."""
    package = DocxPackage(content, name)
    reader = _BodyReader(package)
    for kind in MAIN:
        for part in package.parts.get(kind, []):
            reader.read(package.parse_prose(part))
    return ManuscriptSource("", without_tables(reader.blocks), reader.left_out())


class _BodyReader:
    """Reads the paragraphs of the body, and counts what it leaves out."""

    def __init__(self, package: DocxPackage) -> None:
        self.blocks: list[ManuscriptBlock] = []
        self._package = package
        self._notes = self._comments = self._deletions = 0
        self._field_parts: list[str] = []
        """"code" or "result" for each field that is open, since one may go on over several paragraphs."""
        self._text_before: list[str] = []
        """Text of paragraphs whose mark was deleted: they go on in the next."""

    def left_out(self) -> list[str]:
        """The names of what was left out."""
        counts = (
            (self._notes, "note"),
            (self._comments, "comment"),
            (self._deletions, "tracked deletion"),
        )
        return [counted(count, name) for count, name in counts if count]

    def read(self, root: Element) -> None:
        """Add the paragraphs of a part."""
        self._notes += sum(1 for _ in root.iter(*_NOTES))
        self._comments += sum(1 for _ in root.iter(f"{W}commentReference"))
        self._deletions += sum(
            1 for e in root.iter(f"{W}del", f"{W}moveFrom") if e.find(f".//{W}r") is not None
        )
        for paragraph in root.iter(f"{W}p"):
            if next(paragraph.iterancestors(FALLBACK, f"{W}del", f"{W}moveFrom"), None) is None:
                self._add(paragraph)

    def _add(self, paragraph: Element) -> None:
        raw = "".join([*self._text_before, *self._pieces(paragraph)])
        marks = paragraph.find(f"{W}pPr/{W}rPr")
        if marks is not None and (
            marks.find(f"{W}del") is not None or marks.find(f"{W}moveFrom") is not None
        ):
            self._text_before = [raw]
            return
        self._text_before = []
        kind, level = self._package.kind_and_level(paragraph)
        for text in raw.split("\f"):
            self._add_text(tidy(text), kind, level, is_whole=text == raw, paragraph=paragraph)

    def _add_text(self, text: str, kind: str, level: int, *, is_whole: bool, paragraph: Element) -> None:
        matter = {"contents": "contents", "caption": "captions", "cell": "tables"}.get(kind, "")
        if _is_in_contents(paragraph):
            matter = "contents"
        elif {"author", "date", "subtitle"} & self._package.style_names(paragraph):
            matter = "title page"
        if not text:
            if is_whole and not _has_more_than_text(paragraph) and kind in ("text", "item"):
                self.blocks.append(ManuscriptBlock("", "blank"))
        elif kind == "heading" and not matter:
            self.blocks.append(ManuscriptBlock(joined_title(text.split("\n")), "heading", level))
        else:
            self.blocks.append(scene_break_or_text(text)._replace(matter=matter))

    def _pieces(self, parent: Element) -> Iterator[str]:
        """The text of the runs of a paragraph, "\\f" for a page break. Text boxes have their own."""
        for child in parent:
            if child.tag in _DELETED or not isinstance(child.tag, str):
                continue
            if child.tag == f"{W}fldChar":
                self._mark_field(child.get(f"{W}fldCharType"))
            elif child.tag == f"{W}r" and _is_hidden(child):
                continue
            elif child.tag == f"{W}t":
                yield (child.text or "") if "code" not in self._field_parts else ""
            elif child.tag == f"{W}br":
                yield "\n" if child.get(f"{W}type", "textWrapping") == "textWrapping" else "\f"
            elif child.tag in _CHARS:
                yield _CHARS[child.tag]
            elif child.tag not in _OBJECTS and not child.tag.endswith("}AlternateContent"):
                yield from self._pieces(child)

    def _mark_field(self, role: str | None) -> None:
        if role == "begin":
            self._field_parts.append("code")
        elif role == "separate" and self._field_parts:
            self._field_parts[-1] = "result"
        elif role == "end" and self._field_parts:
            self._field_parts.pop()


def _is_hidden(run: Element) -> bool:
    vanish = run.find(f"{W}rPr/{W}vanish")
    return vanish is not None and vanish.get(f"{W}val") not in _OFF


def _has_more_than_text(paragraph: Element) -> bool:
    """Whether a paragraph has a picture, a field or deleted text, so that it is not empty without words."""
    return next(paragraph.iter(*_NO_TEXT), None) is not None


def _is_in_contents(paragraph: Element) -> bool:
    """Whether a paragraph is in the block that Word builds as the table of contents."""
    for control in paragraph.iterancestors(f"{W}sdt"):
        gallery = value_of(control, f"sdtPr/{W}docPartObj/{W}docPartGallery") or ""
        if "Contents" in gallery:
            return True
    return False
