"""A book to write to a file: the input of the writers of all formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LINE = re.compile(r"\S(?:[^\n]*\S)?")
"""A line that is not blank, without white space at its ends."""


@dataclass(frozen=True, slots=True)
class Span:
    """Text in one style, without line breaks; the spans of a paragraph, joined, are its text."""

    text: str
    emphasis: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class BookParagraph:
    """A paragraph, verse or line of dialogue: never empty, without white space at its ends."""

    spans: tuple[Span, ...]
    gap: str = "\n\n"
    """The white space between this paragraph and the one before it, with at least one line end, for formats
    that keep blank lines and indents. Ignored at the beginning of a book."""

    @property
    def text(self) -> str:
        """The text without its style."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class SceneBreak:
    """A change of time or place between two paragraphs; each format has its own sign for it."""


@dataclass(frozen=True, slots=True)
class BookChapter:
    """A chapter; `title` is "" if it has none. A book without chapters is one chapter without a title."""

    title: str
    paragraphs: tuple[BookParagraph | SceneBreak, ...]
    gap: str = "\n\n"
    """The white space before the title, as that of a paragraph."""


@dataclass(frozen=True, slots=True)
class Book:
    """A whole book; `title`, `author` and `language` (a BCP 47 code) are "" if they are unknown."""

    title: str
    author: str
    language: str
    chapters: tuple[BookChapter, ...]


def book_of_prose(
    text: str,
    title: str = "",
    author: str = "",
    language: str = "",
    *,
    headings: Sequence[tuple[int, int]] = (),
) -> Book:
    """Prose as a book; each line that is not blank is a paragraph.

    `headings` are ranges of offsets, in order: a line that lies in one is the title of a chapter. Without any
    the book is one chapter. Markup is not interpreted: asterisks are text, and a line that begins with "#" is
    a heading as it is. Only white space at the ends of `text` is lost.
    """
    chapters: list[BookChapter] = []
    chapter, gap = "", "\n\n"
    paragraphs: list[BookParagraph | SceneBreak] = []
    end = 0
    remaining = list(reversed(headings))
    for line in _LINE.finditer(text):
        before, end = text[end : line.start()], line.end()
        while remaining and remaining[-1][1] < line.end():
            remaining.pop()
        if remaining and remaining[-1][0] <= line.start() and not line[0].startswith("#"):
            chapters.append(BookChapter(chapter, tuple(paragraphs), gap))
            gap = before if chapters[0].paragraphs or len(chapters) > 1 else "\n\n"
            chapter, paragraphs = line[0], []
        else:
            paragraphs.append(BookParagraph((Span(line[0]),), before))
    chapters.append(BookChapter(chapter, tuple(paragraphs), gap))
    with_content = [c for c in chapters if c.title or c.paragraphs] or chapters
    return Book(title, author, language, tuple(with_content))
