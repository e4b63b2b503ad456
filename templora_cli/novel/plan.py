"""The plan of a book: what each chapter is to do, in a Markdown file that people write and edit."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_WORDS = 1500
"""The length of a chapter whose plan has none."""


@dataclass(frozen=True)
class PlannedChapter:
    """A chapter that the plan has. Its number follows from its position."""

    title: str
    """As the author wrote it, without numbering such as "Chapter 3:"; "" if the heading is only a number."""
    summary: str
    """What happens, a paragraph or list item per line; may be ""."""
    words: int | None
    """The length in words; None if the plan has none."""
    part: str | None
    """The title of the part that the chapter belongs to."""


@dataclass(frozen=True)
class Plan:
    """The plan of a whole book. Texts are one line each, except for `premise`; "" where the plan has none."""

    title: str
    author: str
    language: str
    point_of_view: str
    tense: str
    style: str
    chapters: tuple[PlannedChapter, ...]
    premise: str = ""
    """The text between the title and the first chapter, a paragraph or list item per line."""
