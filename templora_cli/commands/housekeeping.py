"""`templora sessions rm`, `shrink` and `rename`: disk use and ids of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from templora_cli.commands.terminal import confirm, engine_in_use, say
from templora_cli.files import bytes_below, format_bytes

Sessions = Annotated[list[str], typer.Argument(help="Ids of sessions, or their first letters.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def remove(sessions: Sessions, yes: Yes = False) -> None:
    """Delete sessions. Book files from --out and exported files are not deleted."""
    from templora_cli.sessions import housekeeping
    from templora_cli.sessions.store import Store

    folders = _folders(sessions)
    housekeeping.require_closed(folders)
    sizes = [bytes_below(folder) for folder in folders]
    if yes or _is_confirmed("rm", "delete permanently?", folders, sizes, "in total"):
        for name, freed in housekeeping.remove(Store(), folders):
            say(f"{name} deleted, {format_bytes(freed)} freed")


def shrink(sessions: Sessions, yes: Yes = False) -> None:
    """Delete all checkpoints of sessions but the newest. `templora resume` still continues exactly.

    Two things are lost. If the newest checkpoint is damaged later, no older one can replace it,
    and only the text can be saved. And `templora sync` takes longer, because it has to learn a
    translation from its beginning.
    """
    from templora_cli.sessions.housekeeping import older_checkpoints
    from templora_cli.sessions.store import lock_session

    folders = _folders(sessions)
    for folder in folders:
        lock_session(folder).release()  # reports a session in use before the question
    sizes = [sum(file.stat().st_size for file in older_checkpoints(folder / "steps")) for folder in folders]
    question = "delete them? If the newest checkpoint is damaged later, no older one can replace it"
    if yes or _is_confirmed("shrink", question, folders, sizes, "in older checkpoints"):
        for folder in folders:
            say(f"{folder.name} shrunk, {format_bytes(_shrunk(folder.name))} freed")


def rename(
    session: Annotated[str, typer.Argument(help="Id of a session, or its first letters.")],
    name: Annotated[str, typer.Argument(help="New id.")],
) -> None:
    """Give a session another id."""
    from templora_cli.sessions import housekeeping
    from templora_cli.sessions.names import checked_name
    from templora_cli.sessions.store import Store

    store = Store()
    old = store.find(session).name
    new = checked_name(name, f"templora sessions rename {old} {{}}")
    with store.open(old) as opened:
        housekeeping.rename(store, opened, new)
    say(f"{old} renamed to {new}")


def _folders(references: Sequence[str]) -> list[Path]:
    """The folders, without duplicates. Raises TemploraError if a reference matches none or several."""
    from templora_cli.sessions.store import Store

    return list(dict.fromkeys(map(Store().find, references)))


def _is_confirmed(
    command: str, question: str, folders: Sequence[Path], sizes: Sequence[int], what: str
) -> bool:
    """Whether the user confirms, after a list of the sessions and sizes."""
    for folder, size in zip(folders, sizes, strict=True):
        say(f"{folder.name}: {format_bytes(size)} {what}", err=True)
    if confirm(question, f"templora sessions {command} {' '.join(folder.name for folder in folders)} --yes"):
        return True
    say("nothing was deleted", err=True)
    return False


def _shrunk(name: str) -> int:
    """Shrink one session and cache its summary; returns the freed bytes."""
    from templora_cli.sessions.housekeeping import shrink
    from templora_cli.sessions.steps import read_chunks
    from templora_cli.sessions.store import Store
    from templora_cli.sessions.summary import cache_summary

    with Store().open(name) as session:
        kind = engine_in_use().kind(session.manifest)
        freed = shrink(session, kind)
        cache_summary(session.path, read_chunks(session.steps), kind)
    return freed
