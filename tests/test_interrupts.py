"""Ctrl-C before a command begins and after it has ended, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WAIT = "print('waiting', flush=True)\ntime.sleep(60)\n"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")


def handle_interrupts() -> None:
    """Handle Ctrl-C: background jobs of a shell ignore it, and their child processes inherit this."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of a command that gets Ctrl-C when it prints `waiting`.

    Modules of `folder` replace others of the same name.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "templora_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        preexec_fn=handle_interrupts,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "waiting\n":
            process.send_signal(signal.SIGINT)
            break
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.mark.parametrize("command", ["resume", "sessions list", "--help"])
@pytest.mark.parametrize("module", ["typer", "rich"])
def test_ctrl_c_while_libraries_are_imported_is_quiet(module: str, command: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(f"import time\n{WAIT}")
    assert interrupted(tmp_path, *command.split()) == (130, "")


def test_ctrl_c_while_libraries_clean_up_is_quiet(tmp_path: Path) -> None:
    leaving = "".join(f"    {line}\n" for line in WAIT.splitlines())
    (tmp_path / "sitecustomize.py").write_text(
        f"import atexit, time\n@atexit.register\ndef leave():\n{leaving}"
    )
    assert interrupted(tmp_path, "--version") == (130, "")


def test_ctrl_c_in_a_command_without_a_view_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "filelock.py").write_text(f"import time\n{WAIT}")
    assert interrupted(tmp_path, "models", "pull", "smollm2-135m") == (130, "")
