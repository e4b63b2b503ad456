"""The words and markup of a Word paragraph, and the paragraph written anew around a translation.

Word cuts text into runs wherever an editor was at work. Here runs that look the same are one stretch, the
looks of most of the words are those of the paragraph, and only what looks otherwise gets a tag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from templora_cli.documents.inline import Inline, LoneTag, Mark, inline_of

Element = Any
"""Of lxml, which has no types."""

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def _names(names: str) -> frozenset[str]:
    return frozenset(f"{W}{name}" for name in names.split())


_HEADS = _names("bookmarkStart commentRangeStart permStart")
_TAILS = _names("bookmarkEnd commentRangeEnd permEnd")
_DROPPED = _names("proofErr lastRenderedPageBreak softHyphen rPr pPr")
_TRANSPARENT = _names("smartTag customXml dir bdo")
_NO_LOOKS = _names("lang noProof rPrChange webHidden")


class DocxPiece(NamedTuple):
    """An element of a paragraph; `rpr` is the format of the run that it stood in."""

    element: Element
    in_run: bool = True
    rpr: Element | None = None


@dataclass(eq=False)
class Container:
    """What holds runs: a link or a content control (`shell`), or the two ends of a field that is a link."""

    shell: Element | None = None
    before: list[DocxPiece] = field(default_factory=list)
    after: list[DocxPiece] = field(default_factory=list)


@dataclass
class _Atom:
    """A text, or parts that are none, and where it stands."""

    text: str
    parts: list[DocxPiece]
    look: str
    rpr: Element | None
    container: Container | None
    half: bool = False
    """One end of a field whose other end is in another paragraph, or the like."""

    @property
    def words(self) -> bool:
        return not self.parts and bool(self.text.strip())


class Raw(NamedTuple):
    """What a mark stands for: parts as they are; or a container, or looks, of what is inside."""

    parts: tuple[DocxPiece, ...] = ()
    container: Container | None = None
    rpr: Element | None = None
    half: bool = False


class Words(NamedTuple):
    """What a paragraph says and how it looks."""

    inline: Inline[Raw]
    rpr: Element | None
    heads: list[DocxPiece]
    tails: list[DocxPiece]


def words_of(paragraph: Element) -> Words | None:
    """The words of a `w:p`; None where its markup cannot be taken apart and the paragraph must stay."""
    ends: tuple[list[DocxPiece], list[DocxPiece]] = [], []
    atoms = _with_fields(list(_atoms(paragraph, None, ends)))
    base = _settle(atoms)
    inline = inline_of(_pieces(atoms, base))
    voids = (tag for tag in inline.tags.values() if isinstance(tag, LoneTag))
    if any(mark.raw.half for void in voids for mark in void.marks):
        return None
    rpr = next((atom.rpr for atom in atoms if atom.words and atom.look == base.get(None)), None)
    return Words(inline, rpr, *ends)


def write(paragraph: Element, words: Words, placed: list[str | Mark[Raw]]) -> Element:
    """Make `placed` the content of `paragraph`, in the markup of `words`; returns it. Its properties stay."""
    pieces = [*words.inline.lead, *placed, *words.inline.trail]
    content = _written(paragraph, pieces, words.rpr)
    content = [*map(_element, words.heads), *content, *map(_element, words.tails)]
    for child in [child for child in paragraph if child.tag != f"{W}pPr"]:
        paragraph.remove(child)
    paragraph.extend(content)
    return paragraph


def write_beside(paragraph: Element, words: Words, placed: list[str | Mark[Raw]]) -> Element:
    """Put a paragraph with `placed` behind `paragraph` and return it: without a number of its own, and
    without notes, images and whatever else must be there only once."""
    pieces = [
        piece
        for piece in (*words.inline.lead, *placed, *words.inline.trail)
        if isinstance(piece, str) or piece.form != "void" or piece.spare
    ]
    copied = [
        Mark(p.form, Raw(tuple(_copied(p.raw.parts)), _copy_of(p.raw.container), p.raw.rpr))
        if isinstance(p, Mark)
        else p
        for p in pieces
    ]
    copy = paragraph.makeelement(paragraph.tag)
    properties = paragraph.find(f"{W}pPr")
    if properties is not None:
        copy.append(deepcopy(properties))
        section = properties.find(f"{W}sectPr")
        if section is not None:  # ends a section, which the translation belongs to
            properties.remove(section)
        numbering = copy[0].find(f"{W}numPr")
        if numbering is not None:
            for child in list(numbering):
                numbering.remove(child)
            numbering.append(numbering.makeelement(f"{W}numId", {f"{W}val": "0"}))
    copy.extend(_written(paragraph, copied, words.rpr))
    paragraph.addnext(copy)
    return copy


def _copied(parts: Iterable[DocxPiece]) -> Iterator[DocxPiece]:
    return (part._replace(element=deepcopy(part.element)) for part in parts)


def _copy_of(container: Container | None) -> Container | None:
    """Links may be there twice; content controls have identities, and only their words are copied."""
    if container is None or (container.shell is not None and container.shell.tag == f"{W}sdt"):
        return None if container is None else Container()
    shell = None if container.shell is None else deepcopy(container.shell)
    return Container(shell, [*_copied(container.before)], [*_copied(container.after)])


def _atoms(
    parent: Element, container: Container | None, ends: tuple[list[DocxPiece], list[DocxPiece]]
) -> Iterator[_Atom]:
    for child in parent:
        if child.tag == f"{W}r":
            yield from _run_atoms(child, container, ends[1])
        elif child.tag in _HEADS:
            ends[0].append(DocxPiece(child, in_run=False))
        elif child.tag in _TAILS:
            ends[1].append(DocxPiece(child, in_run=False))
        elif child.tag == f"{W}hyperlink" and container is None:
            yield from _atoms(child, Container(_emptied(child)), ends)
        elif child.tag == f"{W}sdt" and container is None and child.find(f"{W}sdtContent") is not None:
            yield from _atoms(child.find(f"{W}sdtContent"), Container(_emptied(child)), ends)
        elif child.tag in _TRANSPARENT:
            yield from _atoms(child, container, ends)
        elif child.tag not in _DROPPED and isinstance(child.tag, str):
            yield _Atom("", [DocxPiece(child, in_run=False)], "", None, container)


def _emptied(element: Element) -> Element:
    """A copy of a link or a content control without what it holds."""
    copy = element.makeelement(element.tag, dict(element.attrib), element.nsmap)
    if element.tag == f"{W}sdt":
        copy.extend(deepcopy(child) for child in element if child.tag != f"{W}sdtContent")
        copy.append(copy.makeelement(f"{W}sdtContent"))
    return copy


def _run_atoms(run: Element, container: Container | None, tails: list[DocxPiece]) -> Iterator[_Atom]:
    rpr = run.find(f"{W}rPr")
    look = _look_of(rpr)
    for child in run:
        if child.tag == f"{W}t":
            yield _Atom(child.text or "", [], look, rpr, container)
        elif child.tag == f"{W}noBreakHyphen":
            yield _Atom("\u2011", [], look, rpr, container)
        elif child.tag == f"{W}commentReference":
            tails.append(DocxPiece(child, rpr=rpr))
        elif child.tag not in _DROPPED and isinstance(child.tag, str):
            yield _Atom("", [DocxPiece(child, rpr=rpr)], look, rpr, container)


def _look_of(rpr: Element | None) -> str:
    """What tells two formats apart; languages and the marks of spell checkers do not."""
    if rpr is None:
        return ""
    return "\n".join(sorted(_look(child) for child in rpr if child.tag not in _NO_LOOKS))


def _look(child: Element) -> str:
    attributes = sorted((key, value) for key, value in child.attrib.items() if not key.endswith("}hint"))
    return f"{child.tag} {attributes} {[_look(inner) for inner in child]}"


def _with_fields(atoms: list[_Atom]) -> list[_Atom]:
    """`atoms` with each field as one atom (Word makes its result), or as a container if it is a link."""
    done: list[_Atom] = []
    at = 0
    while at < len(atoms):
        if _field_end(atoms[at]) is None:
            done.append(atoms[at])
            at += 1
            continue
        last = _last_of_field(atoms, at)
        if last is None:  # goes on in another paragraph: its code is no text, its result is
            done.append(replace(atoms[at], half=True))
            at += 1
            continue
        done += _field(atoms[at : last + 1])
        at = last + 1
    return done


def _field_end(atom: _Atom) -> str | None:
    """Which part of a field an atom is: "begin", "separate", "end", "code"."""
    for part in atom.parts:
        if part.element.tag == f"{W}fldChar":
            return str(part.element.get(f"{W}fldCharType"))
        if part.element.tag == f"{W}instrText":
            return "code"
    return None


def _last_of_field(atoms: list[_Atom], first: int) -> int | None:
    if _field_end(atoms[first]) != "begin":
        return None
    depth = 0
    for index in range(first, len(atoms)):
        end = _field_end(atoms[index])
        depth += (end == "begin") - (end == "end")
        if depth == 0:
            return index if atoms[index].container is atoms[first].container else None
    return None


def _field(atoms: list[_Atom]) -> list[_Atom]:
    code = "".join(p.element.text or "" for a in atoms for p in a.parts if p.element.tag == f"{W}instrText")
    ends = [_field_end(atom) for atom in atoms]
    link = code.strip().upper().startswith("HYPERLINK") and atoms[0].container is None
    if link and ends.count("begin") == 1 and "separate" in ends:
        at = ends.index("separate")
        parts = [part for atom in atoms[: at + 1] for part in atom.parts]
        container = Container(None, parts, atoms[-1].parts)
        return [replace(atom, container=container) for atom in atoms[at + 1 : -1]]
    parts = []
    for atom in atoms:
        parts += atom.parts or [DocxPiece(_text(atoms[0].parts[0].element, atom.text), rpr=atom.rpr)]
    return [replace(atoms[0], parts=parts)]


def _settle(atoms: list[_Atom]) -> dict[Container | None, str]:
    """The looks of most words, of the paragraph and of each container.

    Blanks and all that is no text get the looks of the words on their two sides, if these look the same.
    """
    counts: dict[Container | None, Counter[str]] = {}
    for atom in atoms:
        if atom.words:
            counts.setdefault(atom.container, Counter())[atom.look] += len("".join(atom.text.split()))
    base = {container: count.most_common(1)[0][0] for container, count in counts.items()}
    after: _Atom | None = None
    following = []
    for atom in reversed(atoms):
        following.append(after)
        after = atom if atom.words else after
    before: _Atom | None = None
    for atom, after in zip(atoms, reversed(following), strict=True):
        if atom.words:
            before = atom
            continue
        same = before is not None and after is not None and before.look == after.look
        inside = same and before is not None and after is not None and before.container is after.container
        atom.look = before.look if before is not None and inside else base.get(atom.container, "")
    return base


def _pieces(atoms: list[_Atom], base: dict[Container | None, str]) -> Iterator[str | Mark[Raw]]:
    container: Container | None = None
    look: str | None = None
    for atom in atoms:
        own = None if atom.look == base.get(atom.container, "") else atom.look
        if look is not None and (own != look or atom.container is not container):
            yield Mark("close", Raw())
            look = None
        if atom.container is not container:
            if container is not None:
                yield Mark("close", Raw())
            container = atom.container
            if container is not None:
                rpr = (
                    next(
                        (
                            a.rpr
                            for a in atoms
                            if a.container is container and a.words and a.look == base[container]
                        ),
                        None,
                    )
                    if container in base
                    else None
                )
                yield Mark("open", Raw(container=container, rpr=rpr), link=True)
        if own is not None and own != look:
            look = own
            yield Mark("open", Raw(rpr=atom.rpr))
        if atom.parts:
            yield Mark("void", Raw(tuple(atom.parts), half=atom.half), spare=_is_line_break(atom))
        else:
            yield atom.text
    if look is not None:
        yield Mark("close", Raw())
    if container is not None:
        yield Mark("close", Raw())


def _is_line_break(atom: _Atom) -> bool:
    return all(
        part.element.tag == f"{W}br" and part.element.get(f"{W}type", "textWrapping") == "textWrapping"
        for part in atom.parts
    )


def _written(paragraph: Element, pieces: list[str | Mark[Raw]], rpr: Element | None) -> list[Element]:
    """Runs and what holds them."""
    out: list[Element] = []
    targets: list[Any] = [out]
    formats: list[Element | None] = [rpr]
    opened: list[Raw] = []
    for piece in pieces:
        if isinstance(piece, str):
            targets[-1].append(_element(DocxPiece(_text(paragraph, piece), rpr=formats[-1])))
        elif piece.form == "void":
            targets[-1].extend(map(_element, piece.raw.parts))
        elif piece.form == "open":
            opened.append(piece.raw)
            formats.append(piece.raw.rpr)
            targets.append(_opened(piece.raw.container, targets[-1]))
        else:
            closed = opened.pop()
            formats.pop()
            targets.pop()
            if closed.container is not None:
                targets[-1].extend(map(_element, closed.container.after))
    return out


def _opened(container: Container | None, target: Any) -> Any:
    """Where what is inside a container goes."""
    if container is None:
        return target
    target.extend(map(_element, container.before))
    if container.shell is None:
        return target
    target.append(container.shell)
    return container.shell.find(f"{W}sdtContent") if container.shell.tag == f"{W}sdt" else container.shell


def _text(near: Element, text: str) -> Element:
    element = near.makeelement(f"{W}t", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"})
    element.text = text
    return element


def _element(part: DocxPiece) -> Element:
    """`part` in a run, if it must stand in one: the element itself, so that text boxes in it stay with it."""
    if not part.in_run:
        return part.element
    run = part.element.makeelement(f"{W}r")
    if part.rpr is not None:
        run.append(_format(part.rpr))
    run.append(part.element)
    return run


def _format(rpr: Element) -> Element:
    """A copy for words of another language."""
    copy = deepcopy(rpr)
    for child in copy.findall(f"{W}lang"):
        copy.remove(child)
    for fonts in copy.findall(f"{W}rFonts"):
        fonts.attrib.pop(f"{W}hint", None)
    return copy
