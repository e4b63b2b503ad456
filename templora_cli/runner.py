"""The programming interface: create or open a session, and run it to its goal, event by event.

This module knows no terminal, signals or exit status. `docs/api.md` has an example.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import (
    Event,
    Notice,
    Working,
    words_with_opening,
)
from templora_cli.prepare import ENGINE, Engine, Notify, ignore_events, prepare
from templora_cli.reload import locate_model, reload_model
from templora_cli.run import Run, update_after_change, use_threads
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.names import checked_name
from templora_cli.sessions.new import Request
from templora_cli.sessions.steps import (
    StepDamagedError,
    proposed_in,
    read_chunks,
    readable_chunks,
)
from templora_cli.sessions.store import Session, Store, now
from templora_cli.sessions.summary import refresh_summary
from templora_cli.sessions.versions import Reason
from templora_cli.text import count_words

if TYPE_CHECKING:
    from templora_cli.sessions.start import Start

Length = tuple[int, Literal["words", "tokens", "chunks"]]


def begin(
    request: Request,
    config: Config | Mapping[str, Any],
    *,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
    resume_same: bool = False,
    name: str | None = None,
    start: Start | None = None,
) -> Run:
    """Begin a session for `request`, or with `resume_same` continue one with the same request and settings.

    `config` holds the settings of that kind of task (`config_layers.settings`), or their values nested as in
    TOML. `name` is the id of a new session; without one, it is generated from the request. `start` is the
    checkpoint of another session from which the adapter begins. Raises TemploraError as `prepare` does, if
    the name is invalid or taken, and if `start` belongs to another model or to other settings.
    """
    if name is not None:
        name = checked_name(name, "--name {}")
        if not resume_same:
            Store().require_free(name)  # fail before the model is loaded
    prepared = prepare(request, config, notify=notify, engine=engine, name=name)
    session = prepared.create(resume_same=resume_same, name=name, start=start)
    if name not in (None, session.id):
        renaming = f"to rename it: templora sessions rename {session.id} {name}"
        notify(Notice(f"session {session.id} has the same settings and is continued; {renaming}"))
    return Run(session, prepared.model, engine)


def resume(
    reference: str | None = None,
    *,
    more: Length | None = None,
    model: str | None = None,
    out: Path | None = None,
    note: str | None = None,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
) -> Run:
    """Open the session with this id or unique beginning of an id; None means the last session.

    `more` is the length to add to the book as it is now, finished or not. `model` is the new location of its
    model, `out` its new output file, and `note` the author's new note: the session stores all three.
    Raises TemploraError if there is no such session, another process writes to it, it is finished, `more`
    is set for a kind that has no length, only a measuring command can continue it, or its model is missing
    or a different one.
    """
    session = Store().open(reference)
    try:
        kind = engine.kind(session.manifest)
        if out is not None:
            kind.check_out(session.manifest, out)
        file = {} if out is None else {"out": str(out.absolute())}
        _require_resumable(session, kind, more)
        if note is not None and not kind.is_prose:
            raise TemploraError(f"{session.id} is not a novel and has no note", "leave out --note")
        if more is None and kind.can_be_extended and _is_finished(session, kind):
            session.update(**file)  # the text of a finished book goes to its new file
            _update_files(session, kind, notify)
            raise _finished_error(session, kind)
        run = reopen(session, model=model, notify=notify, engine=engine)
        # Only now: a stop while the model is loaded changes nothing.
        if note is not None:
            run.set_note(note)
        goal = {} if more is None else _extended_goal(session, kind, *more)
        session.update(opened=now(), **file, **goal)
        return run
    except BaseException:
        session.lock.release()
        raise


def reopen(
    session: Session,
    *,
    model: str | None = None,
    command: str | None = None,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
) -> Run:
    """Load the model of an open session with its earlier settings; `model` is its new location, if it moved.

    Raises TemploraError if the model is missing or a different one. The hint is then `command`, by default
    the one that resumes, with --model.
    """
    notify(Working(f"loading {model or session.manifest.model}"))
    location = locate_model(session, model, command or session.resume_command, notify)
    before = session.manifest
    session.manifest = replace(before, **location)  # saved when the model is loaded
    use_threads(session.manifest)
    loaded = reload_model(session, notify, engine)
    if session.manifest != before:
        session.update(**location)
    return Run(session, loaded, engine)


def take_back(
    session: Session,
    keep: int,
    reason: Reason,
    stop: threading.Event | None = None,
    *,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
) -> Generator[Event, None, None]:
    """Take back all chunks of an open session but the first `keep`, text and weights.

    The model is loaded only if the checkpoint after these chunks is no longer there: then they are learnt
    again from an older one, and stopping it early leaves the session unchanged.
    """
    from templora_cli.sessions.history import truncate

    kind = engine.kind(session.manifest)
    book = kind.book_file(session)
    if truncate(session, keep, reason):
        yield from update_after_change(session, kind, book)
    else:
        run = reopen(session, notify=notify, engine=engine)
        yield from run.relearn(run.chunks[:keep], stop, reason=reason)


def committed(session: Session) -> list[dict[str, Any]]:
    """The values of the committed chunks. Raises TemploraError if one is damaged."""
    try:
        return read_chunks(session.steps)
    except StepDamagedError as damage:
        raise TemploraError(
            f"session {session.id} is damaged: {damage}", f"to repair what can be: {session.resume_command}"
        ) from None


def _require_resumable(session: Session, kind: TaskKind, more: Length | None) -> None:
    """Raise TemploraError if the session cannot be resumed here, or not with `more`."""
    command = session.resume_command
    if session.manifest.measured_by:  # otherwise its next chunks would not be measured
        raise TemploraError(f"{session.id} can only be continued by the command that measures it", command)
    if more is not None and not kind.can_be_extended:
        extend = kind.extend_command(session)
        hint = f"leave out the length: {command}" if extend is None else f"to add chapters: {extend}"
        raise TemploraError(f"{session.id} cannot be made longer", hint)


def _update_files(session: Session, kind: TaskKind, notify: Notify) -> None:
    """Write the summary and the file of `--out` again: a kill may have left them a chunk behind the steps."""
    refresh_summary(session.path, read_chunks(session.steps), kind)
    if (book := kind.book_file(session)) and (notice := book.write()):
        notify(Notice(notice, important=True))


def _finished_error(session: Session, kind: TaskKind) -> TemploraError:
    return TemploraError(
        f"{session.id} is finished: {_length(session, kind)}",
        f"to extend it: {kind.extend_command(session)}",
    )


def _length(session: Session, kind: TaskKind) -> str:
    """The length of a finished book for people."""
    manifest, chunks = session.manifest, read_chunks(session.steps)
    progress = kind.progress(manifest, kind.done(chunks, manifest.goal_unit))
    if not kind.has_opening(manifest):
        return progress
    words = count_words("".join(chunk["text"] for chunk in chunks))
    return f"{progress}, {words_with_opening(words, manifest.goal_unit)}"


def _is_finished(session: Session, kind: TaskKind) -> bool:
    try:
        chunks = read_chunks(session.steps)
        return kind.finished(session.manifest, chunks) and not proposed_in(chunks)
    except StepDamagedError:
        return False  # restoring reports the damage and returns to an intact step


def _extended_goal(session: Session, kind: TaskKind, amount: int, unit: str) -> dict[str, Any]:
    """The goal that is `amount` beyond the present length. Damaged steps count: they are written again."""
    return {"goal_amount": kind.done(readable_chunks(session.steps), unit) + amount, "goal_unit": unit}
