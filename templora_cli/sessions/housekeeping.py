"""Sessions that are removed, renamed or made smaller. A kill leaves each as it was, or done."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import bytes_below, sync_folder
from templora_cli.sessions.steps import THINNED, StepDamaged, committed_steps, read_chunks, verify_step
from templora_cli.sessions.store import Session, Store, locked

if TYPE_CHECKING:
    from filelock import FileLock

REMOVED = ".removed-"
"""How the folder of a session begins that is being deleted: what begins with a dot is no session."""


def remove(store: Store, sessions: Sequence[Path]) -> Iterator[tuple[str, int]]:
    """Delete the folders of sessions; yields the name of each and the bytes that are free by it.

    Raises TemploraError before anything is deleted where one is open in another process, or is a link.
    """
    with ExitStack() as held:
        locks = []
        for session in sessions:
            locks.append(_lock_of_folder(session))
            held.callback(locks[-1].release)
        for session, lock in zip(sessions, locks, strict=True):
            freed, aside = bytes_below(session), store.folder / f"{REMOVED}{secrets.token_hex(8)}"
            _move(session, aside, lock)
            shutil.rmtree(aside, ignore_errors=True)
            if aside.exists():
                raise TemploraError(
                    f"{session.name} is no session any more, but not all of it could be deleted",
                    f"see {aside}",
                )
            yield session.name, freed
    for left in store.folder.glob(f"{REMOVED}*"):  # by a kill
        if not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


def _lock_of_folder(session: Path) -> FileLock:
    if session.is_symlink():
        raise TemploraError(
            f"{session} is a link, and what it points to lies elsewhere",
            f"to take it off the list: rm {session}",
        )
    return locked(session)


def rename(store: Store, session: Session, name: str) -> None:
    """Give an open session another name, a checked one; those that were forked from it say so too.

    Raises TemploraError where the name is taken, or one of those is open in another process.
    """
    store.require_free(name)
    old = session.path
    manifests = [one for one in store.manifests() if not isinstance(one, TemploraError)]
    with ExitStack() as opened:
        forks = [opened.enter_context(store.open(one.id)) for one in manifests if one.parent == old.name]
        _move(old, store.folder / name, session.lock)
        session.path = store.folder / name
        session.update(id=name, former_ids=[*session.manifest.former_ids, old.name])
        for fork in forks:
            fork.update(parent=name)


def _move(session: Path, to: Path, lock: FileLock) -> None:
    if os.name == "nt":  # moves no folder in which a file is open
        lock.release()
    try:
        session.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        raise of_os_error(error, kept=f"Session {session.name} is as it was") from error


def older_checkpoints(steps: Path) -> list[Path]:
    """The files of all checkpoints but the newest: an exact resume needs that one alone."""
    names = [step / name for step in committed_steps(steps)[:-1] for name in THINNED]
    return [file for file in names if file.is_file()]


def shrink(session: Session) -> int:
    """Delete the older checkpoints of an open session, whose newest is whole; returns their bytes.

    Raises TemploraError where the newest is damaged: then the older ones are what it goes on from.
    """
    steps = committed_steps(session.steps)
    try:
        read_chunks(session.steps)
        for newest in steps[-1:]:
            verify_step(newest)
    except StepDamaged as damage:
        raise TemploraError(
            f"session {session.id}: {damage}, so its older checkpoints are needed", session.resume_command
        ) from None
    freed = 0
    for file in older_checkpoints(session.steps):
        size = file.stat().st_size
        with suppress(OSError):
            file.unlink()
            freed += size
    return freed
