"""A file in which a person edits a book: what it was made of, and versions of a text brought together."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from templora_cli.novel.revision import Paragraph, divide, key_of, paragraphs

_MARK = re.compile(
    r"\s*<!-- templora (?P<session>\S+): (?P<chunks>\d{1,9}) chunks?, change (?P<changes>\d{1,9})"
    r"(?:, chapter (?P<chapter>\d{1,9}))?, file (?P<file>[0-9a-f]{8}) -->[^\S\n]*\n?"
)
_TITLE = re.compile(r"\s*#[ \t]+(?P<title>[^\n]*)(?:\n|\Z)")
GAP = "\n\n"


@dataclass(frozen=True)
class Mark:
    """The first line of a file for editing: the state of the book that it was made of."""

    session: str
    chunks: int
    """How many chunks the book had."""
    changes: int
    """How many changes had been made of it."""
    chapter: int | None = None
    """The chapter that is in the file, from 1; None for the whole book."""
    file: str = field(default_factory=lambda: secrets.token_hex(4))
    """Tells the file from other files of the book."""

    def __str__(self) -> str:
        chunks = f"{self.chunks} chunk{'' if self.chunks == 1 else 's'}"
        chapter = "" if self.chapter is None else f", chapter {self.chapter}"
        state = f"{chunks}, change {self.changes}{chapter}, file {self.file}"
        return f"<!-- templora {self.session}: {state} -->\n\n"


def read_mark(text: str) -> tuple[Mark | None, str]:
    """The mark of a file, if it has one, and the text after it."""
    match = _MARK.match(text)
    if match is None:
        return None, text
    chapter = None if match["chapter"] is None else int(match["chapter"])
    mark = Mark(match["session"], int(match["chunks"]), int(match["changes"]), chapter, match["file"])
    return mark, text[match.end() :]


def without_title(text: str, title: str, author: str, before: str) -> tuple[str, str]:
    """The text of a file without title and author of the book, which are not in its text `before`.

    Also returns the title in the file if it is another one; "" otherwise.
    """
    first = next(map(key_of, paragraphs(before)), None)
    heading, other = _TITLE.match(text), ""
    if title and heading and [key_of(line) for line in paragraphs(heading[0])] != [first]:
        text = text[heading.end() :]
        other = heading["title"].strip() if heading["title"].strip() != title else ""
    for words in filter(None, (title, author)):
        line, _, rest = text.lstrip().partition("\n")
        if line.strip() == words and [key_of(each) for each in paragraphs(words)] != [first]:
            text = rest
    return text, other


def merge(base: str, mine: str, theirs: str) -> tuple[str, list[str]]:
    """The text `theirs` with what `mine` changed of `base`, and the paragraphs that both changed.

    These are as they are in `mine`.
    """
    old, one = divide(base, mine)
    other = divide(base, theirs)[1]
    mine_at, theirs_at = _places(old, one), _places(old, other)
    merged: list[str] = []
    conflicts: list[str] = []
    starts = (0, 0, 0)
    for index in [*(index for index in range(len(old)) if index in mine_at and index in theirs_at), len(old)]:
        ends = (index, mine_at.get(index, len(one)), theirs_at.get(index, len(other)))
        was, in_mine, in_theirs = (
            texts[start:end] for texts, start, end in zip((old, one, other), starts, ends, strict=True)
        )
        old_keys, mine_keys, their_keys = ([*map(key_of, each)] for each in (was, in_mine, in_theirs))
        is_mine = mine_keys != old_keys
        merged += (
            [_raw(mine, each) for each in in_mine] if is_mine else [_raw(theirs, each) for each in in_theirs]
        )
        if is_mine and their_keys not in (old_keys, mine_keys):
            conflicts += [_raw(theirs, each) for each in in_theirs] or [_raw(base, each) for each in was]
        if index < len(old):
            merged.append(_raw(theirs, other[theirs_at[index]]))
        starts = (ends[0] + 1, ends[1] + 1, ends[2] + 1)
    return GAP.join(merged), conflicts


def _places(old: Sequence[Paragraph], new: Sequence[Paragraph]) -> dict[int, int]:
    """The places in `new` of the paragraphs of `old` that stayed."""
    old_keys, new_keys = ([*map(key_of, each)] for each in (old, new))
    matches = SequenceMatcher(None, old_keys, new_keys, autojunk=False).get_matching_blocks()
    return {a + offset: b + offset for a, b, size in matches for offset in range(size)}


def _raw(text: str, paragraph: Paragraph) -> str:
    return text[paragraph[0].start : paragraph[-1].end]
