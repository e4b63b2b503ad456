"""The folder of all sessions: creating, finding, opening and locking them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from templora_cli.errors import TemploraError, is_disk_full, of_os_error
from templora_cli.files import expanded, sync_folder, write_atomically
from templora_cli.sessions.manifest import Manifest, load_manifest
from templora_cli.sessions.names import fold_name, name_from_text

if TYPE_CHECKING:
    from filelock import FileLock

VERSIONS = "versions"
SYNCED = "synced"
"""Folder in a session with the texts of edited files as they were applied, or set aside, last."""
BASE = "out.txt"
"""The text of the book as it was last written to the file of `--out`."""
PENDING_CHANGE = "change.json"
"""The change that new steps make, until `replace_steps` has put it among the versions of the session."""
PLAN_FILE = "plan.md"
LEDGER_FILE = "ledger.toml"
"""The ledger in the folder of a session, for `memory.ledger.load_ledger`. Without entries there is none."""


def home() -> Path:
    """`TEMPLORA_HOME`, or the platform's folder for a user's data."""
    named = os.environ.get("TEMPLORA_HOME")
    return expanded(named or user_data_path("templora", appauthor=False)).absolute()


@dataclass
class Session:
    """One book on disk. It is open for writing while it holds its lock."""

    path: Path
    manifest: Manifest
    lock: FileLock

    @property
    def id(self) -> str:
        """The name of the session and of its folder."""
        return self.path.name

    @property
    def steps(self) -> Path:
        """The folder of the committed chunks."""
        return self.path / "steps"

    @property
    def plan_path(self) -> Path:
        """The plan of the book, a Markdown file that people may edit; many sessions have none."""
        return self.path / PLAN_FILE

    @property
    def ledger_path(self) -> Path:
        """The ledger of the book, a TOML file that people may edit; many sessions have none."""
        return self.path / LEDGER_FILE

    @property
    def resume_command(self) -> str:
        """The command that continues this book."""
        if self.manifest.measured_by:
            return f"{self.manifest.measured_by} (with the same arguments)"
        return f"templora resume {self.id}"

    @property
    def is_in_place(self) -> bool:
        """Is the folder still there, and not that of a newer session with the same name?"""
        if not self.steps.is_dir():
            return False
        with suppress(TemploraError):  # a damaged manifest is reported when it is needed
            return load_manifest(self.path).created == self.manifest.created
        return True

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest and save it. Raises TemploraError if the disk refuses it."""
        changed = replace(self.manifest, **changes)
        try:
            changed.save(self.path)
        except OSError as error:
            remedy = "free disk space" if is_disk_full(error) else "correct this"
            hint = f"{remedy}, then: {self.resume_command}"
            raise of_os_error(error, assurance="All committed chunks are safe", hint=hint) from error
        self.manifest = changed

    def source(self, suffix: str = ".txt") -> bytes:
        """The session's copy of its input. Raises TemploraError if it is damaged."""
        path = self.path / f"source{suffix}"
        content = path.read_bytes() if path.is_file() else b""
        if sha256_of(content) != self.manifest.source_sha256:
            raise TemploraError(f"session {self.id}: {path} is damaged", "restore the original file")
        return content

    def opening(self) -> tuple[int, ...]:
        """The token ids of the human opening, stored when the session began.

        Raises TemploraError if they are damaged.
        """
        path = self.path / "tokens.json"
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        if sha256_of(text) != self.manifest.tokens_sha256:
            raise TemploraError(
                f"session {self.id}: {path} is damaged",
                f"to save its text: templora sessions export {self.id}",
            )
        return tuple(json.loads(text))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()


