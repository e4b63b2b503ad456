"""EPUB 2 and 3: pages in the order of the spine, titles, and the table of contents."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from templora_cli.documents.document import Found, Kind, Start, chapter_level, in_chapters
from templora_cli.documents.inline import markup_of, plain
from templora_cli.documents.readers.archive import Archive
from templora_cli.documents.readers.epub_package import (
    Labels,
    metadata_of,
    ncx_labels,
    package_of,
    toc_titles,
    with_language,
    xml_text,
)
from templora_cli.documents.readers.page import Page


class _EpubLocation(NamedTuple):
    """Where a paragraph stands: the file, and its number among what is translated in it."""

    file: str
    number: int


class EpubDocument:
    """An .epub file. Entries of its tables of contents that are the text of a heading, and titles of pages,
    take that heading's translation; all other files come out as they were."""

    suffix = ".epub"

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        self._archive = Archive(content, name)
        self._package = package_of(self._archive, name)
        self._encodings: dict[str, str] = {}
        self._files: dict[str, Page | Labels] = {}
        self._found: list[Found] = []
        self._places: list[_EpubLocation] = []
        self._linked: dict[_EpubLocation, int] = {}
        """What takes the translation of a paragraph elsewhere."""
        self._known: dict[str, int] = {}
        """Titles and headings by their words."""
        title = self._read_metadata()
        starts = self._read_pages() or [Start(0, title)]
        self._read_contents()
        self.paragraphs, self.chapters = in_chapters(self._found, starts)

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`."""
        by_file: dict[str, dict[int, str]] = defaultdict(dict)
        for index, text in translations.items():
            by_file[self._places[index].file][self._places[index].number] = text
        for place, index in self._linked.items():
            if index in translations:
                by_file[place.file][place.number] = self._label(place, index, translations[index])
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
        return self._archive.written(content, stored_first="mimetype")

    def _label(self, place: _EpubLocation, index: int, translation: str) -> str:
        """The translation of a heading for an entry: with its tags if the entry has the same."""
        file = self._files[place.file]
        if isinstance(file, Page):
            entry = file.blocks[place.number].inline.text
            if markup_of(entry) == markup_of(self._found[index].text):
                return translation
        return plain(translation)

    def _text(self, path: str) -> str:
        text, self._encodings[path] = xml_text(self._archive.read(path), f"{self._name}, {path},")
        return text

    def _add(self, place: _EpubLocation, found: Found) -> int:
        self._found.append(found)
        self._places.append(place)
        return len(self._found) - 1

    def _read_metadata(self) -> str:
        """Adds titles and descriptions; returns the title."""
        labels = metadata_of(self._text(self._package.opf))
        self._files[self._package.opf] = labels
        for index, text in enumerate(labels.texts):
            number = self._add(_EpubLocation(self._package.opf, index), Found(text, "metadata"))
            self._known.setdefault(_key(text), number)
        return labels.texts[0] if labels.texts else ""

    def _read_pages(self) -> list[Start]:
        """Adds the prose of the pages, and returns where chapters begin."""
        ranges: list[tuple[str, int, int]] = []
        page_titles: list[tuple[_EpubLocation, str]] = []
        for path in self._package.spine:
            if path == self._package.nav:
                continue
            page = Page(self._text(path), xml=True)
            self._files[path] = page
            first = len(self._found)
            for index, block in enumerate(page.blocks):
                text = block.inline.text
                if block.kind == "metadata":
                    page_titles.append((_EpubLocation(path, index), text))
                    continue
                number = self._add(_EpubLocation(path, index), Found(text, block.kind, block.level))
                if block.kind == "heading":
                    self._known[_key(text)] = self._known_heading(_key(text), number)
            ranges.append((path, first, len(self._found)))
        for place, text in page_titles:
            if _key(text) in self._known:
                self._linked[place] = self._known[_key(text)]
        return self._starts(ranges)

    def _known_heading(self, key: str, number: int) -> int:
        """The first heading with these words; rather it than the title of the book."""
        known = self._known.get(key)
        return number if known is None or self._found[known].kind == "metadata" else known

    def _read_contents(self) -> None:
        """Links entries of the tables of contents with headings, or adds them."""
        for path in dict.fromkeys((self._package.nav, self._package.ncx)):
            if path is None:
                continue
            text = self._text(path)
            file = ncx_labels(text) if path == self._package.ncx else Page(text, xml=True, entries=True)
            self._files[path] = file
            for index, (entry, kind) in enumerate(_entries(file)):
                number = self._known.get(_key(entry))
                if number is None and kind == "metadata":
                    continue  # the title of a page, which nobody reads
                if number is None or not self._fits(file, index, number):
                    number = self._add(_EpubLocation(path, index), Found(entry, "contents"))
                    self._known.setdefault(_key(entry), number)
                else:
                    self._linked[_EpubLocation(path, index)] = number

    def _fits(self, file: Page | Labels, index: int, number: int) -> bool:
        """An entry with a link around some of its words needs a translation that has the tags of it."""
        if isinstance(file, Labels):
            return True
        tags = markup_of(file.blocks[index].inline.text)
        return not tags or tags == markup_of(self._found[number].text)

    def _starts(self, ranges: list[tuple[str, int, int]]) -> list[Start]:
        """Chapters begin with pages that have a heading or an entry in a table of contents, and at headings
        as high as those that most pages begin with."""
        toc: dict[str, str] = {}
        for path in (self._package.ncx, self._package.nav):
            if path is not None:
                toc.update(toc_titles(path, self._text(path)))
        headings = [
            [i for i in range(first, end) if self._found[i].kind == "heading"] for _, first, end in ranges
        ]
        level = self._level([inside[0] for inside in headings if inside])
        starts: list[Start] = []
        for (path, first, end), inside in zip(ranges, headings, strict=True):
            if first == end:
                continue
            if inside or path in toc or not toc or not starts:
                title = plain(self._found[inside[0]].text) if inside else toc.get(path) or _stem(path)
                starts.append(Start(first, title))
            for i in inside[1:]:
                before = self._found[starts[-1].first : i]  # a part and its first chapter begin together
                if self._found[i].level <= level and any(f.kind != "heading" for f in before):
                    starts.append(Start(i, plain(self._found[i].text)))
        return starts

    def _level(self, firsts: list[int]) -> int:
        """The level that headings of chapters have: that of most of the first headings of pages."""
        if len(firsts) < 2:
            return chapter_level(self._found)
        levels = Counter(self._found[i].level for i in firsts)
        return max(levels, key=lambda level: (levels[level], -level))


def _entries(file: Page | Labels) -> list[tuple[str, Kind]]:
    if isinstance(file, Page):
        return [(block.inline.text, block.kind) for block in file.blocks]
    return [(text, "contents") for text in file.texts]


def _key(text: str) -> str:
    """The words of a title, as far as blanks, capitals and markup do not matter."""
    return "".join(plain(text).split()).casefold()


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]
