"""README, CONTRIBUTING and docs/: their commands and settings are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
import typer

from templora_cli.cli import app
from templora_cli.commands.flags import flags_of
from templora_cli.config_layers import Layer, resolve
from tests.generated_docs import COMMANDS, DOCS

README = DOCS.parent / "README.md"
PAGES = [README, DOCS.parent / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each templora command on a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["templora"]:
                yield words


def test_the_readme_has_7_to_10_kilobytes() -> None:
    assert 7_000 <= len(README.read_bytes()) <= 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS.parent).as_posix())
def test_commands_are_valid(page: Path) -> None:
    for words in commands(page):
        parsed: Any = typer.main.get_command(app)
        name, *rest = words
        while hasattr(parsed, "commands"):
            name = f"{name} {rest[0]}"
            parsed = parsed.commands[rest.pop(0)]
        values = parsed.make_context(name, rest).params
        if (flags := flags_of(COMMANDS[name])) is not None:
            flags.given(values).resolve()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS.parent).as_posix())
def test_settings_are_valid(page: Path) -> None:
    for block in blocks(page, "toml"):
        resolve([Layer.of_file(page.name, tomli.loads(block))])
