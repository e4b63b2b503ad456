"""The generated parts of docs/ match the code; `python -m tests.generated_docs` updates them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from templora_cli.config import TABLES, Config
from tests.generated_docs import COMMANDS, DOCS, generated_parts, help_of, regenerate, section

CLI, CONFIGURATION = (DOCS / name for name in ("cli.md", "configuration.md"))
HELP = re.compile(r"( --help\n\n).*?(\n```\n)", flags=re.DOTALL)
"""The help of a command in cli.md; the groups are the text around it."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_the_help_of_the_command(command: str) -> None:
    assert section(command, help_of(command)) in CLI.read_text("utf-8")


@pytest.mark.parametrize("page", [CLI, CONFIGURATION], ids=lambda page: page.name)
def test_generated_parts_match_the_code(page: Path) -> None:
    without_help = HELP.sub(r"\1\2", page.read_text("utf-8"))
    assert regenerate(without_help, generated_parts(help_of=lambda command: "")) == without_help


def test_every_generated_part_is_in_the_pages_once() -> None:
    text = "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    assert Counter(re.findall(r"<!-- made: (\S+) -->", text)) == Counter(generated_parts().keys())


def test_every_setting_has_its_row() -> None:
    rows = Counter(re.findall(r"^\| `(\w+)` \|", CONFIGURATION.read_text("utf-8"), flags=re.MULTILINE))
    names = [field.name for owner in (Config, *TABLES.values()) for field in fields(owner)]
    assert {name: rows[name] for name in names} == {**Counter(names), **dict.fromkeys(TABLES, 0)}


def test_only_the_text_between_marks_is_generated() -> None:
    page = "by hand\n<!-- made: rates -->\nold\n<!-- end -->\nby hand, too\n"
    parts = {"rates": lambda: "new\n"}
    assert regenerate(page, parts) == page.replace("old", "new")
