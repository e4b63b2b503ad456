"""A book that is to be written to a file: what every writer is given, whatever its format."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"\S(?:[^\n]*\S)?")
"""A line that is not blank, without the white space at its ends."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words that look alike, on one line; the spans of a paragraph, joined, are all its words."""

    text: str
    emphasis: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class BookParagraph:
    """A paragraph, verse or line of dialogue; without white space at its ends, and never empty."""

    spans: tuple[Span, ...]
    gap: str = "\n\n"
    """The white space after what comes before it in its chapter, for a format that keeps blank lines and
    indents: it holds a line end. Of the first paragraph of a chapter it means nothing."""

    @property
    def text(self) -> str:
        """The words alone."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class SceneBreak:
    """Where time or place change between two paragraphs; each format has its own sign for it."""


@dataclass(frozen=True, slots=True)
class BookChapter:
    """A chapter; `title` is "" where it has none, as all of a book that is not divided."""

    title: str
    paragraphs: tuple[BookParagraph | SceneBreak, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """A whole book; `title`, `author` and `language` (a BCP 47 code) are "" where they are not known."""

    title: str
    author: str
    language: str
    chapters: tuple[BookChapter, ...]


def book_of_prose(text: str, title: str = "", author: str = "", language: str = "") -> Book:
    """Prose, as a model writes it, as a book of one chapter: each line that is not blank is a paragraph.

    Nothing is interpreted: a line that begins with "#" is words, and so are asterisks. No white space is
    lost but that at the ends of `text`.
    """
    paragraphs = []
    end = 0
    for line in _LINE.finditer(text):
        paragraphs.append(BookParagraph((Span(line[0]),), text[end : line.start()]))
        end = line.end()
    return Book(title, author, language, (BookChapter("", tuple(paragraphs)),))
