"""Reads the text and markup of a Word paragraph, and writes a translation with the same markup.

Word splits text into runs wherever it was edited. Here, adjacent runs with the same format are joined. The
format of most of the text is the base format of the paragraph, and only text in another format gets a tag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

from templora_cli.documents.inline import Inline, LoneTag, Mark, number_markup
from templora_cli.documents.readers.docx_fragments import (
    Container,
    Element,
    Fragment,
    InlineElement,
    Markers,
    W,
    fragments_of,
    text_element,
)


class DocxMarkup(NamedTuple):
    """The markup behind a mark: elements to copy, or the container or format of the text inside."""

    elements: tuple[InlineElement, ...] = ()
    container: Container | None = None
    rpr: Element | None = None
    is_partial_field: bool = False


class DocxContent(NamedTuple):
    """The text and markup of a paragraph; `rpr` is its base format."""

    inline: Inline[DocxMarkup]
    rpr: Element | None
    markers: Markers


def read_content(paragraph: Element) -> DocxContent | None:
    """The content of a `w:p`; None if part of a field is among its text, so that it must stay as it is."""
    fragments, markers = fragments_of(paragraph)
    base = _base_formats(fragments)
    _format_blanks(fragments, base)
    inline = number_markup(_pieces(fragments, base))
    lone_tags = (tag for tag in inline.tags.values() if isinstance(tag, LoneTag))
    if any(mark.raw.is_partial_field for tag in lone_tags for mark in tag.marks):
        return None
    rpr = next((f.rpr for f in fragments if f.is_visible_text and f.format_key == base.get(None)), None)
    return DocxContent(inline, rpr, markers)


def replace_content(
    paragraph: Element, content: DocxContent, translation: list[str | Mark[DocxMarkup]]
) -> Element:
    """Replace the content of `paragraph`, except for its properties, with `translation`, and return it."""
    pieces = [*content.inline.lead, *translation, *content.inline.trail]
    elements = _build_elements(paragraph, pieces, content.rpr)
    start, end = ([_in_run(marker) for marker in markers] for markers in content.markers)
    for child in [child for child in paragraph if child.tag != f"{W}pPr"]:
        paragraph.remove(child)
    paragraph.extend([*start, *elements, *end])
    return paragraph


def insert_translation(
    paragraph: Element, content: DocxContent, translation: list[str | Mark[DocxMarkup]]
) -> Element:
    """Insert a paragraph with `translation` after `paragraph`, and return it.

    It has no list number, and no notes, images and other elements that must occur only once.
    """
    pieces = [
        piece
        for piece in (*content.inline.lead, *translation, *content.inline.trail)
        if isinstance(piece, str) or piece.form != "void" or piece.is_optional
    ]
    copied = [
        Mark(p.form, DocxMarkup(tuple(_copies(p.raw.elements)), _copy_container(p.raw.container), p.raw.rpr))
        if isinstance(p, Mark)
        else p
        for p in pieces
    ]
    copy = paragraph.makeelement(paragraph.tag)
    properties = paragraph.find(f"{W}pPr")
    if properties is not None:
        copy.append(deepcopy(properties))
        section = properties.find(f"{W}sectPr")
        if section is not None:  # it ends a section, and the translation belongs to that section
            properties.remove(section)
        numbering = copy[0].find(f"{W}numPr")
        if numbering is not None:
            for child in list(numbering):
                numbering.remove(child)
            numbering.append(numbering.makeelement(f"{W}numId", {f"{W}val": "0"}))
    copy.extend(_build_elements(paragraph, copied, content.rpr))
    paragraph.addnext(copy)
    return copy


def _copies(elements: Iterable[InlineElement]) -> Iterator[InlineElement]:
    return (inline._replace(element=deepcopy(inline.element)) for inline in elements)


def _copy_container(container: Container | None) -> Container | None:
    """A copy of a link. A content control has an identity, so only the text inside it is copied."""
    if container is None or (container.wrapper is not None and container.wrapper.tag == f"{W}sdt"):
        return None if container is None else Container()
    wrapper = None if container.wrapper is None else deepcopy(container.wrapper)
    return Container(wrapper, [*_copies(container.before)], [*_copies(container.after)])


def _base_formats(fragments: list[Fragment]) -> dict[Container | None, str]:
    """The format of most of the text, of the paragraph (None) and of each container."""
    counts: dict[Container | None, Counter[str]] = {}
    for f in fragments:
        if f.is_visible_text:
            counts.setdefault(f.container, Counter())[f.format_key] += len("".join(f.text.split()))
    return {container: count.most_common(1)[0][0] for container, count in counts.items()}


def _format_blanks(fragments: list[Fragment], base: dict[Container | None, str]) -> None:
    """Give blanks and elements the format of the text on both sides, if equal, else the base format."""
    following: list[Fragment | None] = []
    after: Fragment | None = None
    for fragment in reversed(fragments):
        following.append(after)
        after = fragment if fragment.is_visible_text else after
    before: Fragment | None = None
    for fragment, after in zip(fragments, reversed(following), strict=True):
        if fragment.is_visible_text:
            before = fragment
            continue
        fragment.format_key = base.get(fragment.container, "")
        if before is None or after is None or before.container is not after.container:
            continue
        if before.format_key == after.format_key:
            fragment.format_key = before.format_key


def _pieces(fragments: list[Fragment], base: dict[Container | None, str]) -> Iterator[str | Mark[DocxMarkup]]:
    container: Container | None = None
    open_key: str | None = None
    for fragment in fragments:
        key = None if fragment.format_key == base.get(fragment.container, "") else fragment.format_key
        if open_key is not None and (key != open_key or fragment.container is not container):
            yield Mark("close", DocxMarkup())
            open_key = None
        if fragment.container is not container:
            if container is not None:
                yield Mark("close", DocxMarkup())
            container = fragment.container
            if container is not None:
                rpr = _container_format(fragments, container, base)
                yield Mark("open", DocxMarkup(container=container, rpr=rpr), is_link=True)
        if key is not None and key != open_key:
            open_key = key
            yield Mark("open", DocxMarkup(rpr=fragment.rpr))
        if fragment.elements:
            markup = DocxMarkup(tuple(fragment.elements), is_partial_field=fragment.is_partial_field)
            yield Mark("void", markup, is_optional=_is_line_break(fragment))
        else:
            yield fragment.text
    if open_key is not None:
        yield Mark("close", DocxMarkup())
    if container is not None:
        yield Mark("close", DocxMarkup())


def _container_format(
    fragments: list[Fragment], container: Container, base: dict[Container | None, str]
) -> Element | None:
    inside = (f for f in fragments if f.container is container and f.is_visible_text)
    return next((f.rpr for f in inside if f.format_key == base[container]), None)


def _is_line_break(fragment: Fragment) -> bool:
    return all(
        inline.element.tag == f"{W}br" and inline.element.get(f"{W}type", "textWrapping") == "textWrapping"
        for inline in fragment.elements
    )


def _build_elements(
    paragraph: Element, pieces: list[str | Mark[DocxMarkup]], rpr: Element | None
) -> list[Element]:
    """The runs of `pieces`, in their containers; `rpr` is the base format."""
    elements: list[Element] = []
    targets: list[Any] = [elements]
    formats: list[Element | None] = [rpr]
    open_marks: list[DocxMarkup] = []
    for piece in pieces:
        if isinstance(piece, str):
            targets[-1].append(_in_run(InlineElement(text_element(paragraph, piece), rpr=formats[-1])))
        elif piece.form == "void":
            targets[-1].extend(map(_in_run, piece.raw.elements))
        elif piece.form == "open":
            open_marks.append(piece.raw)
            formats.append(piece.raw.rpr)
            targets.append(_open_container(piece.raw.container, targets[-1]))
        else:
            closed = open_marks.pop()
            formats.pop()
            targets.pop()
            if closed.container is not None:
                targets[-1].extend(map(_in_run, closed.container.after))
    return elements


def _open_container(container: Container | None, target: Any) -> Any:
    """Add the beginning of a container to `target`; returns the element or list for its content."""
    if container is None:
        return target
    target.extend(map(_in_run, container.before))
    if container.wrapper is None:
        return target
    target.append(container.wrapper)
    is_control = container.wrapper.tag == f"{W}sdt"
    return container.wrapper.find(f"{W}sdtContent") if is_control else container.wrapper


def _in_run(inline: InlineElement) -> Element:
    """The element, in a new run if it must be in one. It is not copied, so a text box stays inside it."""
    if not inline.in_run:
        return inline.element
    run = inline.element.makeelement(f"{W}r")
    if inline.rpr is not None:
        run.append(_copy_format(inline.rpr))
    run.append(inline.element)
    return run


def _copy_format(rpr: Element) -> Element:
    """A copy of a format for text in another language."""
    copy = deepcopy(rpr)
    for child in copy.findall(f"{W}lang"):
        copy.remove(child)
    for fonts in copy.findall(f"{W}rFonts"):
        fonts.attrib.pop(f"{W}hint", None)
    return copy
