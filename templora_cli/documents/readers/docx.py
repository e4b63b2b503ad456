"""Word documents: body, tables, text boxes, notes, headers and footers, what drawings show, and the title.

The XML of the parts is read with lxml, and only parts with a translation are written anew: python-docx has no
access to notes and text boxes, and saves the whole package in its own way.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from lxml import etree

from templora_cli.documents.document import Found, Kind, chapter_starts, in_chapters, is_right_to_left
from templora_cli.documents.inline import has_words, one_line, plain
from templora_cli.documents.readers.archive import Archive
from templora_cli.documents.readers.docx_description import (
    FALLBACK,
    TAGS,
    Description,
    describe,
    descriptions_of,
)
from templora_cli.documents.readers.docx_direction import set_columns, set_direction
from templora_cli.documents.readers.docx_paragraph import Element, W, words_of, write, write_beside
from templora_cli.errors import TemploraError

_DC = "{http://purl.org/dc/elements/1.1/}"
_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
_CORE = "core-properties+xml"
_MAIN = ("document.main+xml", "template.main+xml")
_PROSE = (*_MAIN, ".footnotes+xml", ".endnotes+xml", ".header+xml", ".footer+xml")
_TRACKED = [f"{W}{name}" for name in ("ins", "del", "moveFrom", "moveTo", "cellIns", "cellDel", "cellMerge")]
_EAST_ASIAN = ("zh", "ja", "ko")
_AGAIN = "open it in Word or LibreOffice and save it again as .docx"


class _DocxLocation(NamedTuple):
    part: str
    number: int
    """Among the paragraphs of the part, those without words too, and the descriptions of its drawings."""


class _Style(NamedTuple):
    name: str
    parent: str | None
    level: int | None
    item: bool


class DocxDocument:
    """A .docx file. Entries of its table of contents take the translations of their headings."""

    suffix = ".docx"

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        self._archive = Archive(content, name)
        self._parts = self._content_types()
        self._styles = self._read_styles()
        self._places: list[_DocxLocation] = []
        self._linked: dict[_DocxLocation, int] = {}
        found: list[Found] = []
        for part in self._parts.get(_CORE, [])[:1]:
            for index, element in enumerate(_titles(self._parsed(part))):
                if has_words(element.text or ""):
                    found.append(Found(" ".join(element.text.split()), "metadata"))
                    self._places.append(_DocxLocation(part, index))
        for kind in _PROSE:
            for part in self._parts.get(kind, []):
                self._read_part(part, found)
        found = self._with_links(found)
        self.paragraphs, self.chapters = in_chapters(found, chapter_starts(found))

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Parts without a translation come out as they were."""
        by_part: dict[str, dict[int, str]] = defaultdict(dict)
        for index, text in translations.items():
            by_part[self._places[index].part][self._places[index].number] = text
        for place, index in self._linked.items():
            if index in translations:
                by_part[place.part][place.number] = plain(translations[index])
        core = self._parts.get(_CORE, [""])[0]
        changed: dict[str, Element] = {}
        for part, texts in by_part.items():
            root = self._parsed(part)
            if part == core:
                done = _translate_titles(root, texts, bilingual)
            else:
                done = _translate_paragraphs(root, texts, bilingual, to_left=is_right_to_left(language))
            if done:
                changed[part] = root
        if not changed:
            return self._content
        if not bilingual:
            self._set_language(changed, language)
        return self._archive.written({part: _serialised(root) for part, root in changed.items()})

    def _content_types(self) -> dict[str, list[str]]:
        """Names of parts by the end of their content type."""
        if "[Content_Types].xml" not in self._archive:
            raise TemploraError(f"{self._name} is no Word document", "give the file the suffix of what it is")
        parts: dict[str, list[str]] = defaultdict(list)
        for override in self._parsed("[Content_Types].xml").iter(f"{_TYPES}Override"):
            part = (override.get("PartName") or "").lstrip("/")
            for end in (*_PROSE, ".styles+xml", _CORE):
                if (override.get("ContentType") or "").endswith(end) and part in self._archive:
                    parts[end].append(part)
        if not any(parts.get(main) for main in _MAIN):
            raise TemploraError(f"{self._name} is no Word document", "give the file the suffix of what it is")
        return parts

    def _parsed(self, part: str) -> Element:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            root = etree.fromstring(self._archive.read(part), parser)
        except etree.XMLSyntaxError as error:
            raise TemploraError(f"{self._name}, {part}, is damaged: {error.msg}", _AGAIN) from None
        if root.getroottree().docinfo.internalDTD is not None:  # no Office program writes one
            raise TemploraError(f"{self._name}, {part}, has a document type", _AGAIN)
        return root

    def _read_styles(self) -> dict[str, _Style]:
        styles: dict[str, _Style] = {}
        for part in self._parts.get(".styles+xml", [])[:1]:
            for style in self._parsed(part).iter(f"{W}style"):
                name = _value(style, "name") or ""
                outline = style.find(f"{W}pPr/{W}outlineLvl")
                level = None if outline is None else _number(outline.get(f"{W}val"))
                item = style.find(f"{W}pPr/{W}numPr") is not None
                key = style.get(f"{W}styleId") or ""
                styles[key] = _Style(name.lower(), _value(style, "basedOn"), level, item)
        return styles

    def _read_part(self, part: str, found: list[Found]) -> None:
        root = self._parsed(part)
        if not str(root.tag).startswith(W):
            raise TemploraError(
                f"{self._name} is in the strict form of Open XML, which is not read here",
                "save it in Word as “Word Document (.docx)”",
            )
        if next(root.iter(*_TRACKED), None) is not None:
            raise TemploraError(
                f"{self._name} has tracked changes",
                "accept or reject them in Word or LibreOffice (Review, Accept All Changes) and save it",
            )
        for index, paragraph in enumerate(_paragraphs(root)):
            if isinstance(paragraph, Description):
                found.append(Found(paragraph.text, "caption"))
                self._places.append(_DocxLocation(part, index))
                continue
            words = words_of(paragraph)
            if words is not None and has_words(words.inline.text):
                kind, level = self._kind(paragraph)
                found.append(Found(words.inline.text, kind, level))
                self._places.append(_DocxLocation(part, index))

    def _kind(self, paragraph: Element) -> tuple[Kind, int]:
        """What a paragraph is, by its style and where it stands; the level of a heading."""
        properties = paragraph.find(f"{W}pPr")
        chain = self._chain(_value(properties, "pStyle"))
        names = {style.name for style in chain}
        own_level = _number(_value(properties, "outlineLvl"))
        if any(re.fullmatch(r"toc (\d|heading)|contents \d", name) for name in names):
            return "contents", 0
        levels = [
            own_level,
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
        if _value(properties, "numPr/" + W + "numId") not in (None, "0") or any(
            style.item for style in chain
        ):
            return "item", 0
        return ("cell" if next(paragraph.iterancestors(f"{W}tc"), None) is not None else "text"), 0

    def _chain(self, key: str | None) -> list[_Style]:
        """A style and those that it is based on, the nearest first."""
        chain: list[_Style] = []
        while key in self._styles and len(chain) < 20:
            chain.append(self._styles[key])
            key = chain[-1].parent
        return chain

    def _with_links(self, found: list[Found]) -> list[Found]:
        """`found` without entries of a table of contents that are a heading's text."""
        kept: list[int] = []
        headings: dict[str, int] = {}
        entries = [i for i, f in enumerate(found) if f.kind == "contents"]
        texts = {_key(f.text) for f in found if f.kind == "heading"}
        linked = {i for i in entries if _key(found[i].text) in texts}
        for index, f in enumerate(found):
            if index not in linked:
                if f.kind == "heading":
                    headings.setdefault(_key(f.text), len(kept))
                kept.append(index)
        self._linked = {self._places[i]: headings[_key(found[i].text)] for i in linked}
        self._places = [self._places[i] for i in kept]
        return [found[i] for i in kept]

    def _set_language(self, changed: dict[str, Element], language: str) -> None:
        """In the properties, and for spell checkers in the defaults of the styles."""
        for part in self._parts.get(_CORE, [])[:1]:
            root = changed[part] = changed[part] if part in changed else self._parsed(part)
            element = root.find(f"{_DC}language")
            if element is None:
                element = etree.SubElement(root, f"{_DC}language")
            element.text = language
        main = language.split("-")[0].lower()
        name = "eastAsia" if main in _EAST_ASIAN else "bidi" if is_right_to_left(language) else "val"
        for part in self._parts.get(".styles+xml", [])[:1]:
            root = self._parsed(part)
            for lang in root.findall(f"{W}docDefaults/{W}rPrDefault/{W}rPr/{W}lang"):
                lang.set(f"{W}{name}", language)
                changed[part] = root


def _paragraphs(root: Element) -> list[Element | Description]:
    """In document order, those in text boxes too, and what drawings show behind the paragraphs that hold
    them; not the second copy of a text box for old programs."""
    found: list[Element | Description] = []
    for element in root.iter(f"{W}p", *TAGS):
        if next(element.iterancestors(FALLBACK), None) is None:
            found += [element] if element.tag == f"{W}p" else descriptions_of(element)
    return found


def _translate_paragraphs(root: Element, texts: Mapping[int, str], bilingual: bool, *, to_left: bool) -> bool:
    """Put the translations, which run `to_left` or to the right, into `root`; whether there were any."""
    paragraphs = _paragraphs(root)
    done = False
    for index, text in texts.items():
        if isinstance(paragraphs[index], Description):
            done |= describe(paragraphs[index], text, bilingual)
            continue
        words = words_of(paragraphs[index])
        placed = words.inline.place(text) if words is not None else None
        if words is not None and placed is not None:
            written = (write_beside if bilingual else write)(paragraphs[index], words, placed)
            set_direction(written, to_left)
            if not bilingual:  # the columns of both languages are the same ones
                set_columns(written, to_left)
            done = True
    return done


def _titles(core: Element) -> list[Element]:
    return [element for name in ("title", "description") for element in core.findall(f"{_DC}{name}")]


def _translate_titles(core: Element, texts: Mapping[int, str], bilingual: bool) -> bool:
    done = False
    for index, text in texts.items():
        words = plain(one_line(text))
        if words:
            element = _titles(core)[index]
            element.text = f"{element.text} / {words}" if bilingual else words
            done = True
    return done


def _serialised(root: Element) -> bytes:
    content: bytes = etree.tostring(
        root.getroottree(), xml_declaration=True, encoding="UTF-8", standalone=True
    )
    return content


def _value(parent: Element | None, path: str) -> str | None:
    element = None if parent is None else parent.find(f"{W}{path}")
    return None if element is None else element.get(f"{W}val")


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _heading_number(style: str) -> int | None:
    match = re.fullmatch(r"heading ([1-9])", style)
    return int(match[1]) - 1 if match else None


def _key(text: str) -> str:
    return "".join(plain(text).split()).casefold()
