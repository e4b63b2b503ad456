"""`--help`: without types of flags that take no value, and in one column where panels would cut flags."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from templora_cli.render.lines import terminal_width, wrapped

PANEL_COLUMNS = 80
"""In narrower terminals the panels of rich cut the names of flags."""
INDENT = "  "


class _Help:
    """What commands and groups have in common."""

    params: list[Any]

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters; those of flags that take no value without a type."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Panels, or one column in a narrow terminal."""
        width = terminal_width(sys.stdout)
        if width >= PANEL_COLUMNS:
            super().format_help(ctx, formatter)  # type: ignore[misc]
        else:
            formatter.write("\n".join(_one_column(self, ctx, width)) + "\n")


OPTIONAL_VALUES = {"--ask": ("chunk", "chapter")}
"""Flags with a value that may be left out, and their values, the usual one first."""


class HelpCommand(_Help, TyperCommand):
    """A command with this help, and flags whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the usual value to a flag that has none: what follows it may be an argument."""
        return super().parse_args(ctx, list(_with_values(args)))


def _with_values(args: Sequence[str]) -> Iterator[str]:
    for index, arg in enumerate(args):
        yield arg
        following = args[index + 1] if index + 1 < len(args) else ""
        if arg in OPTIONAL_VALUES and following not in OPTIONAL_VALUES[arg]:
            yield OPTIONAL_VALUES[arg][0]


class HelpGroup(_Help, TyperGroup):
    """A group of commands with this help."""


def use_help(app: typer.Typer, group_class: type[HelpGroup] = HelpGroup) -> None:
    """Give `app`, its commands and its groups this help, with paragraphs that are not broken into lines."""
    app.info.cls = group_class
    for command in app.registered_commands:
        assert command.callback is not None
        command.cls = HelpCommand
        command.help = _reflowed(command.help or command.callback.__doc__ or "")
    for group in app.registered_groups:
        assert group.typer_instance is not None
        own = group.typer_instance.info.cls
        inner_class = own if isinstance(own, type) and issubclass(own, HelpGroup) else HelpGroup
        group.cls = inner_class
        use_help(group.typer_instance, inner_class)


def _reflowed(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


def _one_column(command: Any, ctx: Any, width: int) -> Iterator[str]:
    """The lines of the help: each flag on a line, its description below it."""
    usage = " ".join([f"Usage: {ctx.command_path}", *command.collect_usage_pieces(ctx)])
    yield from wrapped(usage, width, hanging=INDENT)
    for paragraph in (command.help or "").split("\n\n"):
        yield from ("", *wrapped(paragraph, width))
    headed: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        if record := param.get_help_record(ctx):
            default = "Options" if record[0].startswith("-") else "Arguments"
            headed.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(record)
    if isinstance(command, TyperGroup):
        commands = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
        headed["Commands"] = [
            (name, (found.help or "").split("\n\n")[0]) for name, found in commands if found
        ]
    for head, records in headed.items():
        yield from ("", f"{head}:")
        for name, text in records:
            yield from wrapped(name.strip(), width, INDENT, hanging=2 * INDENT)
            yield from wrapped(text, width, 2 * INDENT, hanging=2 * INDENT)
