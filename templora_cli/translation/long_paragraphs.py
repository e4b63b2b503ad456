"""Paragraphs that are too long for a chunk, cut at the ends of sentences: each part is one to translate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

from templora_cli.documents.document import Chapter, Document, Paragraph
from templora_cli.text import sentences
from templora_cli.translation.languages import language as language_of
from templora_cli.translation.scripts import TAG

Size = Callable[[str], int]
"""Of a text, in tokens."""
Cuts = Mapping[str, Sequence[int]]
"""Where the parts of a paragraph begin after the first, in characters, by its place in the document (in
digits, as JSON has it)."""


def parts_of(text: str, size: Size, *, together: int, longest: int) -> list[str]:
    """A text cut at the ends of sentences; joined, the parts are the text.

    Sentences stay together up to a size of `together`, and what is larger than `longest` is cut within.
    """
    parts: list[str] = []
    around, taken = size(""), 0
    for sentence in sentences(text):
        alone = size(sentence)
        # Sentences beside each other are no more tokens than each by itself, and each is counted once.
        if parts and taken + alone - around <= together:
            parts[-1] += sentence
            taken += alone - around
        else:
            parts += _cut(sentence, size, longest)
            taken = size(parts[-1])
    return parts


def _cut(sentence: str, size: Size, longest: int) -> list[str]:
    """A sentence in parts of words or, without any, of characters; tags stay whole."""
    if size(sentence) <= longest or len(sentence) < 2:
        return [sentence]
    middle = len(sentence) // 2
    space = sentence.find(" ", middle)
    cut = space + 1 if 0 < space < len(sentence) - 1 else middle
    if tag := next((tag for tag in TAG.finditer(sentence) if tag.start() < cut < tag.end()), None):
        cut = tag.start() or tag.end()
    if cut >= len(sentence):
        return [sentence]
    return [*_cut(sentence[:cut], size, longest), *_cut(sentence[cut:], size, longest)]


def cuts_of(paragraphs: Sequence[Paragraph], size: Size, most: int) -> dict[str, list[int]]:
    """Where paragraphs larger than `most` are cut; without the others."""
    around = size("")
    cuts = {}
    for number, paragraph in enumerate(paragraphs):
        text = paragraph.text
        if around + len(text.encode("utf-8")) <= most or size(text) <= most:  # no byte is two tokens
            continue
        *lengths, _ = map(len, parts_of(text, size, together=most, longest=most))
        cuts[str(number)] = [*accumulate(lengths)]
    return cuts


class CutDocument:
    """A document in which the parts of long paragraphs are paragraphs. Implements `Document`."""

    def __init__(self, document: Document, cuts: Cuts) -> None:
        """`cuts` are those of the document's paragraphs."""
        self._whole, self.cuts = document, cuts
        self.suffix = document.suffix
        self.paragraphs: list[Paragraph] = []
        self.numbers: dict[int, str] = {}
        """What a person calls each: "13", as the whole document counts them, and "13.1" what is a part."""
        self._firsts: list[int] = []
        for number, paragraph in enumerate(document.paragraphs):
            self._firsts.append(len(self.paragraphs))
            bounds = [0, *cuts.get(str(number), ()), len(paragraph.text)]
            parts = [paragraph.text[start:end].strip() for start, end in pairwise(bounds)]
            for part in range(len(parts)):
                number_of_part = f".{part + 1}" if len(parts) > 1 else ""
                self.numbers[len(self.paragraphs) + part] = f"{number + 1}{number_of_part}"
            self.paragraphs += [Paragraph(part, paragraph.kind, paragraph.chapter) for part in parts]
        self._firsts.append(len(self.paragraphs))
        self.chapters = [
            Chapter(chapter.title, self.place(chapter.first), self.place(chapter.end))
            for chapter in document.chapters
        ]

    def place(self, number: int) -> int:
        """Where paragraph `number` of the whole document, or its end, is in this one."""
        return self._firsts[number]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Of a paragraph of which some parts are translated, the others stay as they are."""
        space = " " if language_of(language).has_spaces else ""
        whole: dict[int, str] = {}
        for number, places in enumerate(map(range, self._firsts, self._firsts[1:])):
            if any(translations.get(place, "").strip() for place in places):
                said = (
                    translations.get(place, "").strip() or self.paragraphs[place].text for place in places
                )
                whole[number] = space.join(said)
        return self._whole.render(whole, language, bilingual=bilingual)
