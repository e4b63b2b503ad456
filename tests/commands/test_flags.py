"""Flags made from the settings: each is there, says what its field says, and arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from templora_cli.cli import app
from templora_cli.commands.flags import flags_of, parameter_of, takes_settings
from templora_cli.commands.settings import FIELDS, OWNERS, GivenSettings, Setting, dotted, flag_name
from templora_cli.config import TABLES, Config

NOT_SETTINGS = {("eval translate", "--context-pairs")}
"""Flags of other things that have the name of one for a setting."""


def commands_of(app: typer.Typer, group: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """All commands by what is typed for them."""
    for info in app.registered_commands:
        assert info.callback is not None
        yield f"{group} {info.name or info.callback.__name__}".strip(), info.callback
    for inner in app.registered_groups:
        assert inner.typer_instance is not None
        yield from commands_of(inner.typer_instance, f"{group} {inner.name}".strip())


COMMANDS = dict(commands_of(app))
TAKING = {name: flags for name, command in COMMANDS.items() if (flags := flags_of(command)) is not None}
DECLARED = [(name, setting) for name, flags in TAKING.items() for setting in flags.settings]


def parser_of(name: str) -> Any:
    """What Typer has made of a command."""
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    return command


def another(setting: Setting) -> Any:
    """A value that is not the default."""
    default, limits = FIELDS[setting].default, FIELDS[setting].metadata
    if limits["choices"]:
        return next(choice for choice in limits["choices"] if choice != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return "another"
    most = limits["at_most"]
    return default + 1 if most is None or default + 1 <= most else most / 2


def value_of(config: Config, setting: Setting) -> Any:
    table, key = setting
    return getattr(getattr(config, table) if table else config, key)


def task_of(setting: Setting) -> str:
    """One in which the setting has an effect."""
    return OWNERS.get(setting[0], ("novel",))[0]


def typed(setting: Setting) -> list[str]:
    """The flag with that value, as on the command line."""
    value = another(setting)
    return [flag_name(setting), *([] if isinstance(value, bool) else [str(value)])]


def test_the_commands_with_settings() -> None:
    assert TAKING.keys() == {"write", "translate", "doctor", "eval ppl", "eval translate", "eval drift"}


@pytest.mark.parametrize(("name", "setting"), DECLARED, ids=lambda part: str(part))
def test_every_flag_of_a_command_arrives(name: str, setting: Setting) -> None:
    parser = parser_of(name)
    required = {"file": ["book.txt"], "target": ["--to", "en"], "files": ["a.txt"], "pairs": ["a.jsonl"]}
    needed = [text for option in parser.params if option.required for text in required[option.name]]
    values = parser.make_context(name, [*needed, *typed(setting)]).params
    given = TAKING[name].given(values)
    assert value_of(given.resolve(), setting) == another(setting)
    assert given.flags.keys() == {setting}, "nothing is taken as given that was not"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_flag_of_a_setting_is_made_by_hand(name: str) -> None:
    made = {flag_name(setting) for setting in TAKING[name].settings} if name in TAKING else set()
    taken = {option for parameter in parser_of(name).params for option in parameter.opts}
    by_hand = (taken & {flag_name(setting) for setting in FIELDS}) - made
    assert {(name, option) for option in by_hand} <= NOT_SETTINGS


@pytest.mark.parametrize("setting", FIELDS, ids=dotted)
def test_any_setting_can_be_a_flag(setting: Setting) -> None:
    reached: list[GivenSettings] = []

    @takes_settings(dotted(setting), prefer="generated", task=task_of(setting))
    def command(before: str = "", *, settings: GivenSettings, after: bool = False) -> None:
        assert (before, after) == ("x", True)
        reached.append(settings)

    tiny = typer.Typer()
    tiny.command()(command)
    result = CliRunner().invoke(tiny, ["--before", "x", *typed(setting), "--after"])
    assert result.exit_code == 0, result.output
    value = another(setting)
    command("x", after=True, **{parameter_of(setting): True if isinstance(value, bool) else value})
    command("x", after=True, settings=[f"{dotted(setting)}={str(value).lower()}"])
    command(before="x", after=True)
    *given, without = (value_of(settings.resolve(), setting) for settings in reached)
    assert given == [value] * 3
    assert without == FIELDS[setting].default != value


@pytest.mark.parametrize("setting", FIELDS, ids=dotted)
def test_a_flag_has_the_type_and_the_words_of_its_field(setting: Setting) -> None:
    @takes_settings(dotted(setting), prefer="generated", task=task_of(setting))
    def command(*, settings: GivenSettings) -> None:
        """Nothing."""

    tiny = typer.Typer()
    tiny.command()(command)
    parser: Any = typer.main.get_command(tiny)
    (option,) = (one for one in parser.params if one.name == parameter_of(setting))
    help, default = FIELDS[setting].metadata["help"], FIELDS[setting].default
    if setting == ("train", "learn"):
        assert option.help == "Only the base."
    else:
        assert option.help.startswith(help) and f"default {default})" in option.help
    kind = get_type_hints(TABLES.get(setting[0], Config))[setting[1]]
    assert kind is bool or command.__annotations__[parameter_of(setting)].__origin__ == kind | None


def test_a_command_may_word_a_flag_itself_and_set_follows_those_of_learning() -> None:
    @takes_settings(
        *("model.name", "train.learn", "decode.top_k"),
        prefer="generated",
        task="novel",
        help={"train.learn": "Plainly."},
    )
    def command(first: int = 0, *, settings: GivenSettings, last: int = 0) -> None:
        """Nothing."""

    tiny = typer.Typer()
    tiny.command()(command)
    parser: Any = typer.main.get_command(tiny)
    names = [option.name for option in parser.params]
    assert names[:6] == ["first", "model", "no_learn", "settings", "top_k", "last"]
    assert parser.params[2].help == "Plainly."


@pytest.mark.parametrize(
    ("names", "task", "complaint"),
    [
        (["decode.heat"], "novel", "decode.heat is no setting"),
        (["temperature"], "novel", "temperature is no setting"),
        (["decode.temperature"], "translation", "translate draws by translation.temperature"),
        (["translation.attempts"], "novel", "only translate goes by translation.attempts"),
        (["seed"], "drift", "eval drift takes the seeds"),
        (["human.lr", "generated.lr"], "novel", "duplicate parameter name: 'lr'"),
    ],
)
def test_flags_that_cannot_be_declared(names: list[str], task: str, complaint: str) -> None:
    def command(*, settings: GivenSettings) -> None:
        """Nothing."""

    with pytest.raises(ValueError, match=complaint):
        takes_settings(*names, prefer="generated", task=task)(command)
