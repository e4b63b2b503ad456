"""A document as a sequence of paragraphs, and its rendering with translations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from templora_cli.documents.inline import strip_tags

Kind = Literal["text", "heading", "item", "cell", "caption", "metadata", "contents"]

MAX_BYTES = 1 << 29
"""Limit for a file, and for the unpacked content of an archive, including pictures."""
MAX_TEXT_BYTES = 1 << 26
"""Limit for one text: far more than any book."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph as a model sees it."""

    text: str
    """One line with single blanks; markup inside it as numbered tags, `so <1>much</1> of it<2/>`."""
    kind: Kind
    """"contents" is an entry of a table of contents that does not repeat a heading."""
    chapter: int
    """Index into `chapters`."""


@dataclass(frozen=True)
class Chapter:
    """Paragraphs `first` to `end` (exclusive). Every paragraph is in one chapter. `title` may be empty."""

    title: str
    first: int
    end: int


class Document(Protocol):
    """A file that was read, as paragraphs to translate."""

    @property
    def suffix(self) -> str:
        """The suffix of the format: ".epub"."""

    @property
    def paragraphs(self) -> Sequence[Paragraph]:
        """All text to translate, in reading order."""

    @property
    def chapters(self) -> Sequence[Chapter]:
        """The chapters of `paragraphs`."""

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """The file with `translations`, which map the index of a paragraph to its text with tags.

        A paragraph without a translation, or with a blank one, stays as it is; without any translation the
        result is the original bytes. Mismatched tags are repaired, so the result is always valid. `language`
        is the BCP 47 code of the translations and is set if the format can state it. `bilingual` keeps
        each source paragraph before its translation. Text is written as UTF-8.
        """


def is_right_to_left(language: str) -> bool:
    """Whether a language (a BCP 47 code) is written from right to left."""
    main, *others = re.split("[-_]", language.lower())
    if scripts := [part for part in others if len(part) == 4 and part.isalpha()]:
        return scripts[0] in ("arab", "hebr", "thaa", "syrc", "nkoo", "adlm")
    return main in ("ar", "ckb", "dv", "fa", "he", "ks", "nqo", "pnb", "ps", "sd", "syr", "ug", "ur", "yi")


class ReadParagraph(NamedTuple):
    """A paragraph as a reader finds it, not yet assigned to a chapter."""

    text: str
    kind: Kind
    level: int = 0
    """Level of a heading: 1 is the highest, 0 the title of a whole work. 0 for other kinds."""


class ChapterStart(NamedTuple):
    """The title of a chapter and the index of its first paragraph."""

    first: int
    title: str


def chapter_level(paragraphs: Iterable[ReadParagraph]) -> int:
    """The level of headings that begin chapters: the highest that occurs twice, else the highest."""
    levels = Counter(p.level for p in paragraphs if p.kind == "heading")
    return min((level for level, count in levels.items() if count > 1), default=min(levels, default=0))


def chapter_starts(paragraphs: Sequence[ReadParagraph]) -> list[ChapterStart]:
    """The chapters that begin at headings of `chapter_level` or higher.

    Paragraphs before the first heading are a chapter too, unless they are only metadata and captions.
    """
    level = chapter_level(paragraphs)
    starts = [
        ChapterStart(index, strip_tags(p.text))
        for index, p in enumerate(paragraphs)
        if p.kind == "heading" and p.level <= level
    ]
    if starts and all(p.kind in ("metadata", "caption") for p in paragraphs[: starts[0].first]):
        return starts
    return [ChapterStart(0, ""), *starts]


def split_into_chapters(
    read_paragraphs: Sequence[ReadParagraph], starts: Sequence[ChapterStart]
) -> tuple[tuple[Paragraph, ...], tuple[Chapter, ...]]:
    """Paragraphs and chapters. The first chapter begins at paragraph 0, even if its start is later."""
    firsts = [0, *(start.first for start in starts[1:])]
    bounds = zip(starts, firsts, [*firsts[1:], len(read_paragraphs)], strict=True)
    chapters = [Chapter(start.title, first, end) for start, first, end in bounds if end > first]
    paragraphs = [
        Paragraph(p.text, p.kind, index)
        for index, chapter in enumerate(chapters)
        for p in read_paragraphs[chapter.first : chapter.end]
    ]
    return tuple(paragraphs), tuple(chapters)
