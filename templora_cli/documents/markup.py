"""A lossless scanner for HTML, XHTML and the small XML files of an EPUB: tokens that add up to the text.

It resolves no entities of a document type, loads nothing, and takes any text without complaint, so a file
that no parser would pass can be translated and keeps its faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Literal, NamedTuple

_TAG = re.compile(r"""<(/?)([A-Za-z_][^\s/>]*)(?:[^'">]|"[^"]*"|'[^']*')*>""")
_BROKEN_TAG = re.compile(r"<(/?)([A-Za-z_][^\s/>]*)[^>]*>")
"""A quote in it is never closed."""
_ATTRIBUTE = re.compile(r"""([^\s=/>"']+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s>"']+))?""")
_SPECIAL = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"))


def element_names(names: str) -> frozenset[str]:
    """A set of names that are parted by blanks."""
    return frozenset(names.split())


VOID_ELEMENTS = element_names(
    "area base br col embed frame hr img input link meta param source track wbr basefont"
)

_RAW_TEXT = element_names("script style textarea xmp iframe noembed noframes")


class Token(NamedTuple):
    """A stretch of the text; `name` is the local name of an element in lower case."""

    kind: Literal["text", "cdata", "open", "close", "empty", "other"]
    start: int
    end: int
    name: str = ""


class Attribute(NamedTuple):
    """`start` and `end` are where its value stands in the text of the tag, without quotes."""

    name: str
    value: str
    start: int
    end: int


class Splice(NamedTuple):
    """What is to stand between two offsets."""

    start: int
    end: int
    text: str


def tokens_of(text: str, *, html: bool = True) -> list[Token]:
    """All of `text` as tokens. `html` says that `<br>` is empty and what is in `<script>` is no markup."""
    return list(_tokens(text, html))


def _tokens(text: str, html: bool) -> Iterator[Token]:
    at = 0  # everything before is in a token
    look = 0
    last = text.rfind(">")  # without one ahead nothing is a tag, and none need be tried
    while 0 <= (start := text.find("<", look)) < last:
        token = _token_at(text, start, html)
        if token is None:
            look = start + 1
            continue
        if start > at:
            yield Token("text", at, start)
        yield token
        at = look = token.end
        if html and token.kind == "open" and token.name in _RAW_TEXT:
            closing = re.compile(rf"</{token.name}\b", re.IGNORECASE).search(text, at)
            end = closing.start() if closing else len(text)
            if end > at:
                yield Token("other", at, end)
            at = look = end
    if at < len(text):
        yield Token("text", at, len(text))


def _token_at(text: str, start: int, html: bool) -> Token | None:
    """The token that begins with the `<` at `start`; None if that is a character of the text."""
    for opening, closing in _SPECIAL:
        if text.startswith(opening, start):
            end = text.find(closing, start + len(opening))
            kind: Literal["cdata", "other"] = "cdata" if opening == "<![CDATA[" else "other"
            return Token(kind, start, len(text) if end < 0 else end + len(closing))
    if text.startswith("<!", start):
        return Token("other", start, _doctype_end(text, start))
    match = _TAG.match(text, start) or _BROKEN_TAG.match(text, start)
    if match is None:
        return None
    name = match[2].rpartition(":")[2].lower()
    if match[1]:
        return Token("close", start, match.end(), name)
    empty = match[0].endswith("/>") or (html and name in VOID_ELEMENTS)
    return Token("empty" if empty else "open", start, match.end(), name)


def _doctype_end(text: str, start: int) -> int:
    end = text.find(">", start)
    subset = text.find("[", start)
    if 0 <= subset < end:
        end = text.find("]", subset)
        end = text.find(">", end) if end >= 0 else -1
    return len(text) if end < 0 else end + 1


def attributes_of(tag: str) -> list[Attribute]:
    """The attributes of the raw text of a tag."""
    begin = re.match(r"</?[^\s/>]*", tag)
    found = []
    for match in _ATTRIBUTE.finditer(tag, begin.end() if begin else 0):
        quoted = match[2] is not None and match[2][:1] in "\"'"
        start, end = match.span(2) if match[2] is not None else (match.end(), match.end())
        start, end = (start + 1, end - 1) if quoted else (start, end)
        found.append(Attribute(match[1], unescape(tag[start:end]), start, end))
    return found


def attribute(tag: str, name: str) -> str | None:
    """The value of the attribute `name`, which is given without a prefix."""
    for found in attributes_of(tag):
        if found.name.rpartition(":")[2].lower() == name:
            return found.value
    return None


def escape(text: str) -> str:
    """`text` as it stands in HTML and XML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\xa0", "&#160;")  # to be seen by whoever edits the file


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """`text` with the ranges replaced; they must not overlap. Insertions at one place keep their order."""
    pieces = []
    at = 0
    for splice in sorted(splices, key=lambda s: (s.start, s.end)):
        assert splice.start >= at, "splices overlap"
        pieces += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join([*pieces, text[at:]])


@dataclass(frozen=True)
class Element:
    """An element of an XML file, with the range of what is between its tags."""

    name: str
    tag: str
    start: int
    end: int


def elements_of(text: str, names: set[str] | None = None) -> Iterator[Element]:
    """The elements of XML `text` with one of the local `names` in lower case (all if None), as they end."""
    stack: list[Token] = []
    for token in tokens_of(text, html=False):
        raw = text[token.start : token.end]
        if token.kind == "empty" and (names is None or token.name in names):
            yield Element(token.name, raw, token.end, token.end)
        elif token.kind == "open":
            stack.append(token)
        elif token.kind == "close" and stack and stack[-1].name == token.name:
            opened = stack.pop()
            if names is None or token.name in names:
                yield Element(token.name, text[opened.start : opened.end], opened.end, token.start)
