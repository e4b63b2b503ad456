"""Flags and TOML files to one `Config`."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import tomli
import typer
from platformdirs import user_config_path

from templora_cli.config import TABLES, Config, Layer, resolve
from templora_cli.errors import TemploraError

PROJECT_FILE = "templora.toml"


PANELS = {
    "model": "Model",
    "decode": "Decoding",
    "translation": "Decoding",
    "train": "Learning",
    "": "Decoding",
}


def flag(table: str, key: str, name: str | None = None) -> Any:
    """The Typer option that sets `[table] key`, with the help, range and default of its field."""
    owner = TABLES[table] if table else Config
    field = next(f for f in fields(owner) if f.name == key)
    facts = [*_range(field.metadata), f"default {field.default}"]
    return typer.Option(
        name or f"--{key.replace('_', '-')}",
        help=f"{field.metadata['help']} ({', '.join(facts)}).",
        show_default=False,
        rich_help_panel=PANELS[table],
    )


def of_flags(*, no_learn: bool = False, **values: Any) -> dict[tuple[str, str], Any]:
    """The values of flags by the settings that `flag` declares them for, in the form of `configure`."""
    tables = ("translation", "train", "decode", "model")  # of two with one name the later has the flag
    places = {f.name: (table, f.name) for table in tables for f in fields(TABLES[table])}
    places |= {"model": ("model", "name"), "seed": ("", "seed")}
    chosen = {places[name]: value for name, value in values.items()}
    return {**chosen, ("train", "learn"): False if no_learn else None}


def settings_of(assignments: list[str], *, prefer: str) -> dict[tuple[str, str], Any]:
    """The settings of `--set KEY=VALUE` flags, in the form of `configure`.

    KEY is that of a TOML file, with its table before it (`train.rank`); the table can be left out where
    only one has such a key, or `prefer` or `[decode]` has. Values are read as in TOML; what is no TOML
    value is a text.
    """
    settings: dict[tuple[str, str], Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        table, _, key = name.strip().rpartition(".")
        owners = [t for t, owner in TABLES.items() if key in {f.name for f in fields(owner)}]
        owners = next(([name] for name in (prefer, "decode") if name in owners), owners)
        if not equals or not key or (not table and len(owners) != 1):
            reason = f"is in {' and '.join(f'[{t}]' for t in owners)}" if owners else "is no setting"
            reason = reason if equals else "has no value"
            raise TemploraError(f"--set {assignment}: {key or name} {reason}", "--set given.lr=2e-4")
        try:
            value = tomli.loads(f"value = {text}")["value"]
        except tomli.TOMLDecodeError:
            value = text
        settings[table or owners[0], key] = value
    return settings


def configure(
    flags: dict[tuple[str, str], Any],
    settings: dict[tuple[str, str], Any] | None = None,
    *,
    task: str = "novel",
) -> Config:
    """The configuration of a task from both files and the `flags` ((table, key) to value; None is not given).

    `settings` come with the flags and win over them.
    """
    values: dict[str, Any] = {}
    for (table, key), value in {**flags, **(settings or {})}.items():
        if value is not None:
            (values.setdefault(table, {}) if table else values)[key] = value
    names = {("train", "learn"): "--no-learn"}
    return resolve([*config_files(), Layer.of_flags(values, names)], task)


def config_files() -> list[Layer]:
    """The user's config file, then `templora.toml` of the working folder, where they exist."""
    layers = []
    for path in (user_config_file(), Path(PROJECT_FILE)):
        if path.is_file():
            layers.append(Layer.of_file(str(path), _read_toml(path)))
    return layers


def user_config_file() -> Path:
    """`TEMPLORA_CONFIG`, or `config.toml` in the platform's folder for a user's settings."""
    named = os.environ.get("TEMPLORA_CONFIG")
    return Path(named) if named else user_config_path("templora", appauthor=False) / "config.toml"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text("utf-8"))
    except tomli.TOMLDecodeError as error:
        raise TemploraError(f"{path} is no TOML: {error}", "mend that line, or move the file away") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TemploraError(f"{path} cannot be read: {error}", "mend it, or move the file away") from None


def _range(limits: Any) -> list[str]:
    """What of a range is worth telling: not the bound that only keeps out nonsense."""
    if limits["above"] is not None:
        return [f"above {limits['above']}"]
    return [f"{limits['at_least']} or more"] if limits["at_least"] else []
