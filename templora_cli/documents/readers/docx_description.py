"""What drawings in Word documents show: words in attributes, some of which are there more than once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from templora_cli.documents.inline import has_words, is_translatable_description, one_line, strip_tags

Element = Any
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
FALLBACK = f"{_MC}Fallback"
"""What old programs show in place of what they do not know: a copy."""
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_SHAPES = "{urn:schemas-microsoft-com:vml}*"
TAGS = (_DRAWING, _SHAPES)
"""Of what may be described: drawings, and shapes as they were drawn before Word 2010."""
_GUESSED = re.compile(
    r"(?:Description automatically generated|AI-generated content may be incorrect"
    r"|Automatisch generierte Beschreibung|KI-generierte Inhalte können fehlerhaft sein"
    r"|Description générée automatiquement|Descripción generada automáticamente"
    r"|Descrizione generata automaticamente|Descrição gerada automaticamente"
    r"|Automatisch gegenereerde beschrijving|描述已自动生成|自動的に生成された説明)[^.\n]{0,60}\.?\s*",
    re.IGNORECASE,
)
"""How Word ends what nobody has written: a guess, in the language of its menus and not of the book."""


class Description(NamedTuple):
    """An attribute of an element that says what a drawing shows."""

    element: Element
    attribute: str

    @property
    def text(self) -> str:
        """Its words, on one line."""
        return " ".join(self.element.get(self.attribute, "").split())


def descriptions_of(element: Element) -> Iterator[Description]:
    """What is said about an element with one of `TAGS`, once where its title is its description too."""
    texts = []
    for attribute in ("title", "descr") if element.tag == _DRAWING else ("alt",):
        text = element.get(attribute, "")
        guessed = any(match.end() == len(text) for match in _GUESSED.finditer(text))
        if is_translatable_description(text) and not guessed and text not in texts:
            texts.append(text)
            yield Description(element, attribute)


def describe(description: Description, translation: str, bilingual: bool) -> bool:
    """Put a translation in its place and in that of its copies; whether it has words."""
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
    """Where the same may be said again: of the picture in a drawing, and of what old programs show."""
    yield from element.getparent().iter("{*}cNvPr")
    alternatives = next(element.iterancestors(f"{_MC}AlternateContent"), None)
    for fallback in () if alternatives is None else alternatives.iterchildren(FALLBACK):
        yield from fallback.iter("*")
