"""Earlier versions of a book: what was undone or replaced can be brought back.

    versions/000001.json    the first change: its kind, when it was made, and the chunks that it replaced

A version has the chunks that the change replaced, without weights. With the chunks before them they are the
book as it was before the change; the weights are learnt again when a person goes back to it. The file of a
change comes into place together with the chunks that it made (`store.replace_steps`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically
from templora_cli.sessions.steps import read_whole_chunks
from templora_cli.sessions.store import BASE, PENDING_CHANGE, PLAN_FILE, SYNCED, VERSIONS, now, sha256_of

Values = Mapping[str, Any]
FORGET = "forget"
"""The kind of a change that takes a passage out of the book and of all that was kept of it."""


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
    plan: str | None = None
    """The plan before the change, if that has changed it."""
    forgotten: bool = False
    """Was a passage forgotten, so that the chunks are not kept and the book cannot go back to before it?"""


@dataclass(frozen=True)
class Reason:
    """Why chunks are changed; `Change` explains the fields."""

    kind: str
    detail: str = ""
    redraws: bool = False


def write_change(
    steps: Path, new: Path, first: int, chunks: int, reason: Reason, *, plan: str | None = None
) -> None:
    """Note in the folder of new steps what they change in `steps`, before they replace them.

    `first` is the index of the first chunk that is replaced, `chunks` their number after the change. `plan`
    is a new plan of the book, which comes into place with the steps.
    """
    old = read_whole_chunks(steps)
    if first == chunks == len(old):
        return
    values = asdict(reason) | {"made": now(), "first": first, "before": len(old), "after": chunks}
    plan_file = steps.parent / PLAN_FILE
    plan_before = plan_file.read_text("utf-8") if plan is not None and plan_file.is_file() else None
    if plan is not None:
        write_atomically(new / PLAN_FILE, plan)
    change = Change(**values, replaced=tuple(old[first:]), plan=plan_before)
    write_atomically(new / PENDING_CHANGE, _as_text(_emptied(change) if reason.kind == FORGET else change))


def forget_versions(session: Path) -> None:
    """Delete what earlier versions of a book kept of its text: a passage of it is to be forgotten."""
    for path in sorted((session / VERSIONS).glob("??????.json")):
        write_atomically(path, _as_text(_emptied(_read(path))))
    shutil.rmtree(session / SYNCED, ignore_errors=True)
    (session / BASE).unlink(missing_ok=True)


def _emptied(change: Change) -> Change:
    return replace(change, replaced=(), plan=None, forgotten=True)


def _as_text(change: Change) -> str:
    content = asdict(change)
    return json.dumps({"sha256": _digest(content), **content}, ensure_ascii=False)


def _digest(content: Mapping[str, Any]) -> str:
    return sha256_of(json.dumps(content, sort_keys=True, ensure_ascii=True))


def changes_of(session: Path) -> dict[int, Change]:
    """The changes of a session by their numbers, in order. Raises TemploraError if one is damaged."""
    changes = {int(path.stem): _read(path) for path in sorted((session / VERSIONS).glob("??????.json"))}
    pending = session / "steps" / PENDING_CHANGE  # of a replacement that was not finished
    if pending.is_file():
        changes[max([0, *_numbers(session)]) + 1] = _read(pending)
    return changes


def redraws_of(session: Path) -> int:
    """How many changes ask for other random numbers; those that were lost count too."""
    lost = len(_numbers(session)) - len(list((session / VERSIONS).glob("??????.json")))
    return lost + sum(change.redraws for change in changes_of(session).values())


def chunks_before(session: Path, number: int) -> list[Values]:
    """The chunks of the book as it was before change `number`.

    Raises TemploraError if there is no such change, or one after it is lost.
    """
    changes = changes_of(session)
    log = f"templora sessions log {session.name}"
    if number not in changes:
        raise TemploraError(f"{session.name} has no change number {number}", log)
    chunks: list[Values] = list(read_whole_chunks(session / "steps"))
    for later in range(max(changes), number - 1, -1):
        change = changes.get(later)
        if change is not None and change.forgotten:
            raise TemploraError(
                f"{session.name} cannot go back to before change {later}: a passage was forgotten then", log
            )
        if change is None or change.after > len(chunks):  # it has grown since
            raise TemploraError(f"{session.name} cannot go back so far: change {later} is lost", log)
        chunks = [*chunks[: change.first], *change.replaced]
    return chunks


def plan_before(session: Path, number: int) -> str | None:
    """The plan of the book as it was before change `number`; None if no change since has changed it."""
    changes = changes_of(session)
    return next(
        (changes[n].plan for n in sorted(changes) if n >= number and changes[n].plan is not None), None
    )


def _numbers(session: Path) -> list[int]:
    """The numbers of all changes, those among them that were lost."""
    return [int(path.stem) for path in (session / VERSIONS).glob("??????.*") if path.stem.isdecimal()]


def _read(path: Path) -> Change:
    try:
        values = json.loads(path.read_text("utf-8"))
        if values.pop("sha256") != _digest(values):
            raise ValueError
        change = Change(**{**values, "replaced": tuple(values["replaced"])})
        kept = 0 if change.forgotten else change.before - change.first
        if not 0 <= change.first <= change.before or len(change.replaced) != kept:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        session = path.parents[1].name
        raise TemploraError(
            f"session {session}: {path} is damaged, and the book cannot go back to before it",
            f"to go on without it: mv {path} {path.with_suffix('.lost')}",
        ) from None
    return change
