"""An EPUB as a manuscript: the pages of its spine, with the titles of its table of contents."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

from templora_cli.documents.front_matter import (
    MAX_MATTER_WORDS,
    matter_of_title,
    matter_of_type,
    states_rights,
)
from templora_cli.documents.manuscript_blocks import ManuscriptBlock, ManuscriptSource, counted, tidy
from templora_cli.documents.markup import attribute_value, elements_of
from templora_cli.documents.readers.archive import Archive
from templora_cli.documents.readers.epub_package import (
    Package,
    metadata_labels,
    read_package,
    resolve_href,
    xml_text,
)
from templora_cli.documents.readers.manuscript_page import (
    PageContent,
    page_content,
    without_tables,
    without_titles,
)
from templora_cli.text import have_words

_MATTER_FILE = re.compile(
    r"(?:.*[-_.\d])?(cover|titlepage|title[-_]page|halftitle(?:page)?|toc|contents|copyright|colophon|imprint"
    r"|dedication)[-_.\d]*",
    re.IGNORECASE,
)
_MAX_FILE_WORDS = 300
"""A page with more words is prose, whatever its file is called."""
_UNKNOWN_LEVEL = -1
"""Of a heading that only the table of contents has."""


class _Entry(NamedTuple):
    """An entry of the table of contents; `anchor` is "" for the top of the page."""

    anchor: str
    title: str


class _Contents(NamedTuple):
    """What the EPUB says about its pages: by path, the entries for a page and the matter that it is."""

    entries: dict[str, list[_Entry]]
    matters: dict[str, str]


def read_epub_manuscript(content: bytes, name: str) -> ManuscriptSource:
    """The blocks of an EPUB. Raises TemploraError: not an EPUB, damaged, encrypted, or over the limits."""
    archive = Archive(content, name)
    package = read_package(archive, name)

    def text_of(path: str) -> str:
        return xml_text(archive.read(path), f"{name}, {path},").text

    opf = text_of(package.opf)
    titles = metadata_labels(opf).texts
    contents = _read_contents(
        package, {path: text_of(path) for path in (package.ncx, package.nav) if path}, opf
    )
    blocks: list[ManuscriptBlock] = []
    left_out: dict[str, None] = {}
    notes = 0
    for path in package.spine:
        if path == package.nav:
            left_out["contents"] = None
            continue
        page = page_content(text_of(path))
        notes += page.notes
        matter = _matter_of_page(path, page, contents)
        if matter:
            left_out[matter] = None
        else:
            page.blocks = without_titles(page.blocks)
            blocks += _with_entries(page, contents.entries.get(path, []))
    counts = [counted(notes, "note")] if notes else []
    return ManuscriptSource(
        titles[0] if titles else "", without_tables(_with_levels(blocks)), [*left_out, *counts]
    )


def _read_contents(package: Package, tables: dict[str, str], opf: str) -> _Contents:
    entries: dict[str, list[_Entry]] = {}
    matters = dict(_typed_pages(package.opf, opf))
    for path, text in tables.items():
        matters.update(_typed_pages(path, text))
        by_page: dict[str, list[_Entry]] = {}
        for target, entry in _entries(path, text):
            by_page.setdefault(target, []).append(entry)
        entries = by_page or entries
    return _Contents(entries, matters)


def _typed_pages(path: str, text: str) -> Iterator[tuple[str, str]]:
    """The front and back matter that a guide or landmarks name, by page; parts of a page do not count."""
    for element in elements_of(text, {"reference", "a"}):
        href = attribute_value(element.tag, "href") or ""
        matter = matter_of_type(attribute_value(element.tag, "type") or "")
        target = resolve_href(path, href)
        if matter and target is not None and "#" not in href:
            yield target, matter


def _entries(path: str, text: str) -> Iterator[tuple[str, _Entry]]:
    """The pages and entries of a table of contents (NCX or nav), without landmarks and lists of pages."""
    others = [
        e
        for e in elements_of(text, {"nav", "pagelist"})
        if "toc" not in (attribute_value(e.tag, "type") or "").split()
    ]
    label = ""
    for element in sorted(elements_of(text, {"text", "content", "a"}), key=lambda e: e.start):
        if any(other.start <= element.start < other.end for other in others):
            continue
        if element.name == "text":
            label = tidy(unescape(text[element.start : element.end]))
            continue
        href = attribute_value(element.tag, "src" if element.name == "content" else "href") or ""
        if element.name == "a":
            label = tidy(unescape(re.sub(r"<[^>]*>", "", text[element.start : element.end])))
        target = resolve_href(path, href)
        title = " ".join(label.split())
        if target is not None and title:
            yield target, _Entry(unquote(href.partition("#")[2]), title)


def _matter_of_page(path: str, page: PageContent, contents: _Contents) -> str:
    """The front or back matter that a whole page is; "" for prose."""
    blocks = [block for block in page.blocks if block.text and not block.matter]
    texts = [block.text for block in blocks]
    if have_words(texts, MAX_MATTER_WORDS):
        return ""
    is_short = not have_words(texts, _MAX_FILE_WORDS)
    matter = page.matter or contents.matters.get(path, "")
    entries = contents.entries.get(path, [])
    if not matter and len(entries) == 1:
        matter = matter_of_title(entries[0].title)
    file = _MATTER_FILE.fullmatch(posixpath.splitext(posixpath.basename(path))[0])
    if not matter and file is not None and is_short:
        matter = matter_of_type(re.sub("[-_]", "", file[1])) or matter_of_title(file[1])
    if not matter and blocks and is_short and blocks[0].kind == "text":
        matter = matter_of_title(texts[0])
    return matter or ("copyright" if states_rights(texts) else "")


def _with_entries(page: PageContent, entries: Sequence[_Entry]) -> list[ManuscriptBlock]:
    """The blocks of a page, with a heading for each entry of the contents that has none on the page."""
    places: dict[int, list[str]] = {}
    for entry in entries:
        index = next((i for i, ids in enumerate(page.ids) if entry.anchor in ids), 0)
        while index < len(page.blocks) and not page.blocks[index].text:
            index += 1
        places.setdefault(index, []).append(entry.title)
    blocks = list(page.blocks)
    for index in sorted(places, reverse=True):
        if index == len(blocks) or blocks[index].matter or blocks[index].kind == "heading":
            continue
        count = _title_lines(blocks[index:], places[index])
        if count:
            for i in range(index, index + count):
                blocks[i] = blocks[i]._replace(kind="heading", level=_UNKNOWN_LEVEL)
        else:
            headings = [ManuscriptBlock(title, "heading", _UNKNOWN_LEVEL) for title in places[index]]
            blocks[index:index] = headings
    return blocks


def _title_lines(blocks: Sequence[ManuscriptBlock], titles: Sequence[str]) -> int:
    """The number of blocks at the beginning that repeat the titles of the contents, whole or in parts."""
    whole = _key("".join(titles))
    count = 0
    for block in blocks:
        key = _key(block.text)
        if block.kind not in ("text", "heading") or not key or key not in whole:
            break
        count += 1
    return count


def _with_levels(blocks: Sequence[ManuscriptBlock]) -> list[ManuscriptBlock]:
    """`blocks` with the most common level for the headings that only the table of contents has."""
    levels = Counter(block.level for block in blocks if block.kind == "heading" and block.level > 0)
    level = levels.most_common(1)[0][0] if levels else 1
    return [block._replace(level=level) if block.level == _UNKNOWN_LEVEL else block for block in blocks]


def _key(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
