"""Prepare the opening that a person wrote, so that the model can continue it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from templora_cli.documents.manuscript import Manuscript, ManuscriptChapter
from templora_cli.documents.readers.headings import is_chapter_heading
from templora_cli.novel.revision import revise
from templora_cli.novel.sentence_end import ends_sentence, may_end_paragraph

OPENING_ENDS = {"opening_ends": True}
"""The record of the last chunk of an opening that was edited."""
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


@dataclass(frozen=True)
class OpeningChapter:
    """A chapter of an opening, as a session records it; the offsets are those in the text of the opening."""

    title: str
    start: int
    """Of the heading, or of the text without one."""
    text_start: int
    """Of the text below the heading."""


@dataclass(frozen=True)
class Opening:
    """The beginning of a book that a person wrote. `title` is "" if it is unknown."""

    text: str
    title: str = ""
    chapters: tuple[OpeningChapter, ...] = ()

    @property
    def request(self) -> dict[str, Any]:
        """The JSON values that a session records."""
        return {"opening_title": self.title, "opening_chapters": [asdict(c) for c in self.chapters]}


def opening_of(manuscript: Manuscript | str) -> Opening:
    """The opening of a manuscript, or of a text without chapters, as `normalized_opening` changes it."""
    if isinstance(manuscript, str):
        manuscript = Manuscript("", manuscript, (ManuscriptChapter("", manuscript, 0, 0),))
    text = normalized_opening(manuscript.text)
    last = manuscript.chapters[-1] if manuscript.chapters else None
    if last is not None and last.title and not last.text and manuscript.text.endswith("\n"):
        text = text.rstrip() + "\n\n"  # a heading does not go on
    removed = len(manuscript.text.rstrip()) - len(text.rstrip())
    chapters = [
        OpeningChapter(c.title, *(min(max(0, at - removed), len(text)) for at in (c.start, c.text_start)))
        for c in manuscript.chapters
    ]
    return Opening(text, manuscript.title, tuple(chapters))


def headings_of(chapters: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """The ranges of the headings of recorded chapters."""
    ranges = ((chapter["start"], chapter["text_start"]) for chapter in chapters)
    return [(start, end) for start, end in ranges if start < end]


def headings_in_book(headings: Sequence[tuple[int, int]], given: str, text: str) -> list[tuple[int, int]]:
    """The ranges of the headings of an opening in the text of a book in which it may have been edited.

    `given` is the opening as it was. A heading that is no longer there is left out.
    """
    if text.startswith(given) or given.startswith(text):
        return list(headings)
    places, at = [], 0
    for piece in revise(given, text).pieces:
        for start, end in headings if piece.start is not None else ():
            assert piece.start is not None
            if piece.start <= start < piece.end:
                length = len(given[start:end].rstrip())
                if start + length <= piece.end:
                    places.append((at + start - piece.start, at + start - piece.start + length))
        at += len(piece.text)
    return sorted(places)


def opening_in_book(given: Sequence[int], chunks: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The tokens of the opening: those that are in the book, and those that are still to come.

    `given` are the tokens of the opening as it was given; a person may have edited it in the book.
    """
    read = list(takewhile(lambda chunk: chunk["origin"] == "human", chunks))
    tokens = tuple(token for chunk in read for token in chunk["tokens"])
    is_whole = len(read) < len(chunks) or (bool(read) and read[-1]["record"] == OPENING_ENDS)
    return tokens if is_whole else tokens + tuple(given[len(tokens) :])


def with_opening_ended(chunks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The chunks of a book whose opening was edited: its length is no longer the one that was given."""
    count = sum(1 for _ in takewhile(lambda chunk: chunk["origin"] == "human", chunks))
    return [
        {**chunk, "record": OPENING_ENDS} if index == count - 1 else chunk
        for index, chunk in enumerate(chunks)
    ]


def normalized_opening(text: str) -> str:
    """The opening without the white space at its ends; "" if it is blank.

    If its last paragraph is finished and a line end follows, a paragraph break is appended. White space after
    an unfinished sentence is ignored, because every editor ends a file with a line end.
    """
    body = text.rstrip()
    opening = _BLANK_LINES.sub("", body)
    if not opening or "\n" not in text[len(body) :]:
        return opening
    last_line = opening[opening.rfind("\n") + 1 :]
    return opening + _paragraph_break(opening, text[len(body) :]) if _is_paragraph(last_line) else opening


def _is_paragraph(line: str) -> bool:
    """Is the last line a complete paragraph, a heading or the mark of a scene break?"""
    heading = is_chapter_heading(line) or line.lstrip().startswith("#") or line.isupper()
    return may_end_paragraph(line) or heading or not any(char.isalnum() for char in line)


def _paragraph_break(opening: str, after: str) -> str:
    """A blank line, or one line end if the opening has a paragraph on each line without blank lines."""
    lines = opening.split("\n")[:-1]
    if not lines or _BLANK_LINE.search(opening) or _BLANK_LINE.search(after):
        return "\n\n"
    return "\n" if 2 * sum(map(ends_sentence, lines)) > len(lines) else "\n\n"
