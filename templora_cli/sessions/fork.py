"""Fork a session: a second one with the same beginning, which goes its own way from there.

Steps are never changed once they are committed, so both sessions share their files by hard links. Files that
people edit are copied.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import link, numbered_name, sync_folder
from templora_cli.sessions.start import FOLDER as START
from templora_cli.sessions.steps import StepDamagedError, committed_steps, verify_step
from templora_cli.sessions.store import VERSIONS, Session, Store, lock_session, now

LINKED = ("steps", START)
OWN = (
    "edit.md",
    "out.txt",
    "synced",
    "session.json",
    "lock",
    "summary.json",
    "out.sha256",
    "saved.sha256",
    VERSIONS,
)
"""What a fork has of its own."""


@contextmanager
def forking(store: Store, parent: Session, chunks: int, name: str) -> Iterator[Session]:
    """A session `name` with the first `chunks` of the open session `parent`.

    It is in lists when the block ends, and is removed if that raises an error. `has_weights` says whether its
    chunks must be learnt again before that. Raises TemploraError if the name is taken or the disk refuses it.
    """
    store.require_free(name)
    path, final = store.folder / f".{name}.tmp", store.folder / name
    manifest = replace(
        parent.manifest,
        id=name,
        parent=parent.id,
        former_ids=[],
        created=now(),
        opened=now(),
        take=secrets.randbits(32),  # no other book of this beginning has these random numbers
        out=_free_out(store, parent),
    )
    try:
        shutil.rmtree(path, ignore_errors=True)  # of a fork that was killed
        path.mkdir()
        lock = lock_session(path)
        session = Session(path, manifest, lock)
        try:
            _copy(parent, path, chunks)
            yield session
            replace(session.manifest, id=name).save(path)
            lock.release()
            path.rename(final)
            sync_folder(store.folder)
            session.path = final
        except BaseException:
            lock.release()
            shutil.rmtree(path, ignore_errors=True)
            raise
    except OSError as error:
        raise of_os_error(error, assurance=f"Session {parent.id} is unchanged") from error


def _free_out(store: Store, parent: Session) -> str | None:
    """A book file beside that of the parent, which no file and no session has."""
    if parent.manifest.out is None:
        return None
    taken = {manifest.out for manifest in store.manifests() if not isinstance(manifest, TemploraError)}
    out = numbered_name(Path(parent.manifest.out))
    while str(out) in taken:
        stem, _, number = out.stem.rpartition("-")
        out = out.with_name(f"{stem}-{int(number) + 1}{out.suffix}")
    return str(out)


def has_weights(session: Session) -> bool:
    """Has the newest step of a session its weights?"""
    try:
        for last in committed_steps(session.steps)[-1:]:
            verify_step(last)
    except StepDamagedError:
        return False
    return True


def _copy(parent: Session, path: Path, chunks: int) -> None:
    """Put the beginning of a session into a new folder."""
    for entry in sorted(parent.path.iterdir()):
        target = path / entry.name
        if entry.name in OWN or entry.name.startswith((".", "steps.", "report.", "page-")):
            continue
        if entry.name == "steps":
            target.mkdir()
            for step in committed_steps(entry)[:chunks]:
                shutil.copytree(step, target / step.name, copy_function=link)
        elif entry.is_dir():
            copy = link if entry.name in LINKED else shutil.copy2
            shutil.copytree(entry, target, copy_function=copy)
        else:
            shutil.copy2(entry, target)
