"""Descriptions of drawings in Word documents: text in attributes, some of it in several copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from templora_cli.documents.inline import has_words, is_translatable_description, one_line, strip_tags
from templora_cli.documents.readers.docx_fragments import Element

_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
FALLBACK = f"{_MC}Fallback"
"""A copy of a drawing or text box, for programs that do not know the new form."""
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_VML_SHAPES = "{urn:schemas-microsoft-com:vml}*"
DESCRIBED_TAGS = (_DRAWING, _VML_SHAPES)
"""Elements with a description: drawings, and VML shapes (before Word 2010)."""
_GENERATED_ENDING = re.compile(
    r"(?:Description automatically generated|AI-generated content may be incorrect"
    r"|Automatisch generierte Beschreibung|KI-generierte Inhalte können fehlerhaft sein"
    r"|Description générée automatiquement|Descripción generada automáticamente"
    r"|Descrizione generata automaticamente|Descrição gerada automaticamente"
    r"|Automatisch gegenereerde beschrijving|描述已自动生成|自動的に生成された説明)[^.\n]{0,60}\.?\s*",
    re.IGNORECASE,
)
"""The end of a description that Word generated, in the language of its menus, not of the book."""


class Description(NamedTuple):
    """An attribute with the description of a drawing."""

    element: Element
    attribute: str

    @property
    def text(self) -> str:
        """The description, on one line."""
        return " ".join(self.element.get(self.attribute, "").split())


def descriptions_of(element: Element) -> Iterator[Description]:
    """The descriptions of an element with one of `DESCRIBED_TAGS`, without duplicates."""
    texts = []
    for attribute in ("title", "descr") if element.tag == _DRAWING else ("alt",):
        text = element.get(attribute, "")
        is_generated = any(match.end() == len(text) for match in _GENERATED_ENDING.finditer(text))
        if is_translatable_description(text) and not is_generated and text not in texts:
            texts.append(text)
            yield Description(element, attribute)


def translate_description(description: Description, translation: str, bilingual: bool) -> bool:
    """Write a translation to a description and its copies. Returns False if the translation has no words."""
    source, words = description.text, strip_tags(one_line(translation))
    if not has_words(words):
        return False
    value = f"{source} / {words}" if bilingual else words
    for element in (description.element, *_copies(description.element)):
        for attribute in ("title", "descr", "alt"):
            if Description(element, attribute).text == source:
                element.set(attribute, value)
    return True


def _copies(element: Element) -> Iterator[Element]:
    """Elements that may repeat the description: the picture in a drawing, and the fallback."""
    yield from element.getparent().iter("{*}cNvPr")
    alternatives = next(element.iterancestors(f"{_MC}AlternateContent"), None)
    for fallback in () if alternatives is None else alternatives.iterchildren(FALLBACK):
        yield from fallback.iter("*")
