"""Splits a Word paragraph into fragments: text in one format and container, fields, and other elements."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

Element = Any
"""An element of lxml, which has no types."""

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def _names(names: str) -> frozenset[str]:
    return frozenset(f"{W}{name}" for name in names.split())


_START_MARKERS = _names("bookmarkStart commentRangeStart permStart")
_END_MARKERS = _names("bookmarkEnd commentRangeEnd permEnd")
_DROPPED = _names("proofErr lastRenderedPageBreak softHyphen rPr pPr")
_TRANSPARENT = _names("smartTag customXml dir bdo")
_NO_FORMAT = _names("lang noProof rPrChange webHidden")


class InlineElement(NamedTuple):
    """An element of a paragraph; `rpr` is the format of the run around it."""

    element: Element
    in_run: bool = True
    rpr: Element | None = None


@dataclass(eq=False)
class Container:
    """An element around runs: a link or content control (`wrapper`), or the ends of a hyperlink field."""

    wrapper: Element | None = None
    before: list[InlineElement] = field(default_factory=list)
    after: list[InlineElement] = field(default_factory=list)


@dataclass
class Fragment:
    """A text, or `elements` that are not text, with its format and container."""

    text: str
    elements: list[InlineElement]
    format_key: str
    rpr: Element | None
    container: Container | None
    is_partial_field: bool = False
    """Part of a field that has no matching end in this paragraph and container."""

    @property
    def is_visible_text(self) -> bool:
        """Whether it is text other than blanks."""
        return not self.elements and bool(self.text.strip())


class Markers(NamedTuple):
    """The ends of bookmarks, comments and permissions; they move to the ends of the paragraph."""

    start: list[InlineElement]
    end: list[InlineElement]


def fragments_of(paragraph: Element) -> tuple[list[Fragment], Markers]:
    """The content of a `w:p` in order, and its markers."""
    markers = Markers([], [])
    return _group_fields(list(_fragments(paragraph, None, markers))), markers


def _fragments(parent: Element, container: Container | None, markers: Markers) -> Iterator[Fragment]:
    for child in parent:
        if child.tag == f"{W}r":
            yield from _run_fragments(child, container, markers)
        elif child.tag in _START_MARKERS:
            markers.start.append(InlineElement(child, in_run=False))
        elif child.tag in _END_MARKERS:
            markers.end.append(InlineElement(child, in_run=False))
        elif child.tag == f"{W}hyperlink" and container is None:
            yield from _fragments(child, Container(_empty_copy(child)), markers)
        elif child.tag == f"{W}sdt" and container is None and child.find(f"{W}sdtContent") is not None:
            yield from _fragments(child.find(f"{W}sdtContent"), Container(_empty_copy(child)), markers)
        elif child.tag in _TRANSPARENT:
            yield from _fragments(child, container, markers)
        elif child.tag not in _DROPPED and isinstance(child.tag, str):
            yield Fragment("", [InlineElement(child, in_run=False)], "", None, container)


def _empty_copy(element: Element) -> Element:
    """A copy of a link or content control without its content."""
    copy = element.makeelement(element.tag, dict(element.attrib), element.nsmap)
    if element.tag == f"{W}sdt":
        copy.extend(deepcopy(child) for child in element if child.tag != f"{W}sdtContent")
        copy.append(copy.makeelement(f"{W}sdtContent"))
    return copy


def _run_fragments(run: Element, container: Container | None, markers: Markers) -> Iterator[Fragment]:
    rpr = run.find(f"{W}rPr")
    key = _format_key(rpr)
    for child in run:
        if child.tag == f"{W}t":
            yield Fragment(child.text or "", [], key, rpr, container)
        elif child.tag == f"{W}noBreakHyphen":
            yield Fragment("\u2011", [], key, rpr, container)
        elif child.tag == f"{W}commentReference":
            markers.end.append(InlineElement(child, rpr=rpr))
        elif child.tag not in _DROPPED and isinstance(child.tag, str):
            yield Fragment("", [InlineElement(child, rpr=rpr)], key, rpr, container)


def _format_key(rpr: Element | None) -> str:
    """A key for formats that look the same; it ignores languages and the marks of spell checkers."""
    if rpr is None:
        return ""
    return "\n".join(sorted(_element_key(child) for child in rpr if child.tag not in _NO_FORMAT))


def _element_key(child: Element) -> str:
    attributes = sorted((key, value) for key, value in child.attrib.items() if not key.endswith("}hint"))
    return f"{child.tag} {attributes} {[_element_key(inner) for inner in child]}"


def _group_fields(fragments: list[Fragment]) -> list[Fragment]:
    """`fragments` with each field as one fragment, as Word computes its result, or a link as a container."""
    grouped: list[Fragment] = []
    index = 0
    while index < len(fragments):
        if _field_role(fragments[index]) is None:
            grouped.append(fragments[index])
            index += 1
            continue
        last = _last_of_field(fragments, index)
        if last is None:  # the field continues in another paragraph: its code is not text, its result is
            grouped.append(replace(fragments[index], is_partial_field=True))
            index += 1
            continue
        grouped += _join_field(fragments[index : last + 1])
        index = last + 1
    return grouped


def _field_role(fragment: Fragment) -> str | None:
    """The role of a fragment in a field: "begin", "separate", "end" or "code"."""
    for inline in fragment.elements:
        if inline.element.tag == f"{W}fldChar":
            return str(inline.element.get(f"{W}fldCharType"))
        if inline.element.tag == f"{W}instrText":
            return "code"
    return None


def _last_of_field(fragments: list[Fragment], first: int) -> int | None:
    """The index of the end of the field that begins at `first`; None if it does not begin or end there."""
    if _field_role(fragments[first]) != "begin":
        return None
    depth = 0
    for index in range(first, len(fragments)):
        role = _field_role(fragments[index])
        depth += (role == "begin") - (role == "end")
        if depth == 0:
            return index if fragments[index].container is fragments[first].container else None
    return None


def _join_field(fragments: list[Fragment]) -> list[Fragment]:
    code = [e.element.text or "" for f in fragments for e in f.elements if e.element.tag == f"{W}instrText"]
    roles = [_field_role(fragment) for fragment in fragments]
    is_link = "".join(code).strip().upper().startswith("HYPERLINK") and fragments[0].container is None
    if is_link and roles.count("begin") == 1 and "separate" in roles:
        separator = roles.index("separate")
        before = [inline for fragment in fragments[: separator + 1] for inline in fragment.elements]
        container = Container(None, before, fragments[-1].elements)
        return [replace(fragment, container=container) for fragment in fragments[separator + 1 : -1]]
    elements = []
    for f in fragments:
        text = text_element(fragments[0].elements[0].element, f.text)
        elements += f.elements or [InlineElement(text, rpr=f.rpr)]
    return [replace(fragments[0], elements=elements)]


def text_element(near: Element, text: str) -> Element:
    """A `w:t` with `text` for the document of `near`."""
    element = near.makeelement(f"{W}t", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"})
    element.text = text
    return element
