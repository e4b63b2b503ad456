"""A document as a sequence of paragraphs, and the same document with their translations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from templora_cli.documents.inline import plain

Kind = Literal["text", "heading", "item", "cell", "caption", "metadata", "contents"]

MAX_BYTES = 1 << 29
"""Of a file, and of all that an archive holds unpacked, pictures too."""
MAX_TEXT_BYTES = 1 << 26
"""Of one text: far more than any book."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph as a model sees it."""

    text: str
    """One line, blanks collapsed; markup inside it as numbered tags, `so <1>much</1> of it<2/>`."""
    kind: Kind
    """"contents" is an entry of a table of contents that is no heading's text."""
    chapter: int
    """Index into `chapters`."""


@dataclass(frozen=True)
class Chapter:
    """A run of paragraphs, `first` to before `end`; every paragraph is in one. `title` may be empty."""

    title: str
    first: int
    end: int


class Document(Protocol):
    """A file that was read, with what is in it to translate."""

    @property
    def suffix(self) -> str:
        """The format, as ".epub"."""

    @property
    def paragraphs(self) -> Sequence[Paragraph]:
        """All that is to be translated, in reading order."""

    @property
    def chapters(self) -> Sequence[Chapter]:
        """Where chapters begin and end in `paragraphs`."""

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """The file with `translations`: index of a paragraph to its text, with the paragraph's tags.

        A paragraph that has no translation, or a blank one, stays as it is; without any the
        bytes are those that were read. Tags that do not match are mended as far as can be: what comes out
        is valid. `language` is the BCP 47 code of the translations, set where the format has a place for it.
        `bilingual` keeps each source paragraph before its translation. Text comes out as UTF-8.
        """


def is_right_to_left(language: str) -> bool:
    """Whether a language (a BCP 47 code) is written from right to left."""
    main, *others = re.split("[-_]", language.lower())
    if scripts := [part for part in others if len(part) == 4 and part.isalpha()]:
        return scripts[0] in ("arab", "hebr", "thaa", "syrc", "nkoo", "adlm")
    return main in ("ar", "ckb", "dv", "fa", "he", "ks", "nqo", "pnb", "ps", "sd", "syr", "ug", "ur", "yi")


class Found(NamedTuple):
    """A paragraph before it is known which chapter it is in."""

    text: str
    kind: Kind
    level: int = 0
    """Of a heading: 1 is the highest, 0 for titles of whole works; 0 for everything else."""


class Start(NamedTuple):
    """A chapter begins at the paragraph with this index."""

    first: int
    title: str


def chapter_level(found: Iterable[Found]) -> int:
    """The level of headings that begin chapters: the highest that is there twice, or the highest."""
    levels = Counter(f.level for f in found if f.kind == "heading")
    return min((level for level, count in levels.items() if count > 1), default=min(levels, default=0))


def chapter_starts(found: Sequence[Found]) -> list[Start]:
    """Where headings as high as `chapter_level` or higher begin chapters. What comes before the first is a
    chapter too, unless it is titles of the whole, or what an image above them shows."""
    level = chapter_level(found)
    starts = [
        Start(index, plain(f.text))
        for index, f in enumerate(found)
        if f.kind == "heading" and f.level <= level
    ]
    if starts and all(f.kind in ("metadata", "caption") for f in found[: starts[0].first]):
        return starts
    return [Start(0, ""), *starts]


def in_chapters(
    found: Sequence[Found], starts: Sequence[Start]
) -> tuple[tuple[Paragraph, ...], tuple[Chapter, ...]]:
    """Paragraphs and chapters; the first start is taken to stand before the first paragraph."""
    firsts = [0, *(start.first for start in starts[1:])]
    bounds = zip(starts, firsts, [*firsts[1:], len(found)], strict=True)
    chapters = [Chapter(start.title, first, end) for start, first, end in bounds if end > first]
    paragraphs = [
        Paragraph(f.text, f.kind, number)
        for number, chapter in enumerate(chapters)
        for f in found[chapter.first : chapter.end]
    ]
    return tuple(paragraphs), tuple(chapters)
