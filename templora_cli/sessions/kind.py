"""The interface of a kind of task, for sessions, the runner and the commands; `task_kinds.py` lists them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Finished, Unit, Unlearnt, progress_in_words
from templora_cli.files import bytes_below
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.store import Session
from templora_cli.text import count_words
from templora_cli.turn import Task

if TYPE_CHECKING:
    from templora_cli.documents.book import Book
    from templora_cli.engine.models.loading import LanguageModel

Values = Mapping[str, Any]
"""The values of a `chunk.json`."""


@dataclass(frozen=True)
class Export:
    """A session as a file in the format of its kind."""

    suffix: str
    """The suffix of the file."""
    content: Callable[[], bytes]
    """Returns the bytes of the file, as far as the book is finished. Raises TemploraError if it cannot."""


class TaskKind(ABC):
    """A kind of task: a row of the table in `task_kinds.py`."""

    name: str
    """The name in manifests."""
    units: tuple[Unit, ...]
    """The units in which a goal may be given."""
    request_keys: frozenset[str] = frozenset()
    """Required keys of the request in a manifest."""
    prompts: frozenset[str] = frozenset()
    """The names of the required prompt files."""
    can_be_extended = False
    """Can a finished book be given a longer goal?"""
    can_be_changed = True
    """Can chunks be taken back and brought back?"""
    has_chapters = False
    """Is the book written chapter by chapter?"""
    is_prose = False
    """Does the model write a text of its own, which may be steered by a note?"""

    @abstractmethod
    def task(self, session: Session, model: LanguageModel, config: Config) -> Task:
        """The task of a session, from its own files. Raises TemploraError if they are damaged."""

    def counts(self, chunk: Values) -> bool:
        """Does a chunk count for the goal?"""
        return True

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """The progress that the chunks make towards a goal, in `unit`."""
        counted = [chunk for chunk in chunks if self.counts(chunk)]
        if unit == "words":
            return count_words("".join(chunk["text"] for chunk in counted))
        return sum(len(chunk["tokens"]) for chunk in counted)

    def finished(self, manifest: Manifest, chunks: Sequence[Values]) -> bool:
        """Have the chunks reached the goal of the session, and can the book end there?"""
        return self.reached(manifest, self.done(chunks, manifest.goal_unit), complete=self.complete(chunks))

    def complete(self, chunks: Sequence[Values]) -> bool:
        """Can the book end with the last chunk, e.g. because its last sentence is complete?"""
        return True

    def reached(self, manifest: Manifest, done: int, *, complete: bool) -> bool:
        """Is a book finished that has this progress towards its goal, and can or cannot end there?"""
        return done >= manifest.goal_amount

    def chapter_starts(self, chunks: Sequence[Values]) -> list[int]:
        """The index of the first chunk of each chapter that is begun; empty if the book has no chapters."""
        return []

    def ends_chapter(self, chunks: Sequence[Values]) -> bool:
        """Does a chapter end with the last of the chunks?"""
        return False

    def check_chunks(self, session: Session, chunks: Sequence[Values]) -> None:  # noqa: B027  (a hook)
        """Raise TemploraError if the book cannot have these chunks, e.g. since its plan has changed."""

    def needed(self, chunks: Sequence[Values]) -> Collection[int]:
        """The indexes of chunks after which the checkpoint must be kept, however old it becomes."""
        return ()

    def notices(self, session: Session) -> list[str]:
        """Notices for the user before a session is resumed."""
        return []

    def opening_tokens(self, session: Session) -> int:
        """The number of tokens of the human opening, which do not count for the goal."""
        return 0

    def retries(self, manifest: Manifest) -> int:
        """How much of the goal is text that is made once more."""
        return 0

    def has_opening(self, manifest: Manifest) -> bool:
        """Did a person write the beginning of the book? It does not count for the goal."""
        return False

    def progress(self, manifest: Manifest, done: int) -> str:
        """The progress towards the goal for people."""
        new, retries = self.has_opening(manifest), self.retries(manifest)
        return progress_in_words(done, manifest.goal_amount, manifest.goal_unit, new=new, retries=retries)

    def languages(self, manifest: Manifest) -> tuple[str, ...]:
        """The names of the source and target language of a translation."""
        return ()

    def check_out(self, manifest: Manifest, out: Path) -> None:
        """Raise TemploraError if sessions of this kind cannot be written to such a file."""
        raise TemploraError(f"{manifest.id} has no output file", "leave out --out")

    def extend_command(self, session: Session) -> str | None:
        """The command by which a finished book gets longer; None if it cannot."""
        more = "--words 1000" if session.manifest.goal_unit == "words" else "--chunks 4"
        return f"{session.resume_command} {more}" if self.can_be_extended else None

    def check_note(self, note: str, model: LanguageModel, config: Config) -> None:
        """Raise TemploraError if the author's note is too long."""
        assert self.is_prose, "checked before the model is loaded"

    def book_file(self, session: Session) -> BookFile | None:
        """The file that is updated after each chunk; None if there is none."""
        return None

    def book(self, folder: Path, manifest: Manifest, text: str) -> Book:
        """The text of a session as a book, with the title and the headings that the session knows."""
        from templora_cli.documents.book import book_of_prose

        return book_of_prose(text)

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """Finish a session that has reached its goal, e.g. write its document; yields the final event."""
        yield Finished(
            session=session.id,
            chunks=len(chunks),
            tokens=sum(len(chunk["tokens"]) for chunk in chunks),
            words=count_words("".join(chunk["text"] for chunk in chunks)),
            resume_command=self.extend_command(session),
            out=session.manifest.out,
            disk_bytes=bytes_below(session.path),
            not_learnt=tuple(
                Unlearnt(c["index"], c["rejection_reason"]) for c in chunks if c["rejection_reason"]
            ),
        )

    def facts(self, manifest: Manifest) -> dict[str, str]:
        """Labels and values that `sessions show` prints for this kind in addition."""
        return {}

    def export(self, folder: Path, manifest: Manifest) -> Export | None:
        """The session in the file format of its kind; None if it is prose."""
        return None
