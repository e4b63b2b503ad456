"""The file of `--out`: updated after each chunk; edits by a person are never overwritten."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.documents.text_input import unreadable
from templora_cli.errors import TemploraError, is_disk_full
from templora_cli.files import write_atomically
from templora_cli.sessions.steps import read_chunks, set_aside_text
from templora_cli.sessions.store import BASE, SYNCED, Session, free_name, sha256_of

KEY = 12
"""Hexadecimal digits by which a set aside file is known."""
HASH = "out.sha256"
"""File in the session folder with the hash of the book file as it was written last."""

if TYPE_CHECKING:
    from templora_cli.documents.book import Book


def unwritable(path: Path | str, error: OSError, resume_command: str) -> TemploraError:
    """The error if the file of `--out` cannot be written."""
    hint = (
        f"free disk space, then: {resume_command}"
        if is_disk_full(error)
        else f"name another file: {resume_command} --out FILE"
    )
    return TemploraError(f"{path} cannot be written: {error.strerror}. The session itself is safe", hint)


def synced_file(session: Path, key: str) -> Path:
    """Where the text is kept with which an edited file is compared."""
    return session / SYNCED / f"{key}.md"


def path_key(path: Path) -> str:
    """The key of a file without a mark: it follows from its place."""
    return sha256_of(str(path.absolute()))[:KEY]


class BookFile:
    """Writes the book's text to its file, and recognises versions that templora itself has written."""

    def __init__(self, session: Session, path: Path, book_of: Callable[[str], Book] | None = None) -> None:
        """The newest step of `session` must be intact. `book_of` makes a book of the text; default: prose."""
        self.session, self.path, self._book_of = session, path, book_of
        self._known: list[bytes] = []
        texts = [chunk["text"] for chunk in read_chunks(session.steps)]
        self.text = "".join(texts)
        # The file is written after the commit, so a kill may have left it one chunk behind. It is ahead
        # if a damaged step was set aside.
        self._written = ["".join(texts[:-1]), self.text + set_aside_text(session.steps, len(texts))]

    def add(self, text: str) -> None:
        """Append a committed chunk; `write` saves it to the file."""
        self._written = [self.text]
        self.text += text

    def replace(self, text: str) -> None:
        """Replace the whole text, for example after undoing; `write` saves it to the file."""
        self._written, self.text = [self.text], text

    def may_replace(self, content: bytes) -> None:
        """Let `write` replace a file with this content, because the book says the same."""
        self._known.append(content)

    def edited(self) -> bytes | None:
        """The content of the file if a person has edited it. Raises TemploraError if it cannot be read."""
        try:
            content = self.path.read_bytes() if self.path.exists() else None
        except OSError as error:
            raise unreadable(self.path, error) from None
        return content if content is not None and self._is_edited(content) else None

    def write(self) -> str | None:
        """Update the file; returns a notice if an edited version of it was set aside.

        Raises TemploraError if the file cannot be written; the session is not affected.
        """
        notice = None
        try:
            if self.path.exists() and self._is_edited(self.path.read_bytes()):
                aside = free_name(self.path)
                self.path.replace(aside)
                self._keep_base(aside)
                learn = f"to learn it: templora sync {self.session.id} {shlex.quote(str(aside))}"
                notice = f"{self.path.name} was edited: your version is saved as {aside}; {learn}"
            if self.text.strip() or self.path.exists():  # all of it may have been taken back
                content = self._rendered(self.text)
                write_atomically(self.session.path / HASH, sha256_of(content))
                write_atomically(self.session.path / BASE, self.text)
                write_atomically(self.path, content)
        except OSError as error:
            raise unwritable(self.path, error, self.session.resume_command) from error
        return notice

    def _keep_base(self, aside: Path) -> None:
        """Keep the text that a person edited, with which the file that was set aside is compared later."""
        base, kept = self.session.path / BASE, synced_file(self.session.path, path_key(aside))
        if base.is_file():
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(base, kept)

    def _is_edited(self, content: bytes) -> bool:
        """Is it not what was written last, whatever title and headings the plan had then?"""
        with suppress(OSError, ValueError):
            if (self.session.path / HASH).read_text("ascii") == sha256_of(content):
                return False
        return content not in self._known and content not in self._renderings()

    def _renderings(self) -> Iterator[bytes]:
        return (self._rendered(text) for text in [*self._written, self.text])

    def _rendered(self, text: str) -> bytes:
        # Slow to import, and a list of sessions needs no renderer.
        from templora_cli.documents.book import book_of_prose
        from templora_cli.documents.registry import render_book

        return render_book((self._book_of or book_of_prose)(text), self.path)
