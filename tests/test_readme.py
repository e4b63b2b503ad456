"""What the README shows is what the commands say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import tomli

from templora_cli.config import Config, Layer, resolve
from tests.readme import COMMANDS, README, block, blocks


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[c or "templora" for c in COMMANDS])
def test_the_help_is_that_of_the_commands(number: int) -> None:
    shown = blocks(README.read_text("utf-8"))
    assert len(shown) == len(COMMANDS)
    assert shown[number] == block(COMMANDS[number]), "python -m tests.readme writes it anew"


def test_the_settings_shown_are_valid_and_the_defaults() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
    config = resolve([Layer.of_file("README.md", tomli.loads(shown))])
    assert config.seed == 7
    assert replace(config, seed=Config().seed) == Config()
