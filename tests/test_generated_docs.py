"""The pages of docs/ say what the code says: `python -m tests.generated_docs` writes it into them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from templora_cli.config import TABLES, Config
from tests.generated_docs import COMMANDS, DOCS, help_of, made, renewed, section

CLI, CONFIGURATION = (DOCS / name for name in ("cli.md", "configuration.md"))
SAID = re.compile(r"( --help\n\n).*?(\n```\n)", flags=re.DOTALL)
"""The help of a command between what stands around it."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_that_of_the_command(command: str) -> None:
    assert section(command, help_of(command)) in CLI.read_text("utf-8")


@pytest.mark.parametrize("page", [CLI, CONFIGURATION], ids=lambda page: page.name)
def test_what_is_made_is_as_the_code_says(page: Path) -> None:
    without_help = SAID.sub(r"\1\2", page.read_text("utf-8"))
    assert renewed(without_help, made(help_of=lambda command: "")) == without_help


def test_all_that_can_be_made_stands_in_a_page_once() -> None:
    text = "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    assert Counter(re.findall(r"<!-- made: (\S+) -->", text)) == Counter(made().keys())


def test_every_setting_has_its_row() -> None:
    rows = Counter(re.findall(r"^\| `(\w+)` \|", CONFIGURATION.read_text("utf-8"), flags=re.MULTILINE))
    known = [field.name for owner in (Config, *TABLES.values()) for field in fields(owner)]
    assert {name: rows[name] for name in known} == {**Counter(known), **dict.fromkeys(TABLES, 0)}


def test_a_page_is_made_anew_between_its_marks_only() -> None:
    page = "by hand\n<!-- made: rates -->\nold\n<!-- end -->\nby hand, too\n"
    parts = {"rates": lambda: "new\n"}
    assert renewed(page, parts) == page.replace("old", "new")
