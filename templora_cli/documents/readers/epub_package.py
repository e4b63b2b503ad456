"""The package of an EPUB: its files, their reading order, titles, contents, and copy protection."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

from templora_cli.documents.document import is_right_to_left
from templora_cli.documents.inline import has_words, strip_tags
from templora_cli.documents.markup import (
    ElementRange,
    Splice,
    apply_splices,
    attribute_value,
    attributes_of,
    elements_of,
    escape,
)
from templora_cli.documents.readers.archive import Archive
from templora_cli.errors import TemploraError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_RIGHTS = ("META-INF/rights.xml", "META-INF/sinf.xml")
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_FONTS = (".ttf", ".otf", ".ttc", ".woff", ".woff2")
_REPAIR_HINT = "download or copy it again, or convert it to EPUB with Calibre, which repairs such files"


class XmlText(NamedTuple):
    """The text of an XML file and the encoding to write it in."""

    text: str
    encoding: str


def xml_text(content: bytes, name: str) -> XmlText:
    """Decode an XML file by its byte order mark or declaration; encoding it again gives the same bytes."""
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
        raise TemploraError(f"{name} cannot be decoded as {encoding}", _REPAIR_HINT) from None


@dataclass(frozen=True)
class Package:
    """Paths of the relevant files of an EPUB inside the archive."""

    opf: str
    spine: list[str]
    """Pages in reading order, each once."""
    nav: str | None
    ncx: str | None


def read_package(archive: Archive, name: str) -> Package:
    """Read the container and the OPF.

    Raises TemploraError: encrypted, no container, no OPF, or a missing page.
    """
    _check_rights(archive, name)
    if _CONTAINER not in archive:
        raise TemploraError(f"{name} is not an EPUB: it has no {_CONTAINER}", _REPAIR_HINT)
    container = xml_text(archive.read(_CONTAINER), f"{name}, {_CONTAINER},").text
    paths = (attribute_value(root.tag, "full-path") for root in elements_of(container, {"rootfile"}))
    opf = next((path for path in paths if path), None)
    if opf is None or opf not in archive:
        raise TemploraError(f"{name} has no package file ({opf or 'the container names none'})", _REPAIR_HINT)
    text = xml_text(archive.read(opf), f"{name}, {opf},").text
    items = {attribute_value(item.tag, "id"): item.tag for item in elements_of(text, {"item"})}
    spine = _spine(archive, name, opf, text, items)
    nav = next((t for t in items.values() if "nav" in (attribute_value(t, "properties") or "").split()), None)
    ncx = next((t for t in items.values() if "dtbncx" in (attribute_value(t, "media-type") or "")), None)
    return Package(opf, spine, *(_existing_path(archive, opf, tag) for tag in (nav, ncx)))


def _spine(archive: Archive, name: str, opf: str, text: str, items: Mapping[str | None, str]) -> list[str]:
    paths: dict[str, None] = {}
    for reference in elements_of(text, {"itemref"}):
        identifier = attribute_value(reference.tag, "idref")
        tag = items.get(identifier)
        path = None if tag is None else resolve_href(opf, attribute_value(tag, "href") or "")
        if tag is None or path is None or path not in archive:
            raise TemploraError(f"{name}: the page {path or identifier} is listed, but missing", _REPAIR_HINT)
        kind = attribute_value(tag, "media-type") or ""
        if "html" in kind or "oeb1" in kind:
            paths[path] = None
    if not paths:
        raise TemploraError(f"{name} has no pages of text", "check that it is a book with text")
    return list(paths)


def _existing_path(archive: Archive, opf: str, tag: str | None) -> str | None:
    path = resolve_href(opf, attribute_value(tag, "href") or "") if tag else None
    return path if path is not None and path in archive else None


def resolve_href(base: str, href: str) -> str | None:
    """The path in the archive of `href` in the file `base`; None if it leads out of the archive."""
    href = unquote(href.partition("#")[0])
    if not href or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", href) or href.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(base), href))
    return None if path.startswith("..") else path


def _check_rights(archive: Archive, name: str) -> None:
    """Raise TemploraError if anything but fonts is encrypted. Obfuscated fonts are copied unchanged."""
    is_protected = any(path in archive for path in _RIGHTS)
    if _ENCRYPTION in archive:
        text = xml_text(archive.read(_ENCRYPTION), f"{name}, {_ENCRYPTION},").text
        algorithm = ""
        for element in elements_of(text, {"encryptionmethod", "cipherreference"}):
            if element.name == "encryptionmethod":
                algorithm = attribute_value(element.tag, "algorithm") or ""
            elif algorithm not in _FONT_ALGORITHMS:
                path = (attribute_value(element.tag, "uri") or "").lower()
                is_protected = is_protected or not path.endswith(_FONTS)
    if is_protected:
        raise TemploraError(f"{name} is encrypted (DRM) and cannot be read", "use a copy without DRM")


class Labels:
    """Elements of an OPF or NCX that contain only text; renders the file with some texts translated."""

    def __init__(self, text: str, elements: list[ElementRange]) -> None:
        self.text = text
        self._elements = [e for e in elements if has_words(_element_text(text, e))]
        self.texts = [_element_text(text, element) for element in self._elements]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> str:
        """As `Page.render`; two languages share an element, separated by a slash."""
        splices = []
        for index, translation in translations.items():
            element = self._elements[index]
            words = escape(strip_tags(translation))
            if words:
                start = element.end if bilingual else element.start
                splices.append(Splice(start, element.end, f" / {words}" if bilingual else words))
        return apply_splices(self.text, splices)


def _element_text(text: str, element: ElementRange) -> str:
    """The text of an element on one line; empty if it contains markup, escaped or not."""
    content = " ".join(unescape(text[element.start : element.end]).split())
    return "" if "<" in content else content


def metadata_labels(opf: str) -> Labels:
    """The titles, then the descriptions, of an OPF."""
    elements = list(elements_of(opf, {"title", "description"}))
    return Labels(opf, sorted(elements, key=lambda e: (e.name != "title", e.start)))


def with_language(opf: str, language: str, *, bilingual: bool) -> str:
    """The OPF with `language` and its direction as those of the book, or as a second language."""
    element = next(elements_of(opf, {"language"}), None)
    if bilingual:
        return opf if element is None else _add_language(opf, element, language)
    splices = []
    old = ""
    if element is not None:
        old = opf[element.start : element.end].strip()
        splices.append(Splice(element.start, element.end, escape(language)))
    for package in elements_of(opf, {"package"}):
        splices += _attribute_splices(package, "xml:lang", language, add=False)
        # EPUB 2 has no page direction. It changes only if the direction of the language does: right-to-left
        # pages may be vertical Japanese.
        is_turned = is_right_to_left(language) != is_right_to_left(old)
        for spine in elements_of(opf, {"spine"}) if is_turned else ():
            if (attribute_value(package.tag, "version") or "").startswith("3"):
                direction = "rtl" if is_right_to_left(language) else "ltr"
                splices += _attribute_splices(spine, "page-progression-direction", direction, add=True)
    return apply_splices(opf, splices)


def _add_language(opf: str, element: ElementRange, language: str) -> str:
    end = opf.index(">", element.end) + 1
    closing = opf[element.end : end]
    name = closing[2:-1].strip()
    return apply_splices(opf, [Splice(end, end, f"<{name}>{escape(language)}{closing}")])


def _attribute_splices(element: ElementRange, name: str, value: str, *, add: bool) -> list[Splice]:
    """Change an attribute of an element with content, or `add` it if it is missing."""
    begin = element.start - len(element.tag)
    for attribute in attributes_of(element.tag):
        if attribute.name == name:
            return [Splice(begin + attribute.start, begin + attribute.end, escape(value))]
    return [Splice(element.start - 1, element.start - 1, f' {name}="{escape(value)}"')] if add else []


def ncx_labels(text: str) -> Labels:
    """The entries of an NCX, without names of authors and page numbers."""
    excluded = [(e.start, e.end) for e in elements_of(text, {"docauthor", "pagelist"})]
    texts = [
        e for e in elements_of(text, {"text"}) if not any(start <= e.start <= end for start, end in excluded)
    ]
    return Labels(text, texts)


def toc_titles(path: str, text: str) -> dict[str, str]:
    """The first entry for each page in the table of contents at `path` (NCX or nav)."""
    titles: dict[str, str] = {}
    label = ""
    for element in elements_of(text, {"text", "content", "a"}):
        if element.name == "text":
            label = _element_text(text, element)
            continue
        target = resolve_href(
            path, attribute_value(element.tag, "src" if element.name == "content" else "href") or ""
        )
        if element.name == "a":
            label = " ".join(unescape(re.sub(r"<[^>]*>", "", text[element.start : element.end])).split())
        if target is not None:
            titles.setdefault(target, label)
    return titles
