"""The package of an EPUB: what is in it, in which order it is read, and what may not be read at all."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

from templora_cli.documents.document import is_right_to_left
from templora_cli.documents.inline import has_words, plain
from templora_cli.documents.markup import (
    Element,
    Splice,
    attribute,
    attributes_of,
    elements_of,
    escape,
    spliced,
)
from templora_cli.documents.readers.archive import Archive
from templora_cli.errors import TemploraError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_RIGHTS = ("META-INF/rights.xml", "META-INF/sinf.xml")
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_FONTS = (".ttf", ".otf", ".ttc", ".woff", ".woff2")
_AGAIN = "download or copy it again; or let Calibre convert it to EPUB, which mends such files"


class XmlText(NamedTuple):
    """The text of an XML file and the encoding to write it in."""

    text: str
    encoding: str


def xml_text(content: bytes, name: str) -> XmlText:
    """Decode an XML file by its mark or declaration; every character comes back by the same encoding."""
    encoding = "utf-8"
    if content.startswith((b"\xff\xfe", b"<\0")):
        encoding = "utf-16-le"
    elif content.startswith((b"\xfe\xff", b"\0<")):
        encoding = "utf-16-be"
    elif match := re.match(rb"""(?:\xef\xbb\xbf)?\s*<\?xml[^>]*encoding\s*=\s*["']([\w.-]+)""", content):
        encoding = match[1].decode("ascii")
    try:
        return XmlText(content.decode(encoding), encoding)
    except (LookupError, ValueError):
        raise TemploraError(f"{name} is not in {encoding}, as it should be", _AGAIN) from None


@dataclass(frozen=True)
class Package:
    """The parts of an EPUB that are read: paths inside the archive."""

    opf: str
    spine: list[str]
    """Pages in reading order, each once."""
    nav: str | None
    ncx: str | None


def package_of(archive: Archive, name: str) -> Package:
    """Read container and OPF.

    Raises TemploraError: protected against reading, no container, no OPF, or a page that is not there.
    """
    _check_rights(archive, name)
    if _CONTAINER not in archive:
        raise TemploraError(f"{name} is no EPUB: it has no {_CONTAINER}", _AGAIN)
    container = xml_text(archive.read(_CONTAINER), f"{name}, {_CONTAINER},").text
    paths = (attribute(root.tag, "full-path") for root in elements_of(container, {"rootfile"}))
    opf = next((path for path in paths if path), None)
    if opf is None or opf not in archive:
        raise TemploraError(f"{name} has no package file ({opf or 'none is named'})", _AGAIN)
    text = xml_text(archive.read(opf), f"{name}, {opf},").text
    items = {attribute(item.tag, "id"): item.tag for item in elements_of(text, {"item"})}
    spine = _spine(archive, name, opf, text, items)
    nav = next((t for t in items.values() if "nav" in (attribute(t, "properties") or "").split()), None)
    ncx = next((t for t in items.values() if "dtbncx" in (attribute(t, "media-type") or "")), None)
    return Package(opf, spine, *(_present(archive, opf, tag) for tag in (nav, ncx)))


def _spine(archive: Archive, name: str, opf: str, text: str, items: Mapping[str | None, str]) -> list[str]:
    paths: dict[str, None] = {}
    for reference in elements_of(text, {"itemref"}):
        identifier = attribute(reference.tag, "idref")
        tag = items.get(identifier)
        path = None if tag is None else resolved(opf, attribute(tag, "href") or "")
        if tag is None or path is None or path not in archive:
            raise TemploraError(f"{name}: the page {path or identifier} is named and not there", _AGAIN)
        kind = attribute(tag, "media-type") or ""
        if "html" in kind or "oeb1" in kind:
            paths[path] = None
    if not paths:
        raise TemploraError(f"{name} has no pages of text", "check that it is a book with text")
    return list(paths)


def _present(archive: Archive, opf: str, tag: str | None) -> str | None:
    path = resolved(opf, attribute(tag, "href") or "") if tag else None
    return path if path is not None and path in archive else None


def resolved(base: str, href: str) -> str | None:
    """The path in the archive that `href` in the file `base` leads to; None if it leads out of it."""
    href = unquote(href.partition("#")[0])
    if not href or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", href) or href.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(base), href))
    return None if path.startswith("..") else path


