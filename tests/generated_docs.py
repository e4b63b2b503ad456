"""Generate the marked parts of the pages in docs/ from the code: `python -m tests.generated_docs`.

<!-- made: [decode] -->
the settings of this table
<!-- end -->
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import Any

import typer

from templora_cli.cli import app
from templora_cli.commands.flags import flags_of
from templora_cli.commands.settings import FIELDS, flag_name
from templora_cli.config import (
    GENERATED_LR_SHARE,
    MAX_TOKENS,
    RECIPES,
    TABLES,
    TASK_DEFAULTS,
    Config,
    learning_rate_for,
)

DOCS = Path(__file__).parents[1] / "docs"
BILLIONS = (0.135, 0.6, 4, 7, 14)
"""Numbers of parameters for which the page lists learning rates."""


def commands_of(group: typer.Typer, name: str = "templora") -> Iterator[tuple[str, Any]]:
    """The words and the function of each command in the order of `--help`; a group has None."""
    yield name, None
    for info in group.registered_commands:
        assert info.callback is not None
        yield f"{name} {info.name or info.callback.__name__}", info.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands_of(inner.typer_instance, f"{name} {inner.name}")


COMMANDS = dict(commands_of(app))
FLAGS = [flags for command in COMMANDS.values() if command and (flags := flags_of(command)) is not None]
WITH_FLAG = {setting for flags in FLAGS for setting in flags.settings}


def help_of(command: str) -> str:
    """The output of `--help` in a terminal of 100 columns without colours."""
    terminal = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    arguments = [sys.executable, "-m", "templora_cli", *command.split()[1:], "--help"]
    done = subprocess.run(arguments, env={**os.environ, **terminal}, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8").replace("python -m templora_cli", "templora").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def section(command: str, help_text: str) -> str:
    """The section of cli.md with the help of a command."""
    return f"\n## {command}\n\n```text\n$ {command} --help\n\n{help_text}\n```\n"


def links() -> str:
    """Links to the sections of all commands."""
    return "".join(f"- [{name}](#{name.replace(' ', '-')})\n" for name in COMMANDS)


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is the head."""
    head, *body = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([head, f"| {' | '.join('---' for _ in rows[0])} |\n", *body])


def settings_table(name: str, owner: type) -> str:
    """The settings of a TOML table, or those of the top level for the name ""."""
    rows = [
        (
            f"`{field.name}`",
            toml_value(field.default),
            range_of(field),
            f"`{flag_name(setting)}`" if setting in WITH_FLAG else "",
            field.metadata["help"],
        )
        for field in fields(owner)
        if (setting := (name, field.name)) in FIELDS
    ]
    return table(("setting", "default", "may be", "flag", "meaning"), *rows)


def toml_value(value: Any) -> str:
    """A value as it is written in TOML."""
    if isinstance(value, (bool, tuple)):
        return f"`{json.dumps(value, ensure_ascii=False)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def range_of(field: Field[Any]) -> str:
    """The values that a setting may have."""
    limits = field.metadata
    if limits["choices"]:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    if isinstance(field.default, bool):
        return "`true`, `false`"
    if isinstance(field.default, str):
        return "a text"
    if isinstance(field.default, tuple):
        return "a list of texts"
    maximum = limits["at_most"]
    minimum = str(limits["at_least"]) if limits["above"] is None else f"above {limits['above']}"
    # Bounds as high as `MAX_TOKENS` only catch typing errors.
    return f"{minimum} or more" if maximum is None or maximum >= MAX_TOKENS else f"{minimum} to {maximum}"


def differences(values: Mapping[str, Mapping[str, Any]], *names: str) -> str:
    """The settings in `values` that differ from their defaults, with both values."""
    rows = [
        (f"`{table}.{key}`", toml_value(default), toml_value(value))
        for table, keys in values.items()
        for key, value in keys.items()
        if value != (default := FIELDS[table, key].default)
    ]
    return table(("setting", *(f"`{name}`" for name in names)), *rows)


def rates() -> str:
    """The learning rates of AdamW that are chosen for a rate of 0."""
    by_size = {size: learning_rate_for(int(size * 1e9), "adamw") for size in BILLIONS}
    rows = [
        (
            f"{size} billion",
            f"{rate:g}",
            f"{float(f'{GENERATED_LR_SHARE * rate:.1e}'):g}",
        )
        for size, rate in by_size.items()
    ]
    return table(("parameters of the model", "a person's text", "the model's own text"), *rows)


def generated_parts(help_of: Callable[[str], str] = help_of) -> dict[str, Callable[[], str]]:
    """Functions that generate the parts, by their names in the marks."""
    return {
        "links": links,
        "commands": lambda: "".join(section(name, help_of(name)) for name in COMMANDS),
        "top": partial(settings_table, "", Config),
        **{f"[{name}]": partial(settings_table, name, owner) for name, owner in TABLES.items()},
        "paper": partial(differences, RECIPES["paper"], "default", "paper"),
        "tasks": partial(differences, TASK_DEFAULTS["translation"], "write", "translate"),
        "rates": rates,
    }


def regenerate(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The page with every marked part generated again."""

    def fill(mark: re.Match[str]) -> str:
        return f"{mark[1]}{parts[mark[2]]()}{mark[3]}"

    return re.sub(r"(<!-- made: (\S+) -->\n).*?(<!-- end -->)", fill, page, flags=re.DOTALL)


if __name__ == "__main__":
    parts = generated_parts()
    for page in DOCS.glob("*.md"):
        text = page.read_text("utf-8")
        if (new := regenerate(text, parts)) != text:
            page.write_text(new, "utf-8")
