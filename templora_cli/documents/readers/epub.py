"""EPUB 2 and 3: pages in the order of the spine, titles, and the table of contents."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from templora_cli.documents.document import (
    ChapterStart,
    Kind,
    ReadParagraph,
    chapter_level,
    split_into_chapters,
)
from templora_cli.documents.inline import strip_tags, tags_of
from templora_cli.documents.readers.archive import Archive
from templora_cli.documents.readers.epub_package import (
    Labels,
    metadata_labels,
    ncx_labels,
    read_package,
    toc_titles,
    with_language,
    xml_text,
)
from templora_cli.documents.readers.page import Page


class _EpubLocation(NamedTuple):
    """The file of a paragraph, and its index among the blocks or labels of that file."""

    file: str
    block_index: int


class EpubDocument:
    """An .epub file. All other files in it stay as they are.

    Page titles and entries of tables of contents that repeat a heading get the translation of that heading.
    """

    suffix = ".epub"

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        self._archive = Archive(content, name)
        self._package = read_package(self._archive, name)
        self._encodings: dict[str, str] = {}
        self._files: dict[str, Page | Labels] = {}
        self._collected: list[ReadParagraph] = []
        """Paragraphs that are not yet split into chapters."""
        self._locations: list[_EpubLocation] = []
        self._linked_entries: dict[_EpubLocation, int] = {}
        """The index of the paragraph that provides the translation of an entry."""
        self._index_by_title: dict[str, int] = {}
        """The index of the paragraph of a title or heading, by `_title_key`."""
        title = self._read_metadata()
        starts = self._read_pages() or [ChapterStart(0, title)]
        self._read_contents()
        self.paragraphs, self.chapters = split_into_chapters(self._collected, starts)

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`."""
        by_file: dict[str, dict[int, str]] = defaultdict(dict)
        for index, text in translations.items():
            by_file[self._locations[index].file][self._locations[index].block_index] = text
        for location, index in self._linked_entries.items():
            if index in translations:
                label = self._label(location, index, translations[index])
                by_file[location.file][location.block_index] = label
        changed = {}
        for path, texts in by_file.items():
            file = self._files[path]
            text = file.render(texts, language, bilingual=bilingual)
            if text != file.text:
                changed[path] = text
        if not changed:
            return self._content
        opf = self._package.opf
        changed[opf] = with_language(changed.get(opf, self._files[opf].text), language, bilingual=bilingual)
        content = {
            path: text.encode(self._encodings[path], "xmlcharrefreplace") for path, text in changed.items()
        }
        if "mimetype" not in self._archive:
            content["mimetype"] = b"application/epub+zip"
        return self._archive.rebuild(content, stored_first="mimetype")

    def _label(self, location: _EpubLocation, index: int, translation: str) -> str:
        """The translation of a heading for an entry, with tags if the entry has the same tags."""
        file = self._files[location.file]
        if isinstance(file, Page):
            entry = file.blocks[location.block_index].inline.text
            if tags_of(entry) == tags_of(self._collected[index].text):
                return translation
        return strip_tags(translation)

    def _text(self, path: str) -> str:
        text, self._encodings[path] = xml_text(self._archive.read(path), f"{self._name}, {path},")
        return text

    def _add(self, location: _EpubLocation, paragraph: ReadParagraph) -> int:
        """Add a paragraph and return its index."""
        self._collected.append(paragraph)
        self._locations.append(location)
        return len(self._collected) - 1

    def _read_metadata(self) -> str:
        """Add titles and descriptions, and return the title."""
        labels = metadata_labels(self._text(self._package.opf))
        self._files[self._package.opf] = labels
        for index, text in enumerate(labels.texts):
            paragraph = ReadParagraph(text, "metadata")
            added = self._add(_EpubLocation(self._package.opf, index), paragraph)
            self._index_by_title.setdefault(_title_key(text), added)
        return labels.texts[0] if labels.texts else ""

    def _read_pages(self) -> list[ChapterStart]:
        """Add the prose of the pages, and return where chapters begin."""
        ranges: list[tuple[str, int, int]] = []
        page_titles: list[tuple[_EpubLocation, str]] = []
        for path in self._package.spine:
            if path == self._package.nav:
                continue
            page = Page(self._text(path), xml=True)
            self._files[path] = page
            first = len(self._collected)
            for index, block in enumerate(page.blocks):
                location = _EpubLocation(path, index)
                if block.kind == "metadata":
                    page_titles.append((location, block.inline.text))
                    continue
                added = self._add(location, ReadParagraph(block.inline.text, block.kind, block.level))
                if block.kind == "heading":
                    self._add_heading(block.inline.text, added)
            ranges.append((path, first, len(self._collected)))
        for location, text in page_titles:
            if _title_key(text) in self._index_by_title:
                self._linked_entries[location] = self._index_by_title[_title_key(text)]
        return self._chapter_starts(ranges)

    def _add_heading(self, text: str, index: int) -> None:
        """Entries link to the first heading with their text, rather than to the title of the book."""
        existing = self._index_by_title.get(_title_key(text))
        if existing is None or self._collected[existing].kind == "metadata":
            self._index_by_title[_title_key(text)] = index

    def _read_contents(self) -> None:
        """Link entries of the tables of contents to headings, and add the other entries."""
        for path in dict.fromkeys((self._package.nav, self._package.ncx)):
            if path is None:
                continue
            text = self._text(path)
            file = ncx_labels(text) if path == self._package.ncx else Page(text, xml=True, is_contents=True)
            self._files[path] = file
            for index, (entry, kind) in enumerate(_entries(file)):
                paragraph_index = self._index_by_title.get(_title_key(entry))
                if paragraph_index is None and kind == "metadata":
                    continue  # the title of a page, which readers never see
                if paragraph_index is None or not self._can_link(file, index, paragraph_index):
                    paragraph_index = self._add(_EpubLocation(path, index), ReadParagraph(entry, "contents"))
                    self._index_by_title.setdefault(_title_key(entry), paragraph_index)
                else:
                    self._linked_entries[_EpubLocation(path, index)] = paragraph_index

    def _can_link(self, file: Page | Labels, index: int, paragraph_index: int) -> bool:
        """Whether the translation of a paragraph has all tags that an entry needs."""
        if isinstance(file, Labels):
            return True
        tags = tags_of(file.blocks[index].inline.text)
        return not tags or tags == tags_of(self._collected[paragraph_index].text)

    def _chapter_starts(self, ranges: list[tuple[str, int, int]]) -> list[ChapterStart]:
        """Chapters begin at pages with a heading or an entry in a table of contents, and at headings of
        `_heading_level` or higher within a page."""
        toc: dict[str, str] = {}
        for path in (self._package.ncx, self._package.nav):
            if path is not None:
                toc.update(toc_titles(path, self._text(path)))
        paragraphs = self._collected
        headings = [
            [i for i in range(first, end) if paragraphs[i].kind == "heading"] for _, first, end in ranges
        ]
        level = self._heading_level([on_page[0] for on_page in headings if on_page])
        starts: list[ChapterStart] = []
        for (path, first, end), on_page in zip(ranges, headings, strict=True):
            if first == end:
                continue
            if on_page or path in toc or not toc or not starts:
                title = strip_tags(paragraphs[on_page[0]].text) if on_page else toc.get(path) or _stem(path)
                starts.append(ChapterStart(first, title))
            for i in on_page[1:]:
                before = paragraphs[starts[-1].first : i]  # a part and its first chapter begin together
                if paragraphs[i].level <= level and any(p.kind != "heading" for p in before):
                    starts.append(ChapterStart(i, strip_tags(paragraphs[i].text)))
        return starts

    def _heading_level(self, firsts: list[int]) -> int:
        """The level of chapter headings: the most common level of the first headings of pages."""
        if len(firsts) < 2:
            return chapter_level(self._collected)
        levels = Counter(self._collected[i].level for i in firsts)
        return max(levels, key=lambda level: (levels[level], -level))


def _entries(file: Page | Labels) -> list[tuple[str, Kind]]:
    if isinstance(file, Page):
        return [(block.inline.text, block.kind) for block in file.blocks]
    return [(text, "contents") for text in file.texts]


def _title_key(text: str) -> str:
    """A key that is equal for titles that differ only in blanks, capitals and markup."""
    return "".join(strip_tags(text).split()).casefold()


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]
