"""The ledger that a command names: that of a session, or a file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.errors import TemploraError
from templora_cli.files import expanded

if TYPE_CHECKING:
    from templora_cli.memory.ledger import Ledger


@dataclass(frozen=True)
class LedgerTarget:
    """The file of a ledger, which may not exist yet."""

    path: Path
    label: str
    """Its name in messages."""
    reference: str
    """The session or the file, as an argument of commands."""
    session: Path | None
    """The folder of the session."""

    def command(self, action: str) -> str:
        """A command for this ledger."""
        return f"templora ledger {self.reference} {action}"

    def read(self) -> Ledger:
        """The ledger; empty without a file. Raises TemploraError."""
        from templora_cli.memory.ledger import ledger_text

        return self.parse(ledger_text(self.path))

    def parse(self, text: str, *, remark: str = "") -> Ledger:
        """A ledger from `text`. A TemploraError ends with `remark`, and its hint with the command to edit."""
        from templora_cli.memory.ledger import read_ledger
        from templora_cli.novel.shown import avoided_phrases

        try:
            ledger = read_ledger(text, self.label)
            avoided_phrases(ledger, self.label)
            return ledger
        except TemploraError as error:
            hint = f"{error.hint}; to edit it: {self.command('edit')}"
            raise TemploraError(f"{error.message}{remark}", hint) from None


def target_of(reference: str | None, *, must_exist: bool = True) -> LedgerTarget:
    """The ledger of a session, None for the last one, or of a .toml file, which then `must_exist`.

    Raises TemploraError if there is no such session, file or folder.
    """
    from templora_cli.sessions.store import LEDGER_FILE, Store

    if reference is None or not is_file_name(reference):
        folder = Store().find(reference)
        return LedgerTarget(folder / LEDGER_FILE, f"ledger of {folder.name}", folder.name, folder)
    path = expanded(reference)
    target = LedgerTarget(path, str(path), shlex.quote(reference), None)
    if not path.parent.is_dir():
        raise TemploraError(f"there is no folder {path.parent}", f"mkdir -p {shlex.quote(str(path.parent))}")
    if must_exist and not path.exists():
        raise TemploraError(f"there is no file {path}", f"to write it: {target.command('edit')}")
    return target


def is_file_name(text: str) -> bool:
    """Is it the name of a file and not of a session, which has no dots?"""
    return text.lower().endswith(".toml")
