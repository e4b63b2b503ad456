"""`--help` of every command in narrow and wide terminals."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from templora_cli.cli import app


def commands() -> dict[tuple[str, ...], Any]:
    """Every command and group, by its words."""
    found: dict[tuple[str, ...], Any] = {}

    def add(command: Any, words: tuple[str, ...]) -> None:
        found[words] = command
        for name, inner in getattr(command, "commands", {}).items():
            add(inner, (*words, name))

    add(typer.main.get_command(app), ())
    return found


COMMANDS = commands()


def help_of(words: tuple[str, ...], columns: int) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("columns", [40, 50, 60, 79, 80, 120])
def test_no_flag_is_cut(columns: int) -> None:
    for words, command in COMMANDS.items():
        shown = help_of(words, columns)
        flags = [flag for param in command.params for flag in param.opts if flag.startswith("-")]
        assert {*flags, "--help", "-h"} <= {*re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown)}, words
        assert "…" not in shown and "<bool>" not in shown, words
        assert all(cell_len(line.rstrip()) <= columns for line in shown.splitlines()), words
    assert "--set KEY=VALUE" in " ".join(help_of(("write",), columns).split())


@pytest.mark.parametrize("columns", [40, 100])
def test_paragraphs_have_no_ragged_lines(columns: int) -> None:
    for words, command in COMMANDS.items():
        text = re.split(r"╭|^[A-Z]\w+:$", help_of(words, columns), maxsplit=1, flags=re.MULTILINE)[0]
        for paragraph in re.split(r"\n\s*\n", text):
            lines = [line.strip() for line in paragraph.strip().splitlines()]
            if lines and not lines[0].startswith("Usage"):
                for line, after in pairwise(lines):
                    first = after.split()[0]
                    assert cell_len(f"{line} {first}") > columns - 3, (words, line)
        assert "\n" not in (command.help or "").replace("\n\n", "")
