"""The help texts of the README. `python -m tests.readme` writes them anew."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
COMMANDS = (
    *("", "write", "resume", "translate", "review", "sync", "retry", "glossary extract"),
    *("eval ppl", "eval translate", "doctor"),
)


def help_of(command: str) -> str:
    """`--help` as in a terminal of 100 columns without colours."""
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    arguments = [sys.executable, "-m", "templora_cli", *command.split(), "--help"]
    done = subprocess.run(arguments, env={**os.environ, **plain}, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8").replace("python -m templora_cli", "templora").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def block(command: str) -> str:
    """The part of the README that holds the help of a command."""
    title = f"templora {command}".strip()
    return f"<!-- help: {title} -->\n```text\n$ {title} --help\n\n{help_of(command)}\n```\n<!-- end -->"


def blocks(readme: str) -> list[str]:
    """All such parts of a README."""
    return re.findall(r"<!-- help: .*?<!-- end -->", readme, flags=re.DOTALL)


if __name__ == "__main__":
    text = README.read_text("utf-8")
    for old, command in zip(blocks(text), COMMANDS, strict=True):
        text = text.replace(old, block(command))
    README.write_text(text, "utf-8")
