"""A book to write to a file: the input of the writers of all formats."""

from __future__ import annotations

import re
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
    that keep blank lines and indents. Ignored for the first paragraph of a chapter."""

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


@dataclass(frozen=True, slots=True)
class Book:
    """A whole book; `title`, `author` and `language` (a BCP 47 code) are "" if they are unknown."""

    title: str
    author: str
    language: str
    chapters: tuple[BookChapter, ...]


def book_of_prose(text: str, title: str = "", author: str = "", language: str = "") -> Book:
    """Prose from a model as a book of one chapter; each line that is not blank is a paragraph.

    Markup is not interpreted: "#" and asterisks are text. Only white space at the ends of `text` is lost.
    """
    paragraphs = []
    end = 0
    for line in _LINE.finditer(text):
        paragraphs.append(BookParagraph((Span(line[0]),), text[end : line.start()]))
        end = line.end()
    return Book(title, author, language, (BookChapter("", tuple(paragraphs)),))
