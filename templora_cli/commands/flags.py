"""The flags of the commands: those for settings, made from the fields of `config.py`, and shared ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from templora_cli.commands.settings import (
    FIELDS,
    GivenSettings,
    Setting,
    dotted,
    flag_name,
    without_effect,
)
from templora_cli.config import TABLES, Config

TableAsJson = Annotated[bool, typer.Option("--json", help="The tables as JSON.")]
TableAsCsv = Annotated[bool, typer.Option("--csv", help="The tables as CSV.")]
Plot = Annotated[Optional[Path], typer.Option(help="Draw the curves, as .png or .svg.")]
OnlyTables = Annotated[bool, typer.Option("--quiet", "-q", help="Only the tables and errors.")]

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
SWITCHED_OFF: dict[Setting, str] = {("train", "learn"): "Only the base."}
"""What a flag says that turns a setting off, where its field says it the other way round."""

SET = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, such as lr=2e-4 or decode.top_k=5; may be repeated.",
        rich_help_panel=LEARNING,
    ),
]


@dataclass(frozen=True)
class SettingFlags:
    """The settings that a command has as flags; `--set` comes with them."""

    settings: tuple[Setting, ...]
    prefer: str
    task: str
    help: Mapping[str, str]
    """Of flags that say something else than their field, by the name of the setting."""

    def parameters(self, kind: Any) -> list[inspect.Parameter]:
        """The parameters of a command by which Typer makes the flags."""
        made = [self._parameter(setting, kind) for setting in self.settings]
        panels = [PANELS[table] for table, _ in self.settings]
        end = len(panels) - panels[::-1].index(LEARNING) if LEARNING in panels else len(panels)
        made.insert(end, inspect.Parameter("settings", kind, default=None, annotation=SET))
        return made

    def given(self, values: Mapping[str, Any]) -> GivenSettings:
        """What was given, by the values of `parameters`."""
        flags = {}
        for setting in self.settings:
            value = values[parameter_of(setting)]
            if value is True:  # a switch, which turns what the default says
                flags[setting] = not FIELDS[setting].default
            elif value is not None and value is not False:
                flags[setting] = value
        return GivenSettings(flags, values["settings"] or [], self.task, self.prefer)

    def _parameter(self, setting: Setting, kind: Any) -> inspect.Parameter:
        table, key = setting
        field = FIELDS[setting]
        wanted = get_type_hints(TABLES.get(table, Config))[key]
        facts = [*_range(field.metadata), f"default {field.default}"]
        usual = SWITCHED_OFF.get(setting, f"{field.metadata['help']} ({', '.join(facts)}).")
        option = typer.Option(
            flag_name(setting),
            help=self.help.get(dotted(setting), usual),
            show_default=False,
            rich_help_panel=PANELS[table],
        )
        hint: Any = bool if wanted is bool else Optional[wanted]
        default = False if wanted is bool else None
        return inspect.Parameter(
            parameter_of(setting), kind, default=default, annotation=Annotated[hint, option]
        )


def takes_settings(
    *names: str, prefer: str, task: str, help: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of the named settings ("decode.top_p", "seed") and `--set`.

    They stand where the command has its parameter `settings`, which gets all of them as one
    `GivenSettings`. What is called has a parameter for each flag, by its name without dashes at the front
    (`no_learn`), and `settings` for the list of `--set`. `prefer` and `task` are those of `GivenSettings`;
    `help` is what flags say that do not say it as their field does, by the name of the setting.

    Raises ValueError: a name that is no setting, or a setting that has no effect in the task.
    """
    settings = tuple((table, key) for table, _, key in (name.rpartition(".") for name in names))
    for setting in settings:
        if setting not in FIELDS:
            raise ValueError(f"{dotted(setting)} is no setting")
        if reason := without_effect(setting, task, ""):
            raise ValueError(f"a flag for {dotted(setting)}: {reason[0]}")
    flags = SettingFlags(settings, prefer, task, help or {})

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        shown: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            shown += flags.parameters(parameter.kind) if parameter.name == "settings" else [parameter]
        outer = signature.replace(parameters=shown)

        @wraps(command)
        def called(*arguments: Any, **named: Any) -> None:
            bound = outer.bind(*arguments, **named)
            bound.apply_defaults()
            own = {name: bound.arguments[name] for name in signature.parameters if name != "settings"}
            command(**own, settings=flags.given(bound.arguments))

        called.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        vars(called).update(__signature__=outer, setting_flags=flags)
        return called

    return decorate


def flags_of(command: Callable[..., Any]) -> SettingFlags | None:
    """What `takes_settings` gave a command."""
    found: SettingFlags | None = vars(command).get("setting_flags")
    return found


def parameter_of(setting: Setting) -> str:
    """The name of the parameter for the flag of a setting."""
    return flag_name(setting).lstrip("-").replace("-", "_")


def _range(limits: Any) -> list[str]:
    """What of a range is worth telling: not the bound that only keeps out nonsense."""
    if limits["above"] is not None:
        return [f"above {limits['above']}"]
    return [f"{limits['at_least']} or more"] if limits["at_least"] else []
