"""Word documents: body, tables, text boxes, notes, headers, footers, descriptions of drawings, and the title.

The XML of the parts is read with lxml, and only parts with a translation are rewritten: python-docx cannot
access notes and text boxes, and rewrites the whole package when it saves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from lxml import etree

from templora_cli.documents.document import (
    ReadParagraph,
    chapter_starts,
    is_right_to_left,
    split_into_chapters,
)
from templora_cli.documents.inline import has_words, one_line, strip_tags
from templora_cli.documents.readers.docx_description import (
    DESCRIBED_TAGS,
    FALLBACK,
    Description,
    descriptions_of,
    translate_description,
)
from templora_cli.documents.readers.docx_direction import set_columns, set_direction
from templora_cli.documents.readers.docx_fragments import Element, W
from templora_cli.documents.readers.docx_package import CORE, PROSE, DocxPackage
from templora_cli.documents.readers.docx_paragraph import insert_translation, read_content, replace_content
from templora_cli.errors import TemploraError

_DC = "{http://purl.org/dc/elements/1.1/}"
_TRACKED = [f"{W}{name}" for name in ("ins", "del", "moveFrom", "moveTo", "cellIns", "cellDel", "cellMerge")]
_EAST_ASIAN = ("zh", "ja", "ko")


class _DocxLocation(NamedTuple):
    part: str
    element_index: int
    """Among all paragraphs of the part, even those without words, and the descriptions of its drawings."""


class DocxDocument:
    """A .docx file. Entries of its table of contents get the translations of their headings."""

    suffix = ".docx"

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        self._package = DocxPackage(content, name)
        self._locations: list[_DocxLocation] = []
        self._linked_entries: dict[_DocxLocation, int] = {}
        paragraphs: list[ReadParagraph] = []
        for part in self._package.parts.get(CORE, [])[:1]:
            for index, element in enumerate(_title_elements(self._package.parse(part))):
                if has_words(element.text or ""):
                    paragraphs.append(ReadParagraph(" ".join(element.text.split()), "metadata"))
                    self._locations.append(_DocxLocation(part, index))
        for kind in PROSE:
            for part in self._package.parts.get(kind, []):
                self._read_part(part, paragraphs)
        paragraphs = self._link_contents(paragraphs)
        self.paragraphs, self.chapters = split_into_chapters(paragraphs, chapter_starts(paragraphs))

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Parts without a translation stay as they are."""
        by_part: dict[str, dict[int, str]] = defaultdict(dict)
        for index, text in translations.items():
            by_part[self._locations[index].part][self._locations[index].element_index] = text
        for location, index in self._linked_entries.items():
            if index in translations:
                by_part[location.part][location.element_index] = strip_tags(translations[index])
        core = self._package.parts.get(CORE, [""])[0]
        changed: dict[str, Element] = {}
        for part, texts in by_part.items():
            root = self._package.parse(part)
            if part == core:
                is_changed = _translate_titles(root, texts, bilingual)
            else:
                is_changed = _translate_paragraphs(
                    root, texts, bilingual, right_to_left=is_right_to_left(language)
                )
            if is_changed:
                changed[part] = root
        if not changed:
            return self._content
        if not bilingual:
            self._set_language(changed, language)
        return self._package.archive.rebuild({part: _serialise(root) for part, root in changed.items()})

    def _read_part(self, part: str, paragraphs: list[ReadParagraph]) -> None:
        root = self._package.parse_prose(part)
        if next(root.iter(*_TRACKED), None) is not None:
            raise TemploraError(
                f"{self._name} has tracked changes",
                "accept or reject them in Word or LibreOffice (Review, Accept All Changes) and save it",
            )
        for index, element in enumerate(_translatable_elements(root)):
            if isinstance(element, Description):
                paragraphs.append(ReadParagraph(element.text, "caption"))
                self._locations.append(_DocxLocation(part, index))
                continue
            content = read_content(element)
            if content is not None and has_words(content.inline.text):
                kind, level = self._package.kind_and_level(element)
                paragraphs.append(ReadParagraph(content.inline.text, kind, level))
                self._locations.append(_DocxLocation(part, index))

    def _link_contents(self, paragraphs: list[ReadParagraph]) -> list[ReadParagraph]:
        """Link entries of the table of contents to headings with the same text; return the rest."""
        remaining: list[int] = []
        headings: dict[str, int] = {}
        entries = [i for i, p in enumerate(paragraphs) if p.kind == "contents"]
        texts = {_title_key(p.text) for p in paragraphs if p.kind == "heading"}
        linked = {i for i in entries if _title_key(paragraphs[i].text) in texts}
        for index, paragraph in enumerate(paragraphs):
            if index not in linked:
                if paragraph.kind == "heading":
                    headings.setdefault(_title_key(paragraph.text), len(remaining))
                remaining.append(index)
        self._linked_entries = {self._locations[i]: headings[_title_key(paragraphs[i].text)] for i in linked}
        self._locations = [self._locations[i] for i in remaining]
        return [paragraphs[i] for i in remaining]

    def _set_language(self, changed: dict[str, Element], language: str) -> None:
        """Set the language in the properties and, for spell checkers, in the default style."""
        for part in self._package.parts.get(CORE, [])[:1]:
            root = changed[part] = changed[part] if part in changed else self._package.parse(part)
            element = root.find(f"{_DC}language")
            if element is None:
                element = etree.SubElement(root, f"{_DC}language")
            element.text = language
        main = language.split("-")[0].lower()
        name = "eastAsia" if main in _EAST_ASIAN else "bidi" if is_right_to_left(language) else "val"
        for part in self._package.parts.get(".styles+xml", [])[:1]:
            root = self._package.parse(part)
            for lang in root.findall(f"{W}docDefaults/{W}rPrDefault/{W}rPr/{W}lang"):
                lang.set(f"{W}{name}", language)
                changed[part] = root


