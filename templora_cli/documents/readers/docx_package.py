"""A Word file as a package: its parts, their XML, and the styles that say what a paragraph is."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from lxml import etree

from templora_cli.documents.document import Kind
from templora_cli.documents.readers.archive import Archive
from templora_cli.documents.readers.docx_fragments import Element, W
from templora_cli.errors import TemploraError

_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
CORE = "core-properties+xml"
MAIN = ("document.main+xml", "template.main+xml")
PROSE = (*MAIN, ".footnotes+xml", ".endnotes+xml", ".header+xml", ".footer+xml")
_RESAVE_HINT = "open it in Word or LibreOffice and save it again as .docx"


class _Style(NamedTuple):
    name: str
    parent: str | None
    level: int | None
    is_item: bool


class DocxPackage:
    """The parts of a .docx file."""

    def __init__(self, content: bytes, name: str) -> None:
        """Raises TemploraError: not a Word document, damaged, protected, or over the limits of archives."""
        self.name = name
        self.archive = Archive(content, name)
        self.parts = self._content_types()
        self._styles = self._read_styles()

    def _content_types(self) -> dict[str, list[str]]:
        """The names of the parts by the suffix of their content type."""
        if "[Content_Types].xml" not in self.archive:
            raise TemploraError(
                f"{self.name} is not a Word document", "rename the file to the suffix of its real format"
            )
        parts: dict[str, list[str]] = defaultdict(list)
        for override in self.parse("[Content_Types].xml").iter(f"{_TYPES}Override"):
            part = (override.get("PartName") or "").lstrip("/")
            for suffix in (*PROSE, ".styles+xml", CORE):
                if (override.get("ContentType") or "").endswith(suffix) and part in self.archive:
                    parts[suffix].append(part)
        if not any(parts.get(main) for main in MAIN):
            raise TemploraError(
                f"{self.name} is not a Word document", "rename the file to the suffix of its real format"
            )
        return parts

    def parse(self, part: str) -> Element:
        """The root of a part, which must exist. Raises TemploraError if it is damaged."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            root = etree.fromstring(self.archive.read(part), parser)
        except etree.XMLSyntaxError as error:
            raise TemploraError(f"{self.name}, {part}, is damaged: {error.msg}", _RESAVE_HINT) from None
        if root.getroottree().docinfo.internalDTD is not None:  # Office programs never write one
            raise TemploraError(f"{self.name}, {part}, contains a document type declaration", _RESAVE_HINT)
        return root

    def parse_prose(self, part: str) -> Element:
        """As `parse`, for one of the kinds in `PROSE`. Raises TemploraError too if it is Strict Open XML."""
        root = self.parse(part)
        if not str(root.tag).startswith(W):
            raise TemploraError(
                f"{self.name} is in the Strict Open XML format, which is not supported",
                "save it in Word as “Word Document (.docx)”",
            )
        return root

    def _read_styles(self) -> dict[str, _Style]:
        styles: dict[str, _Style] = {}
        for part in self.parts.get(".styles+xml", [])[:1]:
            for style in self.parse(part).iter(f"{W}style"):
                name = value_of(style, "name") or ""
                outline = style.find(f"{W}pPr/{W}outlineLvl")
                level = None if outline is None else _number(outline.get(f"{W}val"))
                is_item = style.find(f"{W}pPr/{W}numPr") is not None
                key = style.get(f"{W}styleId") or ""
                styles[key] = _Style(name.lower(), value_of(style, "basedOn"), level, is_item)
        return styles

    def kind_and_level(self, paragraph: Element) -> tuple[Kind, int]:
        """The kind of a paragraph by its style and position, and the level of a heading."""
        properties = paragraph.find(f"{W}pPr")
        chain = self._style_chain(value_of(properties, "pStyle"))
        names = {style.name for style in chain}
        if any(re.fullmatch(r"toc (\d|heading)|contents \d", name) for name in names):
            return "contents", 0
        levels = [
            _number(value_of(properties, "outlineLvl")),
            *(style.level for style in chain),
            *map(_heading_number, (s.name for s in chain)),
        ]
        level = next((level for level in levels if level is not None), None)
        if level is not None and level < 9:
            return "heading", level + 1
        if "title" in names:
            return "heading", 0
        if any(name.endswith("caption") for name in names):
            return "caption", 0
        if value_of(properties, "numPr/" + W + "numId") not in (None, "0") or any(
            style.is_item for style in chain
        ):
            return "item", 0
        return ("cell" if next(paragraph.iterancestors(f"{W}tc"), None) is not None else "text"), 0

    def style_names(self, paragraph: Element) -> set[str]:
        """The names of the style of a paragraph and of those that it is based on, in lower case."""
        return {style.name for style in self._style_chain(value_of(paragraph.find(f"{W}pPr"), "pStyle"))}

    def _style_chain(self, key: str | None) -> list[_Style]:
        """A style and the styles that it is based on, nearest first."""
        chain: list[_Style] = []
        while key in self._styles and len(chain) < 20:
            chain.append(self._styles[key])
            key = chain[-1].parent
        return chain


def value_of(parent: Element | None, path: str) -> str | None:
    """The `w:val` of the element at `path` below `parent`; None without one."""
    element = None if parent is None else parent.find(f"{W}{path}")
    return None if element is None else element.get(f"{W}val")


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _heading_number(style: str) -> int | None:
    match = re.fullmatch(r"heading ([1-9])", style)
    return int(match[1]) - 1 if match else None
