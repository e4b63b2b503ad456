"""A lossless scanner for HTML, XHTML and the small XML files of an EPUB; its tokens join to the whole text.

It accepts any text, resolves no entities of a document type and loads nothing. A file that a parser would
reject can thus be translated, and keeps its faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Literal, NamedTuple

_TAG = re.compile(r"""<(/?)([A-Za-z_][^\s/>]*)(?:[^'">]|"[^"]*"|'[^']*')*>""")
_BROKEN_TAG = re.compile(r"<(/?)([A-Za-z_][^\s/>]*)[^>]*>")
"""A tag with a quote that is never closed."""
_ATTRIBUTE = re.compile(r"""([^\s=/>"']+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s>"']+))?""")
_SPECIAL = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"))


def element_names(names: str) -> frozenset[str]:
    """The set of the names in a string, separated by blanks."""
    return frozenset(names.split())


VOID_ELEMENTS = element_names(
    "area base br col embed frame hr img input link meta param source track wbr basefont"
)

_RAW_TEXT = element_names("script style textarea xmp iframe noembed noframes")


class Token(NamedTuple):
    """A range of the text; `name` is the local name of an element in lower case."""

    kind: Literal["text", "cdata", "open", "close", "empty", "other"]
    start: int
    end: int
    name: str = ""


class Attribute(NamedTuple):
    """`start` and `end` are the offsets of its value in the text of the tag, without quotes."""

    name: str
    value: str
    start: int
    end: int


class Splice(NamedTuple):
    """A replacement for the text between two offsets."""

    start: int
    end: int
    text: str


def tokens_of(text: str, *, html: bool = True) -> list[Token]:
    """All of `text` as tokens. With `html`, `<br>` is empty and the content of `<script>` is not markup."""
    return list(_tokens(text, html))


def _tokens(text: str, html: bool) -> Iterator[Token]:
    done = 0  # everything before is in a token
    search_from = 0
    last = text.rfind(">")  # no tag can begin after it
    while 0 <= (start := text.find("<", search_from)) < last:
        token = _token_at(text, start, html)
        if token is None:
            search_from = start + 1
            continue
        if start > done:
            yield Token("text", done, start)
        yield token
        done = search_from = token.end
        if html and token.kind == "open" and token.name in _RAW_TEXT:
            closing = re.compile(rf"</{token.name}\b", re.IGNORECASE).search(text, done)
            end = closing.start() if closing else len(text)
            if end > done:
                yield Token("other", done, end)
            done = search_from = end
    if done < len(text):
        yield Token("text", done, len(text))


def _token_at(text: str, start: int, html: bool) -> Token | None:
    """The token that begins with the `<` at `start`; None if that `<` is text."""
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
    attributes = []
    for match in _ATTRIBUTE.finditer(tag, begin.end() if begin else 0):
        quoted = match[2] is not None and match[2][:1] in "\"'"
        start, end = match.span(2) if match[2] is not None else (match.end(), match.end())
        start, end = (start + 1, end - 1) if quoted else (start, end)
        attributes.append(Attribute(match[1], unescape(tag[start:end]), start, end))
    return attributes


def attribute_value(tag: str, name: str) -> str | None:
    """The value of the attribute with the local name `name` (lower case, without a prefix)."""
    for attribute in attributes_of(tag):
        if attribute.name.rpartition(":")[2].lower() == name:
            return attribute.value
    return None


def escape(text: str) -> str:
    """`text` escaped for HTML and XML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\xa0", "&#160;")  # visible to whoever edits the file


def apply_splices(text: str, splices: Iterable[Splice]) -> str:
    """`text` with the ranges replaced. They must not overlap; insertions at one offset keep their order."""
    pieces = []
    end = 0
    for splice in sorted(splices, key=lambda s: (s.start, s.end)):
        assert splice.start >= end, "splices overlap"
        pieces += [text[end : splice.start], splice.text]
        end = splice.end
    return "".join([*pieces, text[end:]])


@dataclass(frozen=True)
class ElementRange:
    """An element of an XML file: `start` and `end` are the offsets of its content, `tag` its opening tag."""

    name: str
    tag: str
    start: int
    end: int


def elements_of(text: str, names: set[str] | None = None) -> Iterator[ElementRange]:
    """The elements of XML `text` with one of the local `names` (lower case; None: all), in order of end."""
    stack: list[Token] = []
    for token in tokens_of(text, html=False):
        raw = text[token.start : token.end]
        if token.kind == "empty" and (names is None or token.name in names):
            yield ElementRange(token.name, raw, token.end, token.end)
        elif token.kind == "open":
            stack.append(token)
        elif token.kind == "close" and stack and stack[-1].name == token.name:
            opening = stack.pop()
            if names is None or token.name in names:
                yield ElementRange(token.name, text[opening.start : opening.end], opening.end, token.start)
