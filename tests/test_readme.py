"""What the README shows is what the commands say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import tomli

from templora_cli.config import Config, Layer, resolve
from tests.readme import COMMANDS, README, block, blocks


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[c or "templora" for c in COMMANDS])
def test_the_help_is_that_of_the_commands(number: int) -> None:
    shown = blocks(README.read_text("utf-8"))
    assert len(shown) == len(COMMANDS)
    assert shown[number] == block(COMMANDS[number]), "python -m tests.readme writes it anew"


@pytest.mark.parametrize(
    "page", [README, *sorted((README.parent / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_no_page_is_unfinished(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"@@|TODO|FIXME|XXX", text)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_settings_shown_are_valid_and_the_defaults() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
    config = resolve([Layer.of_file("README.md", tomli.loads(shown))])
    assert config.seed == 7
    assert replace(config, seed=Config().seed) == Config()
