"""The folder of all sessions: making one, finding one, and seeing to it that one process writes to it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import sync_folder, write_atomically
from templora_cli.sessions.manifest import Manifest, load_manifest

if TYPE_CHECKING:
    from filelock import FileLock


def home() -> Path:
    """`TEMPLORA_HOME`, or the platform's folder for a user's data."""
    return Path(os.environ.get("TEMPLORA_HOME") or user_data_path("templora", appauthor=False)).absolute()


@dataclass
class Session:
    """One book on the disk. Open for writing while it holds its lock."""

    path: Path
    manifest: Manifest
    lock: FileLock

    @property
    def id(self) -> str:
        """Its name, and that of its folder."""
        return self.path.name

    @property
    def steps(self) -> Path:
        """The folder of the committed chunks."""
        return self.path / "steps"

    @property
    def resume_command(self) -> str:
        """What goes on with this book."""
        if self.manifest.measured_by:
            return f"{self.manifest.measured_by} (with the same arguments)"
        return f"templora resume {self.id}"

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest and save it. Raises TemploraError where the disk does not take it."""
        changed = replace(self.manifest, **changes)
        try:
            changed.save(self.path)
        except OSError as error:
            hint = f"make room, then: {self.resume_command}"
            raise of_os_error(error, kept="All committed chunks are safe", hint=hint) from error
        self.manifest = changed

    def source(self, suffix: str = ".txt") -> bytes:
        """The session's own copy of what a person wrote. Raises TemploraError where it is damaged."""
        path = self.path / f"source{suffix}"
        content = path.read_bytes() if path.is_file() else b""
        if sha256_of(content) != self.manifest.source_sha256:
            raise TemploraError(f"session {self.id}: {path} is damaged", "put it back as it was")
        return content

    def opening(self) -> tuple[int, ...]:
        """The token ids of what a person wrote first, as they were when the session began.

        Raises TemploraError where they are damaged.
        """
        path = self.path / "tokens.json"
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        if sha256_of(text) != self.manifest.tokens_sha256:
            raise TemploraError(
                f"session {self.id}: {path} is damaged",
                f"the text can be saved: templora sessions export {self.id}",
            )
        return tuple(json.loads(text))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()


class Store:
    """All sessions below one home."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` holds `sessions/`; by default `home()`."""
        self.folder = (root or home()) / "sessions"

    def new_id(self, text: str) -> str:
        """A name that can be remembered and typed: words of `text` and four random digits."""
        words = [w for w in re.findall(r"[a-z]+", text.lower()) if len(w) > 3][:2] or ["book"]
        while (self.folder / (name := "-".join([*(w[:12] for w in words), secrets.token_hex(2)]))).exists():
            pass
        return name

    def create(
        self,
        manifest: Manifest,
        *,
        opening: tuple[int, ...],
        source: str | bytes | None,
        suffix: str = ".txt",
    ) -> Session:
        """Make the folder of a new session and lock it. The manifest comes last: it makes the session.

        The session keeps a copy of its `source`, whose name ends in `suffix`.
        """
        path = self.folder / manifest.id
        tokens = json.dumps(opening)
        manifest = replace(manifest, tokens_sha256=sha256_of(tokens))
        try:
            (path / "steps").mkdir(parents=True)
            lock = _locked(path)
            write_atomically(path / "tokens.json", tokens)
            if source is not None:
                write_atomically(path / f"source{suffix}", source)
            manifest.save(path)
            for folder in (self.folder, *self.folder.parents[:2]):
                sync_folder(folder)
        except OSError as error:
            raise TemploraError(
                f"no session can be kept in {self.folder}: {error.strerror}",
                "set TEMPLORA_HOME to a folder that can be written to",
            ) from None
        return Session(path, manifest, lock)

    def open(self, reference: str | None) -> Session:
        """Lock the session for writing. Raises TemploraError where another process writes to it."""
        path = self.find(reference)
        lock = _locked(path)
        try:
            finish_replacing_steps(path)
            return Session(path, load_manifest(path), lock)
        except BaseException:
            lock.release()
            raise

    def find(self, reference: str | None) -> Path:
        """The folder of the session with this id or unique beginning of one; None is the last session."""
        if reference is None and (last := self._last()) is not None:
            return self.folder / last
        ids = sorted(path.name for path in self._folders())
        if not ids:
            raise TemploraError(f"there is no session in {self.folder}", 'templora write --premise "..."')
        assert reference is not None
        matches = [reference] if reference in ids else [i for i in ids if i.startswith(reference)]
        if len(matches) == 1 and reference:
            return self.folder / matches[0]
        if not matches:
            raise TemploraError(f"no session is called {reference}", "templora sessions list")
        raise TemploraError(
            f"{reference or 'an empty name'} fits several sessions: {', '.join(matches[:6])}",
            f"give more of the name, such as: templora resume {matches[0]}",
        )

    def manifests(self) -> Iterator[Manifest | TemploraError]:
        """Of all sessions, the last opened first; what cannot be read comes last, as its error."""
        good: list[Manifest] = []
        bad: list[TemploraError] = []
        for path in self._folders():
            try:
                good.append(load_manifest(path))
            except TemploraError as error:
                bad.append(error)
        yield from sorted(good, key=lambda m: m.opened, reverse=True)
        yield from bad

    def _last(self) -> str | None:
        """The id of the session that was opened last; None where there is none."""
        for manifest in self.manifests():
            if isinstance(manifest, TemploraError):
                raise manifest
            return manifest.id
        return None

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        # In strings: there may be thousands, and a path is dearer than the question whether it is there.
        with os.scandir(self.folder) as entries:
            found = [e.path for e in entries if os.path.exists(f"{e.path}/session.json")]  # noqa: PTH110
        return [Path(path) for path in found]


def now() -> str:
    """ISO 8601 in UTC, to the microsecond, so that sessions opened in one second keep their order."""
    return datetime.now(timezone.utc).isoformat()


def sha256_of(content: str | bytes) -> str:
    """Of the bytes, of a text those of UTF-8."""
    return hashlib.sha256(content.encode("utf-8") if isinstance(content, str) else content).hexdigest()


def replace_steps(path: Path) -> None:
    """Put the steps of `steps.new`, which are whole, in the place of those of the session at `path`.

    A kill in between leaves `finish_replacing_steps` enough to go on.
    """
    (path / "summary.json").unlink(missing_ok=True)  # of the old ones
    (path / "steps").replace(path / "steps.old")
    (path / "steps.new").replace(path / "steps")
    sync_folder(path)
    finish_replacing_steps(path)


def finish_replacing_steps(path: Path) -> None:
    """Clean up after a `replace_steps`, or the making of `steps.new`, that was killed."""
    steps, new, old = (path / name for name in ("steps", "steps.new", "steps.old"))
    if old.is_dir() and not steps.is_dir():
        (new if new.is_dir() else old).replace(steps)
        sync_folder(path)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def free_name(path: Path) -> Path:
    """The name that a person's edited version of `path` is kept under."""
    number = 1
    while (name := path.with_name(f"{path.stem}.edited-{number}{path.suffix}")).exists():
        number += 1
    return name


def _locked(path: Path) -> FileLock:
    # The operating system drops the lock when the process ends, however it ends.
    from filelock import FileLock, Timeout  # who only looks at sessions locks none

    lock = FileLock(path / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TemploraError(
            f"session {path.name} is being written by another process",
            "wait for it, or stop it (Ctrl-C loses only the chunk in progress)",
        ) from None
    return lock
