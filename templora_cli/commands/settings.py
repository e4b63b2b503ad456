"""What the command line and the TOML files say of the settings, to one `Config`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

import tomli
from platformdirs import user_config_path

from templora_cli.config import TABLES, TASK_OVERRIDES, Config, DecodeConfig, Layer, resolve
from templora_cli.errors import TemploraError

PROJECT_FILE = "templora.toml"

Setting = tuple[str, str]
"""Table ("" for the top level) and key."""

FIELDS: dict[Setting, Field[Any]] = {
    (table, field.name): field
    for table, owner in {**TABLES, "": Config}.items()
    for field in fields(owner)
    if "help" in field.metadata
}

OWNERS: dict[str, tuple[str, str, str]] = {"translation": ("translation", "translate", "FILE --to en")}
"""Tables that do nothing but in one task, the command of that task, and what it is called with."""

LIKELIEST = ("eval translate takes the likeliest token", "leave it out")
NOT_SAMPLING = ("chunk_tokens", "context_tokens", "backend")
SAMPLING = [field.name for field in fields(DecodeConfig) if field.name not in NOT_SAMPLING]
"""Settings of `[decode]` that say how a token is drawn."""

WITHOUT_EFFECT: dict[str, dict[Setting, tuple[str, str]]] = {
    "drift": {
        ("train", "learn"): ("eval drift writes with learning and without", "leave it out"),
        ("", "seed"): ("eval drift takes the seeds 0, 1, ...", "--seeds 3"),
    },
    "pairs": {
        ("translation", "context_pairs"): ("eval translate has a flag for it", "--context-pairs {value}"),
        ("decode", "chunk_tokens"): ("eval translate learns run by run", "--run-pairs 16"),
        ("decode", "context_tokens"): ("eval translate shows pairs", "--context-pairs 3"),
        **{("decode", name): LIKELIEST for name in SAMPLING},
    },
}
"""Settings that do nothing in a task: why, and what to say instead."""


@dataclass(frozen=True)
class GivenSettings:
    """What the command line says of the settings, as it was typed; mistakes are found by `resolve`."""

    flags: Mapping[Setting, Any]
    """Of the flags that were given."""
    assignments: Sequence[str]
    """The `--set KEY=VALUE`, which win over flags."""
    task: str
    prefer: str
    """The table that `KEY` is of where several have it."""

    def resolve(self, *, prefer: str | None = None) -> Config:
        """The configuration of the task, from both files, the flags and `--set`, later ones winning.

        Raises TemploraError: a file that is no TOML, a setting that is unknown, of the wrong type, out of
        range or without effect in this task.
        """
        settings, names = dict(self.flags), {setting: flag_name(setting) for setting in self.flags}
        for assignment in self.assignments:
            setting, value = _setting_of(assignment, prefer or self.prefer)
            if reason := without_effect(setting, self.task, assignment.partition("=")[2].strip()):
                raise TemploraError(f"--set {assignment}: {reason[0]}", reason[1])
            settings[setting], names[setting] = value, f"--set {dotted(setting)}"
        values: dict[str, Any] = {}
        for (table, key), value in settings.items():
            (values.setdefault(table, {}) if table else values)[key] = value
        return resolve([*config_files(), Layer.of_flags(values, names)], self.task)


def dotted(setting: Setting) -> str:
    """A setting as `--set` names it, such as train.rank or seed."""
    return ".".join(filter(None, setting))


def flag_name(setting: Setting) -> str:
    """The flag that sets it: its key, but `--model` for a name; what is on by default is turned off."""
    if setting == ("model", "name"):
        return "--model"
    name = setting[1].replace("_", "-")
    return f"--no-{name}" if FIELDS[setting].default is True else f"--{name}"


def without_effect(setting: Setting, task: str, value: str) -> tuple[str, str] | None:
    """Why nothing comes of a setting in a task, and what to say instead with that value; or None."""
    if found := WITHOUT_EFFECT.get(task, {}).get(setting):
        return found[0], found[1].format(value=value)
    if instead := TASK_OVERRIDES.get(task, {}).get(setting):
        return f"{OWNERS[instead[0]][1]} draws by {dotted(instead)}", f"--set {dotted(instead)}={value}"
    owner, command, called = OWNERS.get(setting[0], (task, "", ""))
    if owner == task or setting not in FIELDS:
        return None
    example = f"templora {command} {called} --set {dotted(setting)}={value}"
    return f"only {command} goes by {dotted(setting)}", example


def settings_of(assignments: Iterable[str], *, prefer: str) -> dict[Setting, Any]:
    """The settings of `--set KEY=VALUE` flags.

    KEY is that of a TOML file, with its table before it (`train.rank`); the table can be left out where
    only one has such a key, or `prefer` or `[decode]` has. Values are read as in TOML; what is no TOML
    value is a text.
    """
    return dict(_setting_of(assignment, prefer) for assignment in assignments)


def _setting_of(assignment: str, prefer: str) -> tuple[Setting, Any]:
    name, equals, text = assignment.partition("=")
    table, _, key = name.strip().rpartition(".")
    owners = [owner for owner, known in FIELDS if known == key]
    owners = next(([first] for first in (prefer, "decode") if first in owners), owners)
    reason = None
    if not equals:
        reason = f"{key} has no value"
    elif table not in ("", *TABLES):
        reason = f"there is no table [{table}]"
    elif not table and len(owners) > 1:
        reason = f"{key} is in {' and '.join(f'[{owner}]' for owner in owners)}"
    elif not key or (not table and not owners):
        reason = f"{key or name} is no setting"
    if reason is not None:
        raise TemploraError(f"--set {assignment}: {reason}", "--set human.lr=2e-4")
    try:
        value = tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        value = text
    return (table or owners[0], key), value


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
