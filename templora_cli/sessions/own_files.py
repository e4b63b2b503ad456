"""Files that a session is saved to on request: written again where nobody has changed them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically
from templora_cli.sessions.store import free_name, sha256_of

FILE = "saved.sha256"
"""In the folder of the session: what was saved of it, a line each."""
MOST = 200
"""Lines that are kept of it, the newest."""


def save_again(session: Path, target: Path, content: bytes, *, force: bool) -> Path | None:
    """Write `content` to `target`, where nothing is yet or what was saved of the session earlier.

    With `force` whatever is there is moved aside first, and its new name is returned; a file that is
    templora's own never is. Raises TemploraError where something else is there, and OSError where the disk
    does not take it.
    """
    aside, known = None, _saved(session)
    if target.is_dir():
        raise TemploraError(f"{target} is a folder", f"--out {target / session.name}{target.suffix or '.md'}")
    if target.exists() and sha256_of(before := target.read_bytes()) not in known and before != content:
        if not force:
            raise TemploraError(
                f"{target} is there already, and was changed or is not of session {session.name}",
                f"--force keeps it as {free_name(target).name}; or choose another --out",
            )
        aside = free_name(target)
        target.replace(aside)
    with suppress(OSError):  # without it the file is taken for another's, and --force is asked for
        lines = [*(line for line in known if line != sha256_of(content)), sha256_of(content)]
        write_atomically(session / FILE, "\n".join(lines[-MOST:]))
    write_atomically(target, content)
    return aside


def _saved(session: Path) -> list[str]:
    try:
        return (session / FILE).read_text("ascii").split()
    except (OSError, ValueError):
        return []
