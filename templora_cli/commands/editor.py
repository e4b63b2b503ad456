"""The text editor of the user."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from templora_cli.errors import TemploraError

USUAL: dict[str, Sequence[list[str]]] = {"win32": (["notepad"],), "darwin": (["open", "-W", "-t"],)}
"""The editor that every machine with such a system has. `open` waits (-W) until the editor is closed."""
OTHERS = (["nano"], ["vim"], ["vi"])


def find_editor(
    environment: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    which: Callable[[str], str | None] = shutil.which,
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty(),
) -> list[str]:
    """The command of $VISUAL or $EDITOR, else of an editor that is installed; a file name follows it.

    Raises TemploraError if there is none, if the one that is named is not installed, or if none is named and
    there is no terminal for the usual ones.
    """
    name = next((name for name in ("VISUAL", "EDITOR") if environment.get(name, "").strip()), None)
    if name is None and platform not in USUAL and not is_terminal():
        raise TemploraError("an editor needs a terminal", "run it there, or name one: export EDITOR=...")
    if name is None:
        editors: Sequence[list[str]] = (*USUAL.get(platform, ()), *OTHERS)
        for editor in editors:
            if which(editor[0]):
                return editor
        raise TemploraError("no text editor was found", "name yours: export EDITOR=...")
    try:
        command = shlex.split(environment[name], posix=platform != "win32")
    except ValueError:  # an open quote
        command = [environment[name]]
    if which(command[0].strip('"')) is None:
        raise TemploraError(f"${name}: there is no command {command[0]}", f"export {name}=nano")
    return [part.strip('"') for part in command] if platform == "win32" else command


def run_editor(editor: Sequence[str], file: Path, *, remark: str = "", hint: str) -> None:
    """Open a file in an editor and wait. Raises TemploraError, with `remark` and `hint`, if it fails."""
    try:
        subprocess.run([*editor, str(file)], check=True)
    except OSError as error:
        raise TemploraError(f"{shlex.join(editor)} failed: {error.strerror}{remark}", hint) from None
    except subprocess.CalledProcessError as error:
        status = f"ended with status {error.returncode}"
        raise TemploraError(f"{shlex.join(editor)} {status}{remark}", hint) from None
