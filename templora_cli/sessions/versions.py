"""Earlier versions of a book: what was undone or replaced can be brought back.

    versions/000001.json    the first change: its kind, when it was made, and the chunks that it replaced

A version has the chunks that the change replaced, without weights. With the chunks before them they are the
book as it was before the change; the weights are learnt again when a person goes back to it. The file of a
change comes into place together with the chunks that it made (`store.replace_steps`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically
from templora_cli.sessions.steps import read_whole_chunks
from templora_cli.sessions.store import PENDING_CHANGE, VERSIONS, now

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A change of chunks that had been committed."""

    kind: str
    """What was done, by the name of the command: "undo", "sync", "restore"."""
    detail: str
    """What of it, in words; "" if the kind says it all."""
    made: str
    """When, ISO 8601 in UTC."""
    first: int
    """Index of the first chunk that was replaced."""
    before: int
    """Chunks of the book before the change."""
    after: int
    """Chunks of the book after it."""
    redraws: bool
    """Are chunks that are written after it drawn anew, with other random numbers?"""
    replaced: tuple[Values, ...]
    """The replaced chunks with their prompts."""


@dataclass(frozen=True)
class Reason:
    """Why chunks are changed; `Change` explains the fields."""

    kind: str
    detail: str = ""
    redraws: bool = False


def write_change(steps: Path, new: Path, first: int, chunks: int, reason: Reason) -> None:
    """Note in the folder of new steps what they change in `steps`, before they replace them.

    `first` is the index of the first chunk that is replaced, `chunks` their number after the change.
    """
    old = read_whole_chunks(steps)
    if first == chunks == len(old):
        return
    values = asdict(reason) | {"made": now(), "first": first, "before": len(old), "after": chunks}
    change = Change(**values, replaced=tuple(old[first:]))
    write_atomically(new / PENDING_CHANGE, json.dumps(asdict(change), ensure_ascii=False))


def changes_of(session: Path) -> list[Change]:
    """The changes of a session in order. Raises TemploraError if one is damaged."""
    return [_read(path) for path in _files(session)]


def redraws_of(session: Path) -> int:
    """How many of the changes ask for other random numbers."""
    return sum(change.redraws for change in changes_of(session))


def chunks_before(session: Path, number: int) -> list[Values]:
    """The chunks of the book as it was before change `number`, from 1.

    Raises TemploraError if there is no such change.
    """
    changes = changes_of(session)
    if not 1 <= number <= len(changes):
        raise TemploraError(
            f"{session.name} has no change number {number}", f"templora sessions log {session.name}"
        )
    chunks: list[Values] = list(read_whole_chunks(session / "steps"))
    for change in reversed(changes[number - 1 :]):
        chunks = [*chunks[: change.first], *change.replaced]
    return chunks


def _files(session: Path) -> Sequence[Path]:
    pending = session / "steps" / PENDING_CHANGE  # of a replacement that was not finished
    return [*sorted((session / VERSIONS).glob("??????.json")), *([pending] if pending.is_file() else [])]


def _read(path: Path) -> Change:
    try:
        values = json.loads(path.read_text("utf-8"))
        change = Change(**{**values, "replaced": tuple(values["replaced"])})
        whole = all(
            isinstance(value, kind)
            for value, kind in (
                *((value, str) for value in (change.kind, change.detail, change.made)),
                *((value, int) for value in (change.first, change.before, change.after)),
                *((value, dict) for value in change.replaced),
            )
        )
        if not whole or not 0 <= change.first <= change.before == change.first + len(change.replaced):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        session = path.parents[1].name
        raise TemploraError(
            f"session {session}: {path} is damaged",
            f"delete it: then this session cannot go back to before it; or export it: "
            f"templora sessions export {session}",
        ) from None
    return change