def _translatable_elements(root: Element) -> list[Element | Description]:
    """Paragraphs, including those in text boxes, and the descriptions of drawings, in document order.

    A description comes after the paragraph with the drawing. Fallback copies for old programs are left out.
    """
    elements: list[Element | Description] = []
    for element in root.iter(f"{W}p", *DESCRIBED_TAGS):
        if next(element.iterancestors(FALLBACK), None) is None:
            elements += [element] if element.tag == f"{W}p" else descriptions_of(element)
    return elements


def _translate_paragraphs(
    root: Element, texts: Mapping[int, str], bilingual: bool, *, right_to_left: bool
) -> bool:
    """Write the translations to `root`. Returns whether anything changed."""
    elements = _translatable_elements(root)
    is_changed = False
    for index, text in texts.items():
        element = elements[index]
        if isinstance(element, Description):
            is_changed |= translate_description(element, text, bilingual)
            continue
        content = read_content(element)
        pieces = content.inline.restore_markup(text) if content is not None else None
        if content is not None and pieces is not None:
            written = (insert_translation if bilingual else replace_content)(element, content, pieces)
            set_direction(written, right_to_left)
            if not bilingual:  # both languages share the columns
                set_columns(written, right_to_left)
            is_changed = True
    return is_changed


def _title_elements(core: Element) -> list[Element]:
    return [element for name in ("title", "description") for element in core.findall(f"{_DC}{name}")]


def _translate_titles(core: Element, texts: Mapping[int, str], bilingual: bool) -> bool:
    is_changed = False
    for index, text in texts.items():
        words = strip_tags(one_line(text))
        if words:
            element = _title_elements(core)[index]
            element.text = f"{element.text} / {words}" if bilingual else words
            is_changed = True
    return is_changed


def _serialise(root: Element) -> bytes:
    content: bytes = etree.tostring(
        root.getroottree(), xml_declaration=True, encoding="UTF-8", standalone=True
    )
    return content


def _title_key(text: str) -> str:
    return "".join(strip_tags(text).split()).casefold()
