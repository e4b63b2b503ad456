"""What sessions, the runner and the commands ask of a kind of task. The kinds stand in `task_kinds.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Finished, Unit, Unlearnt
from templora_cli.files import bytes_below
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.store import Session
from templora_cli.text import count_words
from templora_cli.turn import Task

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

Values = Mapping[str, Any]
"""Those of a `chunk.json`."""


@dataclass(frozen=True)
class Export:
    """A session as a file of its own form."""

    suffix: str
    """Of the file."""
    content: Callable[[], bytes]
    """With what there is so far. Raises TemploraError where it cannot be made."""


class TaskKind(ABC):
    """A row of the table of kinds."""

    name: str
    """As manifests have it."""
    units: tuple[Unit, ...]
    """What the length of its books may be counted in."""
    asked: frozenset[str] = frozenset()
    """Keys of the request in a manifest that its sessions cannot do without."""
    prompts: frozenset[str] = frozenset()
    """The prompt files that they cannot do without."""
    can_be_extended = False
    """May a finished book be written on, to a length that is said?"""

    @abstractmethod
    def task(self, session: Session, model: LanguageModel, config: Config) -> Task:
        """What is done next in a session, from its own files. Raises TemploraError where they are damaged."""

    def counts(self, chunk: Values) -> bool:
        """Does a chunk count for the goal?"""
        return True

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """How much of a goal in `unit` the chunks are."""
        counted = [chunk for chunk in chunks if self.counts(chunk)]
        if unit == "words":
            return count_words("".join(chunk["text"] for chunk in counted))
        return sum(len(chunk["tokens"]) for chunk in counted)

    def finished(self, manifest: Manifest, chunks: Sequence[Values]) -> bool:
        """Have the chunks of a session reached its goal?"""
        return self.done(chunks, manifest.goal_unit) >= manifest.goal_amount

    def notices(self, session: Session) -> list[str]:
        """What to tell before a session goes on."""
        return []

    def opening_tokens(self, session: Session) -> int:
        """Tokens of what a person wrote first, which do not count for the goal."""
        return 0

    def check_out(self, manifest: Manifest, out: Path) -> None:
        """Raises TemploraError where its sessions are not written to such a file."""
        raise TemploraError(f"{manifest.id} is written to no file", "leave out --out")

    def book_file(self, session: Session) -> BookFile | None:
        """The file that is kept equal to the book chunk by chunk; None without one."""
        return None

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """What is left to be done when the goal is reached, such as writing a document; the final event."""
        more = "--words 1000" if session.manifest.goal_unit == "words" else "--chunks 4"
        yield Finished(
            session=session.id,
            chunks=len(chunks),
            tokens=sum(len(chunk["tokens"]) for chunk in chunks),
            words=count_words("".join(chunk["text"] for chunk in chunks)),
            resume_command=f"{session.resume_command} {more}" if self.can_be_extended else None,
            out=session.manifest.out,
            disk_bytes=bytes_below(session.path),
            not_learnt=tuple(
                Unlearnt(c["index"], c["rejection_reason"]) for c in chunks if c["rejection_reason"]
            ),
        )

    def facts(self, manifest: Manifest) -> dict[str, str]:
        """What `sessions show` says of it beside what all sessions have."""
        return {}

    def export(self, folder: Path, manifest: Manifest) -> Export | None:
        """The session as its own kind of file; None where it is prose."""
        return None
