"""Exports of a session to files, which are overwritten only if nobody has changed them."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from templora_cli.errors import TemploraError
from templora_cli.files import numbered_name, unused_name, write_atomically
from templora_cli.sessions.store import free_name, sha256_of

FILE = "saved.sha256"
"""File in the session folder with the hash of each export, one per line."""
MAX_HASHES = 200
"""Maximum number of hashes in that file; the oldest are dropped."""


def save_export(session: Path, target: Path, content: bytes, *, force: bool) -> Path | None:
    """Write `content` to `target` if it is a new file or an unchanged earlier export of the session.

    With `force`, any other file is first moved aside, and its new name is returned. Raises TemploraError
    if there is another file and no `force`, and OSError if the disk refuses the write.
    """
    aside, hashes = None, _saved_hashes(session)
    if target.is_dir():
        name = unused_name(target / f"{session.name}{target.suffix or '.md'}")
        raise TemploraError(f"{target} is a folder", f"--out {shlex.quote(str(name))}")
    if target.exists() and sha256_of(before := target.read_bytes()) not in hashes and before != content:
        if not force:
            other = shlex.quote(str(numbered_name(target)))
            raise TemploraError(
                f"{target} already exists, and it was changed or is not from session {session.name}",
                f"--force renames it to {free_name(target).name}; or --out {other}",
            )
        aside = free_name(target)
        target.replace(aside)
    with suppress(OSError):  # without the hash, the next export requires --force
        lines = [*(line for line in hashes if line != sha256_of(content)), sha256_of(content)]
        write_atomically(session / FILE, "\n".join(lines[-MAX_HASHES:]))
    write_atomically(target, content)
    return aside


def _saved_hashes(session: Path) -> list[str]:
    try:
        return (session / FILE).read_text("ascii").split()
    except (OSError, ValueError):
        return []
