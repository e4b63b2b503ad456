"""Settings from the command line and the TOML files, merged into one `Config`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomli
from platformdirs import user_config_path

from templora_cli.config import TABLES, TASK_OVERRIDES, Config, DecodeConfig
from templora_cli.config_layers import Layer, resolve
from templora_cli.documents.text_input import checked_text
from templora_cli.errors import TemploraError
from templora_cli.files import expanded

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
"""Tables that have an effect in one task only: the task, its command and example arguments."""

GREEDY = ("eval translate uses the most likely token", "leave it out")
NOT_SAMPLING = ("chunk_tokens", "context_tokens", "backend")
SAMPLING = [field.name for field in fields(DecodeConfig) if field.name not in NOT_SAMPLING]
"""Settings of `[decode]` for sampling a token."""

WITHOUT_EFFECT: dict[str, dict[Setting, tuple[str, str]]] = {
    "drift": {
        ("train", "learn"): ("eval drift writes with and without learning", "leave it out"),
        ("", "seed"): ("eval drift uses the seeds 0, 1, ...", "--seeds 3"),
    },
    "translation": {
        ("decode", name): ("a translation may repeat what its source repeats", "leave it out")
        for name in SAMPLING
        if name.startswith("dry_")
    },
    "pairs": {
        ("translation", "context_pairs"): ("eval translate has a flag for it", "--context-pairs {value}"),
        ("decode", "chunk_tokens"): ("eval translate learns run by run", "--run-pairs 16"),
        ("decode", "context_tokens"): (
            "eval translate counts context in pairs",
            "--context-pairs 3",
        ),
        **{("decode", name): GREEDY for name in SAMPLING},
    },
}
"""Settings without effect in a task: the reason, and the alternative."""


@dataclass(frozen=True)
class GivenSettings:
    """The settings of a command line as typed; `resolve` checks them."""

    flags: Mapping[Setting, Any]
    """Values of the flags that were used."""
    assignments: Sequence[str]
    """Values of `--set KEY=VALUE`, which override flags."""
    task: str
    prefer: str
    """The table of `KEY` if several tables have it."""

    def resolve(self, *, prefer: str | None = None) -> Config:
        """The configuration of the task from both files, the flags and `--set`; later ones win.

        Raises TemploraError: a file that is not valid TOML; a setting that is unknown, of the wrong type, out
        of range or without effect in this task.
        """
        settings, names = dict(self.flags), {setting: flag_name(setting) for setting in self.flags}
        typed: dict[Setting, str] = {}
        for assignment in self.assignments:
            setting, value = _setting_of(assignment, prefer or self.prefer)
            if reason := without_effect(setting, self.task, assignment.partition("=")[2].strip()):
                raise TemploraError(f"--set {assignment}: {reason[0]}", reason[1])
            settings[setting], typed[setting] = value, f"--set {assignment}"
        values: dict[str, Any] = {}
        for (table, key), value in settings.items():
            _check_utf_8(value, typed.get((table, key), names.get((table, key), key)))
            (values.setdefault(table, {}) if table else values)[key] = value
        return resolve([*config_files(), Layer.of_flags(values, names, typed)], self.task)


def dotted(setting: Setting) -> str:
    """The name of a setting for `--set`, such as train.rank or seed."""
    return ".".join(filter(None, setting))


def flag_name(setting: Setting) -> str:
    """The flag of a setting: its key; `--model` for the name of the model; `--no-` if the default is true."""
    if setting == ("model", "name"):
        return "--model"
    name = setting[1].replace("_", "-")
    return f"--no-{name}" if FIELDS[setting].default is True else f"--{name}"


def without_effect(setting: Setting, task: str, value: str) -> tuple[str, str] | None:
    """The reason why a setting has no effect in a task, and the alternative with that value; or None."""
    if entry := WITHOUT_EFFECT.get(task, {}).get(setting):
        return entry[0], entry[1].format(value=value)
    if instead := TASK_OVERRIDES.get(task, {}).get(setting):
        return f"{OWNERS[instead[0]][1]} samples with {dotted(instead)}", f"--set {dotted(instead)}={value}"
    owner, command, called = OWNERS.get(setting[0], (task, "", ""))
    if owner == task or setting not in FIELDS:
        return None
    example = f"templora {command} {called} --set {dotted(setting)}={value}"
    return f"only {command} uses {dotted(setting)}", example


def settings_of(assignments: Iterable[str], *, prefer: str) -> dict[Setting, Any]:
    """The settings of `--set KEY=VALUE` flags.

    KEY is a key with its table, as in `train.rank`. The table can be left out if only one table has the key,
    or if `prefer` or `[decode]` has it. Values are read as in TOML; anything else is text.
    """
    return dict(_setting_of(assignment, prefer) for assignment in assignments)


def _setting_of(assignment: str, prefer: str) -> tuple[Setting, Any]:
    name, equals, text = (part.strip() for part in assignment.partition("="))
    table, _, key = name.rpartition(".")
    owners = [owner for owner, name_in_table in FIELDS if name_in_table == key]
    owners = next(([first] for first in (prefer, "decode") if first in owners), owners)
    reason = None
    if table not in ("", *TABLES):
        reason = f"there is no table [{table}]"
    elif owners and not equals:
        reason = f"{key} has no value"
    elif not table and len(owners) > 1:
        reason = f"{key} is in {' and '.join(f'[{owner}]' for owner in owners)}"
    elif not key or (not table and not owners):
        reason = f"{key or name} is not a setting" if name else "the name of the setting is missing"
    if reason is not None:
        raise TemploraError(f"--set {assignment}: {reason}", _suggestion(table, key, owners, text))
    setting = table or owners[0], key
    return setting, _value(setting, text)


def _check_utf_8(value: Any, typed: str) -> None:
    """Raise TemploraError for surrogates, which stand for bytes that are not UTF-8 and cannot be saved."""
    text = "".join(map(str, value)) if isinstance(value, list) else value
    if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
        raise TemploraError(f"{typed} is not UTF-8", "type it again")


def _value(setting: Setting, text: str) -> Any:
    """The value of `text`: text for text settings, otherwise a TOML value if it is valid."""
    try:
        value = tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return text
    is_text = setting in FIELDS and FIELDS[setting].type == "str"
    return text if is_text and not isinstance(value, (str, bool)) else value


def _suggestion(table: str, key: str, owners: Sequence[str], text: str) -> str:
    """The argument for the setting that the user probably meant."""
    names = [dotted(setting) for setting in FIELDS] + [key for _, key in FIELDS]
    if len(owners) > 1 or (owners and not table):
        meant: str | None = dotted((owners[0], key))
    elif key in TABLES:
        meant = next(dotted(setting) for setting in FIELDS if setting[0] == key)
    else:
        meant = next(
            iter(get_close_matches(dotted((table, key)), names, 1) or get_close_matches(key, names, 1)), None
        )
    if meant is None:
        tables = " ".join(TABLES)
        return f"--set TABLE.KEY=VALUE, with one of the tables {tables}; or seed, or prompts"
    return f"--set {meant}={text or 'VALUE'}"


def config_files() -> list[Layer]:
    """The user's config file, then `templora.toml` of the working folder, if they exist."""
    layers = []
    for path in (user_config_file(), Path(PROJECT_FILE)):
        if path.is_file():
            layers.append(Layer.of_file(str(path), _read_toml(path)))
    return layers


def user_config_file() -> Path:
    """`TEMPLORA_CONFIG`, or `config.toml` in the platform's folder for a user's settings."""
    named = os.environ.get("TEMPLORA_CONFIG")
    return expanded(named) if named else user_config_path("templora", appauthor=False) / "config.toml"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(checked_text(path.read_bytes(), str(path)))
    except tomli.TOMLDecodeError as error:
        raise TemploraError(
            f"{path} is not valid TOML: {error}", "correct the line, or move the file"
        ) from None
    except OSError as error:
        raise TemploraError(
            f"{path} cannot be read: {error.strerror}", "make it readable, or move it"
        ) from None
