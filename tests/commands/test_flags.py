"""Flags that are built from the fields of the settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from templora_cli.cli import app
from templora_cli.commands.flags import flags_of, parameter_of, takes_settings
from templora_cli.commands.settings import FIELDS, OWNERS, GivenSettings, Setting, dotted, flag_name
from templora_cli.config import TABLES, Config

NOT_SETTINGS = {
    ("eval translate", "--context-pairs"),
    *((name, "--model") for name in ("resume", "sync", "retry", "edit", "accept", "forget")),
}
"""Flags with the name of a setting and another meaning: pairs in a prompt, the new location of a model."""


def commands_of(app: typer.Typer, group: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """All commands, by the words that a user types."""
    for info in app.registered_commands:
        assert info.callback is not None
        yield f"{group} {info.name or info.callback.__name__}".strip(), info.callback
    for inner in app.registered_groups:
        assert inner.typer_instance is not None
        yield from commands_of(inner.typer_instance, f"{group} {inner.name}".strip())


COMMANDS = dict(commands_of(app))
WITH_SETTINGS = {
    name: flags for name, command in COMMANDS.items() if (flags := flags_of(command)) is not None
}
DECLARED = [(name, setting) for name, flags in WITH_SETTINGS.items() for setting in flags.settings]


def parser_of(name: str) -> Any:
    """The parser that Typer builds for a command."""
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    return command


def changed_value(setting: Setting) -> Any:
    """A value that is not the default."""
    default, limits = FIELDS[setting].default, FIELDS[setting].metadata
    if limits["choices"]:
        return next(choice for choice in limits["choices"] if choice != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return "another"
    if isinstance(default, tuple):
        return ("another", "third")
    maximum = limits["at_most"]
    return default + 1 if maximum is None or default + 1 <= maximum else maximum / 2


def value_of(config: Config, setting: Setting) -> Any:
    table, key = setting
    return getattr(getattr(config, table) if table else config, key)


def task_of(setting: Setting) -> str:
    """A task in which the setting has an effect."""
    return OWNERS.get(setting[0], ("novel",))[0]


def arguments_for(setting: Setting) -> list[str]:
    """The arguments that set a setting to `changed_value`."""
    value = changed_value(setting)
    values = value if isinstance(value, tuple) else [[]] if isinstance(value, bool) else [value]
    return [part for each in values for part in (flag_name(setting), *([] if each == [] else [str(each)]))]


def assignment_of(setting: Setting) -> str:
    """The `--set` argument that sets a setting to `changed_value`."""
    value = changed_value(setting)
    text = json.dumps(value) if isinstance(value, tuple) else str(value).lower()
    return f"{dotted(setting)}={text}"


def test_these_commands_have_settings() -> None:
    assert WITH_SETTINGS.keys() == {
        "write",
        "plan",
        "translate",
        "doctor",
        "eval ppl",
        "eval translate",
        "eval drift",
        "eval consistency",
        "eval author",
    }


@pytest.mark.parametrize(("name", "setting"), DECLARED, ids=lambda part: str(part))
def test_every_flag_of_a_command_sets_its_setting(name: str, setting: Setting) -> None:
    parser = parser_of(name)
    required = {"file": ["book.txt"], "target": ["--to", "en"], "files": ["a.txt"], "pairs": ["a.jsonl"]}
    required |= {"book": ["book.txt"], "control": ["--control", "other.txt"]}
    needed = [text for option in parser.params if option.required for text in required[option.name]]
    values = parser.make_context(name, [*needed, *arguments_for(setting)]).params
    given = WITH_SETTINGS[name].given(values)
    assert value_of(given.resolve(), setting) == changed_value(setting)
    assert given.flags.keys() == {setting}, "no other setting is set"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_with_the_name_of_a_setting_is_generated(name: str) -> None:
    generated = (
        {flag_name(setting) for setting in WITH_SETTINGS[name].settings} if name in WITH_SETTINGS else set()
    )
    options = {option for parameter in parser_of(name).params for option in parameter.opts}
    by_hand = (options & {flag_name(setting) for setting in FIELDS}) - generated
    assert {(name, option) for option in by_hand} <= NOT_SETTINGS


@pytest.mark.usefixtures("no_config")
@pytest.mark.parametrize("setting", FIELDS, ids=dotted)
def test_any_setting_can_be_a_flag(setting: Setting) -> None:
    received: list[GivenSettings] = []

    @takes_settings(dotted(setting), prefer="generated", task=task_of(setting))
    def command(before: str = "", *, settings: GivenSettings, after: bool = False) -> None:
        assert (before, after) == ("x", True)
        received.append(settings)

    program = typer.Typer()
    program.command()(command)
    result = CliRunner().invoke(program, ["--before", "x", *arguments_for(setting), "--after"])
    assert result.exit_code == 0, result.output
    value = changed_value(setting)
    command("x", after=True, **{parameter_of(setting): True if isinstance(value, bool) else value})
    command("x", after=True, settings=[assignment_of(setting)])
    command(before="x", after=True)
    *changed, default = (value_of(settings.resolve(), setting) for settings in received)
    assert changed == [value] * 3
    assert default == FIELDS[setting].default != value


@pytest.mark.parametrize("setting", FIELDS, ids=dotted)
def test_a_flag_has_the_type_and_the_help_of_its_field(setting: Setting) -> None:
    @takes_settings(dotted(setting), prefer="generated", task=task_of(setting))
    def command(*, settings: GivenSettings) -> None:
        """Nothing."""

    program = typer.Typer()
    program.command()(command)
    parser: Any = typer.main.get_command(program)
    (option,) = (parameter for parameter in parser.params if parameter.name == parameter_of(setting))
    help, default = FIELDS[setting].metadata["help"], FIELDS[setting].default
    if setting == ("train", "learn"):
        assert option.help == "Use only the base model."
    else:
        text = json.dumps(default) if isinstance(default, tuple) else default
        assert option.help.startswith(help) and f"default {text})" in option.help
    kind = get_type_hints(TABLES.get(setting[0], Config))[setting[1]]
    kind = list[str] if kind == tuple[str, ...] else kind
    assert kind is bool or command.__annotations__[parameter_of(setting)].__origin__ == kind | None


def test_a_command_can_replace_help_and_set_follows_the_learning_flags() -> None:
    @takes_settings(
        *("model.name", "train.learn", "decode.top_k"),
        prefer="generated",
        task="novel",
        help={"train.learn": "Write plainly."},
    )
    def command(first: int = 0, *, settings: GivenSettings, last: int = 0) -> None:
        """Nothing."""

    program = typer.Typer()
    program.command()(command)
    parser: Any = typer.main.get_command(program)
    names = [option.name for option in parser.params]
    assert names[:6] == ["first", "model", "no_learn", "settings", "top_k", "last"]
    assert parser.params[2].help == "Write plainly."


@pytest.mark.parametrize(
    ("names", "task", "complaint"),
    [
        (["decode.heat"], "novel", "decode.heat is not a setting"),
        (["temperature"], "novel", "temperature is not a setting"),
        (["decode.temperature"], "translation", "translate samples with translation.temperature"),
        (["translation.attempts"], "novel", "only translate uses translation.attempts"),
        (["seed"], "drift", "eval drift uses the seeds"),
        (["human.lr", "generated.lr"], "novel", "duplicate parameter name: 'lr'"),
    ],
)
def test_invalid_flags_are_refused(names: list[str], task: str, complaint: str) -> None:
    def command(*, settings: GivenSettings) -> None:
        """Nothing."""

    with pytest.raises(ValueError, match=complaint):
        takes_settings(*names, prefer="generated", task=task)(command)
