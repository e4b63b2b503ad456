"""Flags of the commands: shared ones, and those for settings, built from the fields of `config.py`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import (
    FIELDS,
    GivenSettings,
    Setting,
    dotted,
    flag_name,
    without_effect,
)
from templora_cli.config import TABLES, Config
from templora_cli.config_layers import TEXTS

TableAsJson = Annotated[bool, typer.Option("--json", help="Print tables as JSON.")]
TableAsCsv = Annotated[bool, typer.Option("--csv", help="Print tables as CSV.")]
Plot = Annotated[
    Optional[Path], typer.Option(help="Plot the curves to a .png or .svg file.", callback=expand_home)
]
SessionName = Annotated[
    Optional[str], typer.Option(help="Id of the session (default: from words of the text).")
]
OnlyTables = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the tables and errors.")]

LEARNING = "Learning"
PANELS = {
    "": "Decoding",
    "model": "Model",
    "decode": "Decoding",
    "train": LEARNING,
    "human": LEARNING,
    "generated": LEARNING,
    "gate": LEARNING,
    "translation": "Decoding",
    "session": "Session",
}
SWITCHED_OFF: dict[Setting, str] = {("train", "learn"): "Use only the base model."}
"""Help of flags that turn a setting off, whose fields describe the setting turned on."""

SET = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, such as lr=2e-4 or decode.top_k=5; can be repeated.",
        rich_help_panel=LEARNING,
    ),
]


@dataclass(frozen=True)
class SettingFlags:
    """The settings that a command has as flags, and `--set`."""

    settings: tuple[Setting, ...]
    prefer: str
    task: str
    help: Mapping[str, str]
    """Help texts that replace those of the fields, by the name of the setting."""

    def parameters(self, kind: Any) -> list[inspect.Parameter]:
        """The parameters from which Typer builds the flags."""
        parameters = [self._parameter(setting, kind) for setting in self.settings]
        panels = [PANELS[table] for table, _ in self.settings]
        end = len(panels) - panels[::-1].index(LEARNING) if LEARNING in panels else len(panels)
        parameters.insert(end, inspect.Parameter("settings", kind, default=None, annotation=SET))
        return parameters

    def given(self, values: Mapping[str, Any]) -> GivenSettings:
        """The settings from the values of `parameters`."""
        flags: dict[Setting, Any] = {}
        for setting in self.settings:
            value = values[parameter_of(setting)]
            if value is True:  # a switch, which inverts the default
                flags[setting] = not FIELDS[setting].default
            elif value is not None and value is not False and value != []:  # a list is empty without the flag
                flags[setting] = value
        return GivenSettings(flags, values["settings"] or [], self.task, self.prefer)

    def _parameter(self, setting: Setting, kind: Any) -> inspect.Parameter:
        table, key = setting
        field = FIELDS[setting]
        value_type = get_type_hints(TABLES.get(table, Config))[key]
        default_value = json.dumps(field.default) if value_type == TEXTS else field.default
        facts = [*_range(field.metadata), f"default {default_value}"]
        default_help = SWITCHED_OFF.get(setting, f"{field.metadata['help']} ({', '.join(facts)}).")
        option = typer.Option(
            flag_name(setting),
            help=self.help.get(dotted(setting), default_help),
            show_default=False,
            rich_help_panel=PANELS[table],
        )
        hint: Any = bool if value_type is bool else Optional[list[str] if value_type == TEXTS else value_type]
        default = False if value_type is bool else None
        return inspect.Parameter(
            parameter_of(setting), kind, default=default, annotation=Annotated[hint, option]
        )


def takes_settings(
    *names: str, prefer: str, task: str, help: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of the named settings ("decode.top_p", "seed") and `--set`.

    They replace the parameter `settings` of the command, which receives them as one `GivenSettings`. The
    decorated function has a parameter for each flag, with its name without leading dashes (`no_learn`), and
    `settings` for the list of `--set`. `prefer` and `task` are those of `GivenSettings`; `help` replaces
    help texts of fields, by the name of the setting.

    Raises ValueError: a name that is not a setting, or a setting without effect in the task.
    """
    settings = tuple((table, key) for table, _, key in (name.rpartition(".") for name in names))
    for setting in settings:
        if setting not in FIELDS:
            raise ValueError(f"{dotted(setting)} is not a setting")
        if reason := without_effect(setting, task, ""):
            raise ValueError(f"a flag for {dotted(setting)}: {reason[0]}")
    flags = SettingFlags(settings, prefer, task, help or {})

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += flags.parameters(parameter.kind) if parameter.name == "settings" else [parameter]
        outer = signature.replace(parameters=parameters)

        @wraps(function)
        def called(*arguments: Any, **named: Any) -> None:
            bound = outer.bind(*arguments, **named)
            bound.apply_defaults()
            others = {name: bound.arguments[name] for name in signature.parameters if name != "settings"}
            function(**others, settings=flags.given(bound.arguments))

        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        vars(called).update(__signature__=outer, setting_flags=flags)
        return called

    return decorate


def flags_of(command: Callable[..., Any]) -> SettingFlags | None:
    """The flags that `takes_settings` added to a command; None without it."""
    flags: SettingFlags | None = vars(command).get("setting_flags")
    return flags


def parameter_of(setting: Setting) -> str:
    """The name of the parameter for the flag of a setting."""
    return flag_name(setting).lstrip("-").replace("-", "_")


def _range(limits: Any) -> list[str]:
    """The lower bound, for help texts. Upper bounds only catch typing errors."""
    if limits["above"] is not None:
        return [f"above {limits['above']}"]
    return [f"{limits['at_least']} or more"] if limits["at_least"] else []
