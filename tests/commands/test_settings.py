"""Flags, `--set` and files to one configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from templora_cli.commands.settings import configure, settings_of, user_config_file
from templora_cli.config import Config
from templora_cli.errors import TemploraError


def test_without_anything_it_is_the_defaults() -> None:
    assert configure({("decode", "top_k"): None}) == Config()


@pytest.mark.parametrize(
    ("assignment", "setting"),
    [
        ("lr=2e-4", (("own", "lr"), 2e-4)),
        ("given.lr=2e-4", (("given", "lr"), 2e-4)),
        ("rank = 8", (("train", "rank"), 8)),
        ("learn=false", (("train", "learn"), False)),
        ("objective=distill", (("own", "objective"), "distill")),
        ('objective="distill"', (("own", "objective"), "distill")),
        ("model.name=a=b", (("model", "name"), "a=b")),
    ],
)
def test_settings_are_read_as_in_a_file(assignment: str, setting: tuple[Any, Any]) -> None:
    assert settings_of([assignment], prefer="own") == dict([setting])


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("speed=3", "speed is no setting"),
        ("lr", "lr has no value"),
        ("=3", "is no setting"),
        ("lr=1", r"lr is in \[given\] and \[own\]"),
    ],
)
def test_settings_that_cannot_be_meant(assignment: str, complaint: str) -> None:
    with pytest.raises(TemploraError, match=complaint):
        settings_of([assignment], prefer="decode")


def test_set_wins_over_flags_and_flags_over_files() -> None:
    Path("templora.toml").write_text("seed = 1\n[decode]\ntop_k = 1\n[own]\nlr = 0.1\n")
    config = configure({("decode", "top_k"): 2, ("", "seed"): 2}, settings_of(["top_k=3"], prefer="own"))
    assert (config.decode.top_k, config.seed, config.own.lr) == (3, 2, 0.1)


def test_a_wrong_value_is_named_by_its_flag() -> None:
    with pytest.raises(TemploraError, match="--no-learn"):
        configure({("train", "learn"): 3})


def test_the_users_file_lies_where_the_platform_has_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPLORA_CONFIG")
    assert user_config_file().parts[-2:] == ("templora", "config.toml")