class Store:
    """All sessions in one data folder."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` holds `sessions/`; by default `home()`."""
        self.folder = (root or home()) / "sessions"

    def new_id(self, text: str) -> str:
        """A name that is easy to remember and type: words of `text` and four random hexadecimal digits."""
        words = name_from_text(text)
        words = words if self.accepts_name(words) else name_from_text(text, in_ascii=True)
        while (self.folder / (name := f"{words}-{secrets.token_hex(2)}")).exists():
            pass
        return name

    def accepts_name(self, name: str) -> bool:
        """Can a folder have this name? Some file systems and locales support few scripts."""
        if name.isascii():
            return True
        trial = self.folder / f".{name}.tmp"
        try:
            trial.mkdir(parents=True, exist_ok=True)
            existing = {fold_name(entry) for entry in os.listdir(self.folder)}  # noqa: PTH208  (names alone)
            trial.rmdir()
        except (OSError, ValueError):
            return False
        return fold_name(trial.name) in existing

    def require_free(self, name: str) -> None:
        """Raise TemploraError if a file or folder has this name, in any capitalisation."""
        existing = os.listdir(self.folder) if self.folder.is_dir() else []  # noqa: PTH208
        for other in existing:
            if fold_name(other) == fold_name(name):
                path = self.folder / other
                if (path / "session.json").exists():
                    raise TemploraError(f"a session called {other} already exists", "templora sessions list")
                raise TemploraError(
                    f"{path} already exists and is not a session", "remove it, or choose another name"
                )
        if not self.accepts_name(name):
            raise TemploraError(
                f"the file system of {self.folder} does not support this name: {name}",
                "use the letters a to z",
            )

    def create(
        self,
        manifest: Manifest,
        *,
        opening: tuple[int, ...],
        source: str | bytes | None,
        suffix: str = ".txt",
        files: Mapping[str, str] | None = None,
        add: Callable[[Path], None] = lambda folder: None,
    ) -> Session:
        """Create the folder of a new session and lock it. `source` is copied to a file that ends in `suffix`.

        `files` are more texts by their names, which may have a folder; `add` adds what else belongs there.
        The manifest is written last: a folder without one is not a session.
        """
        path = self.folder / manifest.id
        tokens = json.dumps(opening)
        manifest = replace(manifest, tokens_sha256=sha256_of(tokens))
        try:
            (path / "steps").mkdir(parents=True)
            try:
                lock = lock_session(path)
                write_atomically(path / "tokens.json", tokens)
                if source is not None:
                    write_atomically(path / f"source{suffix}", source)
                for name, text in (files or {}).items():
                    (path / name).parent.mkdir(exist_ok=True)
                    write_atomically(path / name, text)
                add(path)
                manifest.save(path)
                for folder in (self.folder, *self.folder.parents[:2]):
                    sync_folder(folder)
            except BaseException:  # Ctrl-C: its name must be free for the next try
                shutil.rmtree(path, ignore_errors=True)
                raise
        except OSError as error:
            raise TemploraError(
                f"cannot create a session in {self.folder}: {error.strerror}",
                "set TEMPLORA_HOME to a writable folder",
            ) from None
        return Session(path, manifest, lock)

    def open(self, reference: str | None) -> Session:
        """Open a session and lock it for writing. Raises TemploraError if another process has locked it."""
        path = self.find(reference)
        lock = lock_session(path)
        try:
            finish_replacing_steps(path)
            return Session(path, load_manifest(path), lock)
        except BaseException:
            lock.release()
            raise

    def find(self, reference: str | None) -> Path:
        """The folder of the session with this id or unique beginning of an id; None is the last session."""
        if reference is None and (last := self.last()) is not None:
            return self.folder / last
        ids = sorted(path.name for path in self._folders())
        if not ids:
            raise TemploraError(f"there is no session in {self.folder}", 'templora write --premise "..."')
        assert reference is not None
        matches = [reference] if reference in ids else _matching(reference, ids)
        if len(matches) == 1 and reference:
            return self.folder / matches[0]
        if not matches:
            near = _nearest(reference, ids)
            meant = f"did you mean {near}? To list all: " if near else ""
            raise TemploraError(f"no session is called {reference}", f"{meant}templora sessions list")
        listed = ", ".join(matches[:6]) + (", ..." if len(matches) > 6 else "")
        raise TemploraError(
            f"{reference or 'an empty name'} matches several sessions: {listed}",
            f"type more of the name, for example {matches[0]}",
        )

    def manifests(self) -> Iterator[Manifest | TemploraError]:
        """The manifests of all sessions, last opened first; then the error of each unreadable one."""
        manifests: list[Manifest] = []
        errors: list[TemploraError] = []
        for path in self._folders():
            try:
                manifests.append(load_manifest(path))
            except TemploraError as error:
                errors.append(error)
        yield from sorted(manifests, key=lambda m: m.opened, reverse=True)
        yield from errors

    def last(self, task: str | None = None) -> str | None:
        """The id of the session, of this `task` if given, that was opened last; None if there is none."""
        for manifest in self.manifests():
            if isinstance(manifest, TemploraError):
                raise manifest
            if task in (None, manifest.task):
                return manifest.id
        return None

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        # Strings: there may be thousands, and creating a Path takes longer than checking whether it exists.
        with os.scandir(self.folder) as entries:
            folders = [entry.path for entry in entries if not entry.name.startswith(".")]  # being removed
        return [Path(path) for path in folders if os.path.exists(f"{path}/session.json")]  # noqa: PTH110


