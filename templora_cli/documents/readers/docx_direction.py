"""The direction of writing in Word documents: of paragraphs, and of the words in them."""

from __future__ import annotations

from typing import Any

from templora_cli.documents.markup import element_names

Element = Any
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"

_AFTER_BIDI = element_names(
    "adjustRightInd snapToGrid spacing ind contextualSpacing mirrorIndents suppressOverlap jc textDirection "
    "textAlignment textboxTightWrap outlineLvl divId cnfStyle rPr sectPr pPrChange"
)
"""What comes after `w:bidi` in the properties of a paragraph (ECMA-376, part 1, 17.3.1.26)."""
_AFTER_RTL = element_names("cs em lang eastAsianLayout specVanish oMath rPrChange")
"""What comes after `w:rtl` in those of a run (17.3.2.28)."""
_AFTER_BIDI_VISUAL = element_names(
    "tblStyleRowBandSize tblStyleColBandSize tblW jc tblCellSpacing tblInd tblBorders shd tblLayout "
    "tblCellMar tblLook tblCaption tblDescription tblPrChange"
)
"""What comes after `w:bidiVisual` in those of a table (17.4.60)."""
_TWINS = {f"{W}b": f"{W}bCs", f"{W}i": f"{W}iCs", f"{W}sz": f"{W}szCs"}
"""Bold, italic and size have an element of their own for scripts from right to left."""


def set_direction(paragraph: Element, to_left: bool) -> None:
    """Make a translated `w:p` and its words run from right to left, or no longer where they did."""
    properties = paragraph.find(f"{W}pPr")
    if properties is None and to_left:
        properties = paragraph.makeelement(f"{W}pPr")
        paragraph.insert(0, properties)
    if properties is not None:
        _switch(properties, "bidi", _AFTER_BIDI, to_left)
    for run in paragraph.iter(f"{W}r"):
        if run.find(f"{W}t") is None or next(run.iterancestors(f"{W}p")) is not paragraph:
            continue  # an image, or the words of a text box in it
        looks = run.find(f"{W}rPr")
        if looks is None and to_left:
            looks = run.makeelement(f"{W}rPr")
            run.insert(0, looks)
        if looks is not None:
            _switch(looks, "rtl", _AFTER_RTL, to_left)
            if to_left:
                _add_twins(looks)


def set_columns(paragraph: Element, to_left: bool) -> None:
    """Let the columns of the table that a translated `w:p` stands in, if any, run as its words do."""
    table = next(paragraph.iterancestors(f"{W}tbl"), None)
    properties = None if table is None else table.find(f"{W}tblPr")
    if properties is not None:
        _switch(properties, "bidiVisual", _AFTER_BIDI_VISUAL, to_left)


def _switch(properties: Element, name: str, after: frozenset[str], on: bool) -> None:
    """Set a property; off is written only where it was on, so that a style that says so does not count."""
    found = properties.find(f"{W}{name}")
    if found is None and on:
        found = properties.makeelement(f"{W}{name}")
        place = next(
            (i for i, child in enumerate(properties) if str(child.tag).removeprefix(W) in after),
            len(properties),
        )
        properties.insert(place, found)
    elif found is not None and on:
        found.attrib.pop(f"{W}val", None)
    elif found is not None:
        found.set(f"{W}val", "0")


def _add_twins(looks: Element) -> None:
    for name, twin in _TWINS.items():
        found = looks.find(name)
        if found is not None and looks.find(twin) is None:
            found.addnext(looks.makeelement(twin, dict(found.attrib)))
