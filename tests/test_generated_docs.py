"""The pages that are made from the code are as the code is: `python -m tests.generated_docs` writes them anew."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from templora_cli.config import RECIPES, TABLES, Config
from tests.generated_docs import COMMANDS, DOCS, cli_page, configuration_page, help_of, section


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_that_of_the_command(command: str) -> None:
    assert section(command, help_of(command)) in (DOCS / "cli.md").read_text("utf-8")


def test_each_command_stands_there_once_in_the_order_of_the_help() -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    without_help = re.sub(r"( --help\n\n).*?(\n```\n)", r"\1\2", page, flags=re.DOTALL)
    assert without_help == cli_page(help_of=lambda command: "")


def test_the_settings_are_those_of_the_code() -> None:
    assert (DOCS / "configuration.md").read_text("utf-8") == configuration_page()


def test_every_setting_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", configuration_page(), flags=re.MULTILINE)
    known = [field.name for owner in (Config, *TABLES.values()) for field in fields(owner)]
    assert [row for row in rows if row in known] == [name for name in known if name not in TABLES]


def test_a_recipe_shows_what_it_changes() -> None:
    page = configuration_page()
    for tables in RECIPES.values():
        for table, values in tables.items():
            for key, value in values.items():
                usual = getattr(TABLES[table], key)
                assert (f"| `{table}.{key}` |" in page) == (value != usual)
