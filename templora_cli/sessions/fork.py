"""Fork a session: a second one with the same beginning, which goes its own way from there.

Steps are never changed once they are committed, so both sessions share their files by hard links. Files that
people edit are copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from templora_cli.errors import of_os_error
from templora_cli.files import link, numbered_name, sync_folder
from templora_cli.sessions.start import FOLDER as START
from templora_cli.sessions.steps import StepDamagedError, committed_steps, verify_step
from templora_cli.sessions.store import VERSIONS, Session, Store, lock_session, now
from templora_cli.sessions.versions import redraws_of

LINKED = ("steps", START)
OWN = ("session.json", "lock", "summary.json", "out.sha256", "saved.sha256", VERSIONS)
"""What a fork has of its own."""


@contextmanager
def forking(store: Store, parent: Session, chunks: int, name: str) -> Iterator[Session]:
    """A session `name` with the first `chunks` of the open session `parent`.

    It is in lists when the block ends, and is removed if that raises an error. `has_weights` says whether its
    chunks must be learnt again before that. Raises TemploraError if the name is taken or the disk refuses it.
    """
    store.require_free(name)
    path, take = store.folder / name, parent.manifest.take + redraws_of(parent.path) + 1
    out = None if parent.manifest.out is None else str(numbered_name(Path(parent.manifest.out)))
    manifest = replace(
        parent.manifest,
        id=name,
        parent=parent.id,
        former_ids=[],
        created=now(),
        opened=now(),
        take=take,
        out=out,
    )
    try:
        path.mkdir()
        lock = lock_session(path)
        try:
            _copy(parent, path, chunks)
            yield Session(path, manifest, lock)
            manifest.save(path)
            sync_folder(store.folder)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            lock.release()
    except OSError as error:
        raise of_os_error(error, assurance=f"Session {parent.id} is unchanged") from error


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
        if entry.name in OWN or entry.name.startswith((".", "steps.", "report.")):
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
