"""Long paragraphs, split at the ends of sentences into parts that are translated separately."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

from templora_cli.documents.document import Chapter, Document, Paragraph
from templora_cli.languages import language as language_of
from templora_cli.scripts import TAG
from templora_cli.text import sentences

CountTokens = Callable[[str], int]
"""The number of tokens of a text."""
Splits = Mapping[str, Sequence[int]]
"""Offsets at which the parts of a paragraph after the first begin, in characters. The keys are the indices of
the paragraphs in the document, as strings because of JSON."""


def split_text(text: str, count_tokens: CountTokens, *, group_tokens: int, max_tokens: int) -> list[str]:
    """Split a text at the ends of sentences; the parts, joined, are the text.

    Sentences are grouped up to `group_tokens`. A sentence with more than `max_tokens` is itself split.
    """
    parts: list[str] = []
    overhead, part_tokens = count_tokens(""), 0
    for sentence in sentences(text):
        tokens = count_tokens(sentence)
        # Joined sentences have no more tokens than the sum, so each sentence is counted only once.
        if parts and part_tokens + tokens - overhead <= group_tokens:
            parts[-1] += sentence
            part_tokens += tokens - overhead
        else:
            parts += _split_sentence(sentence, count_tokens, max_tokens)
            part_tokens = count_tokens(parts[-1])
    return parts


def _split_sentence(sentence: str, count_tokens: CountTokens, max_tokens: int) -> list[str]:
    """Split at a space or, without one, between characters, but never inside a tag."""
    if count_tokens(sentence) <= max_tokens or len(sentence) < 2:
        return [sentence]
    middle = len(sentence) // 2
    space = sentence.find(" ", middle)
    offset = space + 1 if 0 < space < len(sentence) - 1 else middle
    if tag := next((tag for tag in TAG.finditer(sentence) if tag.start() < offset < tag.end()), None):
        offset = tag.start() or tag.end()
    if offset >= len(sentence):
        return [sentence]
    halves = sentence[:offset], sentence[offset:]
    return [part for half in halves for part in _split_sentence(half, count_tokens, max_tokens)]


def find_splits(
    paragraphs: Sequence[Paragraph], count_tokens: CountTokens, max_tokens: int
) -> dict[str, list[int]]:
    """Where to split each paragraph that has more than `max_tokens`; the others are left out."""
    overhead = count_tokens("")
    splits = {}
    for index, paragraph in enumerate(paragraphs):
        text = paragraph.text
        max_possible = overhead + len(text.encode("utf-8"))  # no byte is two tokens
        if max_possible <= max_tokens or count_tokens(text) <= max_tokens:
            continue
        parts = split_text(text, count_tokens, group_tokens=max_tokens, max_tokens=max_tokens)
        *lengths, _ = map(len, parts)
        splits[str(index)] = [*accumulate(lengths)]
    return splits


class SplitDocument:
    """A document whose long paragraphs are split into several. Implements `Document`."""

    def __init__(self, document: Document, splits: Splits) -> None:
        """`splits` are those of the document's paragraphs."""
        self._document, self.splits = document, splits
        self.suffix = document.suffix
        self.paragraphs: list[Paragraph] = []
        self.numbers: dict[int, str] = {}
        """The number of each paragraph for people: "13" as in the original document, or "13.1" for a part."""
        self._first_parts: list[int] = []
        for number, paragraph in enumerate(document.paragraphs):
            self._first_parts.append(len(self.paragraphs))
            bounds = [0, *splits.get(str(number), ()), len(paragraph.text)]
            parts = [paragraph.text[start:end].strip() for start, end in pairwise(bounds)]
            for part in range(len(parts)):
                part_number = f".{part + 1}" if len(parts) > 1 else ""
                self.numbers[len(self.paragraphs) + part] = f"{number + 1}{part_number}"
            self.paragraphs += [Paragraph(part, paragraph.kind, paragraph.chapter) for part in parts]
        self._first_parts.append(len(self.paragraphs))
        self.chapters = [
            Chapter(chapter.title, self.index_of(chapter.first), self.index_of(chapter.end))
            for chapter in document.chapters
        ]

    def index_of(self, original_index: int) -> int:
        """The index here of a paragraph, or of the end, of the original document; of a split one, that of its
        first part.
        """
        return self._first_parts[original_index]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document.render`. Parts without a translation stay as they are."""
        space = " " if language_of(language).has_spaces else ""
        joined: dict[int, str] = {}
        for original_index, indices in enumerate(map(range, self._first_parts, self._first_parts[1:])):
            if any(translations.get(index, "").strip() for index in indices):
                parts = (
                    translations.get(index, "").strip() or self.paragraphs[index].text for index in indices
                )
                joined[original_index] = space.join(parts)
        return self._document.render(joined, language, bilingual=bilingual)
