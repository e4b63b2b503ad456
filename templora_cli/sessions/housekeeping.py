"""Remove, rename and shrink sessions. After a kill, each session is either unchanged or fully changed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import bytes_below, sync_folder
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.steps import THINNED, StepDamagedError, committed_steps, read_chunks, verify_step
from templora_cli.sessions.store import Session, Store, lock_session

if TYPE_CHECKING:
    from filelock import FileLock

REMOVED = ".removed-"
"""Prefix of the folder of a session that is being deleted; folders that begin with a dot are not sessions."""


def remove(store: Store, sessions: Sequence[Path]) -> Iterator[tuple[str, int]]:
    """Delete the folders of sessions; yields the name of each and the bytes that this frees.

    Raises TemploraError, before anything is deleted, if one is open in another process or is a link.
    """
    with ExitStack() as stack:
        locks = []
        for session in sessions:
            locks.append(_lock_of_folder(session))
            stack.callback(locks[-1].release)
        for session, lock in zip(sessions, locks, strict=True):
            freed, aside = bytes_below(session), store.folder / f"{REMOVED}{secrets.token_hex(8)}"
            _move(session, aside, lock)
            shutil.rmtree(aside, ignore_errors=True)
            if aside.exists():
                raise TemploraError(
                    f"{session.name} was removed, but some of its files could not be deleted",
                    f"delete {aside}",
                )
            yield session.name, freed
    for leftover in store.folder.glob(f"{REMOVED}*"):  # of a removal that was killed
        if not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)


def _lock_of_folder(session: Path) -> FileLock:
    if session.is_symlink():
        raise TemploraError(
            f"{session} is a link to another folder",
            f"to remove it from the list: rm {session}",
        )
    return lock_session(session)


def require_closed(sessions: Sequence[Path]) -> None:
    """Raise TemploraError if one of the sessions is open in another process or is a link."""
    for session in sessions:
        _lock_of_folder(session).release()


def rename(store: Store, session: Session, name: str) -> None:
    """Rename an open session to `name`, which must be checked, and update the parent of its forks.

    Raises TemploraError if the name is taken or a fork is open in another process.
    """
    store.require_free(name)
    old = session.path
    manifests = [manifest for manifest in store.manifests() if not isinstance(manifest, TemploraError)]
    with ExitStack() as stack:
        forks = [stack.enter_context(store.open(m.id)) for m in manifests if m.parent == old.name]
        _move(old, store.folder / name, session.lock)
        session.path = store.folder / name
        session.update(id=name, former_ids=[*session.manifest.former_ids, old.name])
        for fork in forks:
            fork.update(parent=name)


def _move(session: Path, to: Path, lock: FileLock) -> None:
    if os.name == "nt":  # Windows cannot move a folder that contains an open file
        lock.release()
    try:
        session.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        raise of_os_error(error, assurance=f"Session {session.name} is unchanged") from error


def older_checkpoints(steps: Path, needed: Collection[int] = ()) -> list[Path]:
    """The files of all checkpoints but the newest, which is the only one that an exact resume needs.

    Those after the chunks with the indexes in `needed` are left out.
    """
    folders = [step for index, step in enumerate(committed_steps(steps)[:-1]) if index not in needed]
    names = [step / name for step in folders for name in THINNED]
    return [file for file in names if file.is_file()]


def shrink(session: Session, kind: TaskKind) -> int:
    """Delete the older checkpoints of an open session; returns the freed bytes.

    Raises TemploraError if the newest checkpoint is damaged: then the older ones are needed to resume.
    """
    steps = committed_steps(session.steps)
    try:
        chunks = read_chunks(session.steps)
        for newest in steps[-1:]:
            verify_step(newest)
    except StepDamagedError as damage:
        raise TemploraError(
            f"session {session.id}: {damage}, so its older checkpoints are needed", session.resume_command
        ) from None
    freed = 0
    for file in older_checkpoints(session.steps, kind.needed(chunks)):
        size = file.stat().st_size
        with suppress(OSError):
            file.unlink()
            freed += size
    return freed