def _check_rights(archive: Archive, name: str) -> None:
    """Fonts may be obfuscated: they are copied as they are."""
    protected = any(path in archive for path in _RIGHTS)
    if _ENCRYPTION in archive:
        text = xml_text(archive.read(_ENCRYPTION), f"{name}, {_ENCRYPTION},").text
        algorithm = ""
        for element in elements_of(text, {"encryptionmethod", "cipherreference"}):
            if element.name == "encryptionmethod":
                algorithm = attribute(element.tag, "algorithm") or ""
            elif algorithm not in _FONT_ALGORITHMS:
                path = (attribute(element.tag, "uri") or "").lower()
                protected = protected or not path.endswith(_FONTS)
    if protected:
        raise TemploraError(
            f"{name} is encrypted (DRM) and cannot be read", "use a copy that is sold or given without DRM"
        )


class Labels:
    """Elements of an OPF or NCX that hold nothing but text: `texts`, and the file with some replaced."""

    def __init__(self, text: str, elements: list[Element]) -> None:
        self.text = text
        self._elements = [e for e in elements if has_words(_words(text, e))]
        self.texts = [_words(text, element) for element in self._elements]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> str:
        """As `Page.render`; both languages stand in one element, parted by a slash."""
        splices = []
        for index, translation in translations.items():
            element = self._elements[index]
            words = escape(plain(translation))
            if words:
                start = element.end if bilingual else element.start
                splices.append(Splice(start, element.end, f" / {words}" if bilingual else words))
        return spliced(self.text, splices)


def _words(text: str, element: Element) -> str:
    """The text of an element on one line; nothing if there is markup in it, escaped or not."""
    words = " ".join(unescape(text[element.start : element.end]).split())
    return "" if "<" in words else words


def metadata_of(opf: str) -> Labels:
    """Titles and descriptions."""
    found = list(elements_of(opf, {"title", "description"}))
    return Labels(opf, sorted(found, key=lambda e: (e.name != "title", e.start)))


def with_language(opf: str, language: str, *, bilingual: bool) -> str:
    """The OPF with `language` as that of the book, with its direction, or as one more."""
    element = next(elements_of(opf, {"language"}), None)
    if bilingual:
        return opf if element is None else _with_one_more(opf, element, language)
    splices = []
    old = ""
    if element is not None:
        old = opf[element.start : element.end].strip()
        splices.append(Splice(element.start, element.end, escape(language)))
    for package in elements_of(opf, {"package"}):
        splices += _attribute_set(package, "xml:lang", language, add=False)
        # EPUB 2 has no such attribute. Pages that turn to the left stay so between other languages: they
        # may be columns of Japanese.
        turned = is_right_to_left(language) != is_right_to_left(old)
        for spine in elements_of(opf, {"spine"}) if turned else ():
            if (attribute(package.tag, "version") or "").startswith("3"):
                direction = "rtl" if is_right_to_left(language) else "ltr"
                splices += _attribute_set(spine, "page-progression-direction", direction, add=True)
    return spliced(opf, splices)


def _with_one_more(opf: str, element: Element, language: str) -> str:
    end = opf.index(">", element.end) + 1
    closing = opf[element.end : end]
    name = closing[2:-1].strip()
    return spliced(opf, [Splice(end, end, f"<{name}>{escape(language)}{closing}")])


def _attribute_set(element: Element, name: str, value: str, *, add: bool) -> list[Splice]:
    """Change an attribute of an element with content, or `add` it where it is not there."""
    begin = element.start - len(element.tag)
    for found in attributes_of(element.tag):
        if found.name == name:
            return [Splice(begin + found.start, begin + found.end, escape(value))]
    return [Splice(element.start - 1, element.start - 1, f' {name}="{escape(value)}"')] if add else []


def ncx_labels(text: str) -> Labels:
    """Entries of an NCX; names of authors and numbers of pages stay."""
    apart = [(e.start, e.end) for e in elements_of(text, {"docauthor", "pagelist"})]
    texts = [
        e for e in elements_of(text, {"text"}) if not any(start <= e.start <= end for start, end in apart)
    ]
    return Labels(text, texts)


def toc_titles(path: str, text: str) -> dict[str, str]:
    """The first entry of the table of contents in `path` (NCX or nav) for every page it leads to."""
    titles: dict[str, str] = {}
    label = ""
    for element in elements_of(text, {"text", "content", "a"}):
        if element.name == "text":
            label = _words(text, element)
            continue
        target = resolved(path, attribute(element.tag, "src" if element.name == "content" else "href") or "")
        if element.name == "a":
            label = " ".join(unescape(re.sub(r"<[^>]*>", "", text[element.start : element.end])).split())
        if target is not None:
            titles.setdefault(target, label)
    return titles
