"""The direction of writing in Word documents: of paragraphs, runs and tables."""

from __future__ import annotations

from templora_cli.documents.markup import element_names
from templora_cli.documents.readers.docx_fragments import Element, W

_AFTER_BIDI = element_names(
    "adjustRightInd snapToGrid spacing ind contextualSpacing mirrorIndents suppressOverlap jc textDirection "
    "textAlignment textboxTightWrap outlineLvl divId cnfStyle rPr sectPr pPrChange"
)
"""Elements after `w:bidi` in the properties of a paragraph (ECMA-376, part 1, 17.3.1.26)."""
_AFTER_RTL = element_names("cs em lang eastAsianLayout specVanish oMath rPrChange")
"""Elements after `w:rtl` in the properties of a run (17.3.2.28)."""
_AFTER_BIDI_VISUAL = element_names(
    "tblStyleRowBandSize tblStyleColBandSize tblW jc tblCellSpacing tblInd tblBorders shd tblLayout "
    "tblCellMar tblLook tblCaption tblDescription tblPrChange"
)
"""Elements after `w:bidiVisual` in the properties of a table (17.4.60)."""
_COMPLEX_SCRIPT_TWINS = {f"{W}b": f"{W}bCs", f"{W}i": f"{W}iCs", f"{W}sz": f"{W}szCs"}
"""Right-to-left scripts have separate elements for bold, italic and size."""


def set_direction(paragraph: Element, right_to_left: bool) -> None:
    """Set a translated `w:p` and its runs to right-to-left, or switch that off where the source had it."""
    properties = paragraph.find(f"{W}pPr")
    if properties is None and right_to_left:
        properties = paragraph.makeelement(f"{W}pPr")
        paragraph.insert(0, properties)
    if properties is not None:
        _set_property(properties, "bidi", _AFTER_BIDI, right_to_left)
    for run in paragraph.iter(f"{W}r"):
        if run.find(f"{W}t") is None or next(run.iterancestors(f"{W}p")) is not paragraph:
            continue  # an image, or text in a text box
        run_properties = run.find(f"{W}rPr")
        if run_properties is None and right_to_left:
            run_properties = run.makeelement(f"{W}rPr")
            run.insert(0, run_properties)
        if run_properties is not None:
            _set_property(run_properties, "rtl", _AFTER_RTL, right_to_left)
            if right_to_left:
                _add_twins(run_properties)


def set_columns(paragraph: Element, right_to_left: bool) -> None:
    """Set the columns of the table around a translated `w:p`, if any, to the direction of its text."""
    table = next(paragraph.iterancestors(f"{W}tbl"), None)
    properties = None if table is None else table.find(f"{W}tblPr")
    if properties is not None:
        _set_property(properties, "bidiVisual", _AFTER_BIDI_VISUAL, right_to_left)


def _set_property(properties: Element, name: str, after: frozenset[str], on: bool) -> None:
    """Set a property. "Off" is written, so that no style switches it on, but only if the source had it."""
    element = properties.find(f"{W}{name}")
    if element is None and on:
        element = properties.makeelement(f"{W}{name}")
        position = next(
            (i for i, child in enumerate(properties) if str(child.tag).removeprefix(W) in after),
            len(properties),
        )
        properties.insert(position, element)
    elif element is not None and on:
        element.attrib.pop(f"{W}val", None)
    elif element is not None:
        element.set(f"{W}val", "0")


def _add_twins(run_properties: Element) -> None:
    for name, twin in _COMPLEX_SCRIPT_TWINS.items():
        element = run_properties.find(name)
        if element is not None and run_properties.find(twin) is None:
            element.addnext(run_properties.makeelement(twin, dict(element.attrib)))