def _matching(reference: str, ids: Sequence[str]) -> list[str]:
    """The ids that equal `reference`, compared by `fold_name`; if none does, those that begin with it."""
    target = fold_name(reference)
    same = [name for name in ids if fold_name(name) == target]
    return same or [name for name in ids if fold_name(name).startswith(target)]


def _nearest(reference: str, ids: Sequence[str]) -> str | None:
    """The id that is spelt most like `reference`, which may lack the random digits or be its beginning."""
    typed, spellings = fold_name(reference), dict[str, str]()
    for name in ids:
        folded = fold_name(name)
        for spelling in (folded[: len(typed)], re.sub(r"-[0-9a-f]{4}$", "", folded), folded):
            spellings[spelling] = name
    matches = get_close_matches(typed, spellings, n=1)
    return spellings[matches[0]] if matches else None


def now() -> str:
    """The time as ISO 8601 in UTC, in microseconds, so that sessions opened in one second are ordered."""
    return datetime.now(timezone.utc).isoformat()


def sha256_of(content: str | bytes) -> str:
    """The SHA-256 of bytes, or of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(content.encode("utf-8") if isinstance(content, str) else content).hexdigest()


def replace_steps(path: Path) -> None:
    """Replace the steps of the session at `path` with those of `steps.new`, which must be complete.

    If this is killed, `finish_replacing_steps` completes it.
    """
    (path / "summary.json").unlink(missing_ok=True)  # of the old steps
    (path / "steps").replace(path / "steps.old")
    (path / "steps.new").replace(path / "steps")
    sync_folder(path)
    finish_replacing_steps(path)


def finish_replacing_steps(path: Path) -> None:
    """Clean up if `replace_steps`, or the creation of `steps.new`, was killed."""
    steps, new, old = (path / name for name in ("steps", "steps.new", "steps.old"))
    if old.is_dir() and not steps.is_dir():
        (new if new.is_dir() else old).replace(steps)
        sync_folder(path)
    _keep_change(path)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _keep_change(path: Path) -> None:
    """Put the change that made the steps of a session among its versions, and its plan in place."""
    if (plan := path / "steps" / PLAN_FILE).is_file():
        plan.replace(path / PLAN_FILE)
        sync_folder(path)
    change, versions = path / "steps" / PENDING_CHANGE, path / VERSIONS
    if not change.is_file():
        return
    versions.mkdir(exist_ok=True)
    numbers = [int(file.stem) for file in versions.glob("??????.*") if file.stem.isdecimal()]
    change.replace(versions / f"{max(numbers, default=0) + 1:06d}.json")
    for folder in (versions, path / "steps", path):
        sync_folder(folder)


def free_name(path: Path) -> Path:
    """A free name for a person's edited version of `path`."""
    number = 1
    while (name := path.with_name(f"{path.stem}.edited-{number}{path.suffix}")).exists():
        number += 1
    return name


def lock_session(path: Path) -> FileLock:
    """Lock the session at `path` for writing. Raises TemploraError if another process has locked it, or the
    disk refuses it.
    """
    # The operating system drops the lock when the process ends, however it ends.
    from filelock import FileLock, Timeout  # listing sessions needs no lock

    lock = FileLock(path / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TemploraError(
            f"session {path.name} is being written by another process",
            "wait for it, or stop it (Ctrl-C loses only the chunk in progress)",
        ) from None
    except OSError as error:
        raise TemploraError(
            f"session {path.name} cannot be locked for writing: {error.strerror}", f"make {path} writable"
        ) from None
    return lock
