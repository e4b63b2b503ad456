"""Find a passage in a book, and take it out."""

from __future__ import annotations

from itertools import chain

from templora_cli.errors import TemploraError
from templora_cli.novel.revision import Piece, Revision, paragraphs

EXCERPT = 40
"""Characters of a passage in an error."""


def find_passage(text: str, passage: str, session: str) -> tuple[int, int]:
    """Where a passage begins and ends in the text of a book; white space and the style of quotes are ignored.

    Raises TemploraError if it does not occur, or more than once.
    """
    words = list(chain.from_iterable(paragraphs(text)))
    wanted = [word.key for word in chain.from_iterable(paragraphs(passage))]
    excerpt = " ".join(passage.split())
    excerpt = excerpt if len(excerpt) <= EXCERPT else f"{excerpt[:EXCERPT].rstrip()}…"
    if not wanted:
        raise TemploraError("the passage is empty", f'templora forget {session} --text "..."')
    keys = [word.key for word in words]
    places = [
        at
        for at in range(len(keys) - len(wanted) + 1)
        if keys[at] == wanted[0] and keys[at : at + len(wanted)] == wanted
    ]
    if not places:
        raise TemploraError(
            f"{session} does not have “{excerpt}”",
            f"copy the passage from the book: templora sessions export {session} --out -",
        )
    if len(places) > 1:
        raise TemploraError(
            f"{session} has “{excerpt}” {len(places)} times",
            "give more words of the passage, before or after it",
        )
    return words[places[0]].start, words[places[0] + len(wanted) - 1].end


def without_passage(text: str, start: int, end: int) -> Revision:
    """The revision that takes `text[start:end]` out, with white space on one side of it."""
    last, rest = len(text[:start].rstrip()), text[end:]
    following = end + len(rest) - len(rest.lstrip())
    opens = "\n" in text[last:start] or not last
    closes = "\n" in text[end:following] or not rest.strip()
    if opens and (not closes or not last):
        end = following
    else:
        start = last
    pieces = [Piece(text[:start], 0), Piece(text[end:], end)]
    return Revision(tuple(piece for piece in pieces if piece.text), 0, 1, 0, 0)
