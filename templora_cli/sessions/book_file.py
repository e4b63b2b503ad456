"""The file of `--out`: kept equal to the book, chunk by chunk, and never at the cost of a person's edits."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically
from templora_cli.sessions.steps import read_chunks, set_aside_text
from templora_cli.sessions.store import Session, free_name


def unwritable(path: Path | str, error: OSError, going_on: str) -> TemploraError:
    """What to tell where the file of `--out` cannot be written; `going_on` is the command that goes on."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = f"make room, then: {going_on}" if full else f"name another file: {going_on} --out FILE"
    return TemploraError(f"{path} cannot be written: {error.strerror}. The session itself is safe", hint)


class BookFile:
    """Writes the book's text to its file and knows what templora itself may have left there."""

    def __init__(self, session: Session, path: Path) -> None:
        """For a session whose newest step is good."""
        self.session, self.path = session, path
        texts = [chunk["text"] for chunk in read_chunks(session.steps)]
        self.text = "".join(texts)
        # It is written after the commit, so a kill may have left it one chunk behind; it is ahead
        # where a damaged step was set aside.
        self._own = ["".join(texts[:-1]), self.text + set_aside_text(session.steps, len(texts))]

    def add(self, text: str) -> None:
        """A chunk was committed; `write` brings it into the file."""
        self._own = [self.text]
        self.text += text

    def replace(self, text: str) -> None:
        """The book has become another one, as by undoing; `write` brings it into the file."""
        self._own, self.text = [self.text], text

    def write(self) -> str | None:
        """Bring the file up to date; returns what to tell of a version that was edited and set aside.

        Raises TemploraError where it cannot be written; the session is not touched by that.
        """
        notice = None
        try:
            if self.path.exists() and self.path.read_bytes() not in self._renderings():
                aside = free_name(self.path)
                self.path.replace(aside)
                notice = f"{self.path.name} was edited: your version is kept as {aside}"
            if self.text.strip():
                write_atomically(self.path, self._rendered(self.text))
        except OSError as error:
            raise unwritable(self.path, error, self.session.resume_command) from error
        return notice

    def _renderings(self) -> Iterator[bytes]:
        return (self._rendered(text) for text in [*self._own, self.text])

    def _rendered(self, text: str) -> bytes:
        from templora_cli.documents.book import book_of_prose  # who only looks at sessions renders none
        from templora_cli.documents.registry import render_book

        return render_book(book_of_prose(text), self.path)
