"""What stands between marks in the pages of docs/ is made from the code: `python -m tests.generated_docs`.

<!-- made: [decode] -->
the settings of that table
<!-- end -->
"""

from __future__ import annotations

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
"""Parameters of models for which learning rates are shown."""


def commands_of(group: typer.Typer, name: str = "templora") -> Iterator[tuple[str, Any]]:
    """What is typed for each command, groups among them, in the order of `--help`; and its function."""
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
    """`--help` as in a terminal of 100 columns without colours."""
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    arguments = [sys.executable, "-m", "templora_cli", *command.split()[1:], "--help"]
    done = subprocess.run(arguments, env={**os.environ, **plain}, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8").replace("python -m templora_cli", "templora").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def section(command: str, said: str) -> str:
    """The part of cli.md that holds the help of a command."""
    return f"\n## {command}\n\n```text\n$ {command} --help\n\n{said}\n```\n"


def links() -> str:
    """To the sections of all commands."""
    return "".join(f"- [{name}](#{name.replace(' ', '-')})\n" for name in COMMANDS)


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([head, f"| {' | '.join('---' for _ in rows[0])} |\n", *body])


def settings_table(name: str, owner: type) -> str:
    """The settings of a table of TOML; of the top level where it has no name."""
    rows = [
        (
            f"`{field.name}`",
            shown(field.default),
            range_of(field),
            f"`{flag_name(setting)}`" if setting in WITH_FLAG else "",
            field.metadata["help"],
        )
        for field in fields(owner)
        if (setting := (name, field.name)) in FIELDS
    ]
    return table(("setting", "default", "may be", "flag", "meaning"), *rows)


def shown(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def range_of(field: Field[Any]) -> str:
    """Which values a setting may have."""
    limits = field.metadata
    if limits["choices"]:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    if isinstance(field.default, bool):
        return "`true`, `false`"
    if isinstance(field.default, str):
        return "a text"
    most = limits["at_most"]
    low = str(limits["at_least"]) if limits["above"] is None else f"above {limits['above']}"
    # Bounds as high as that only keep out typing errors.
    return f"{low} or more" if most is None or most >= MAX_TOKENS else f"{low} to {most}"


def differences(values: Mapping[str, Mapping[str, Any]], *names: str) -> str:
    """Settings beside their defaults, where the values are others."""
    rows = [
        (f"`{table}.{key}`", shown(usual), shown(value))
        for table, keys in values.items()
        for key, value in keys.items()
        if value != (usual := FIELDS[table, key].default)
    ]
    return table(("setting", *(f"`{name}`" for name in names)), *rows)


def rates() -> str:
    """The learning rates that 0 stands for, with AdamW."""
    given = {size: learning_rate_for(int(size * 1e9), "adamw") for size in BILLIONS}
    rows = [
        (f"{size} billion", f"{rate:g}", f"{float(f'{GENERATED_LR_SHARE * rate:.1e}'):g}")
        for size, rate in given.items()
    ]
    return table(("parameters of the model", "a person's text", "the model's own text"), *rows)


def made(help_of: Callable[[str], str] = help_of) -> dict[str, Callable[[], str]]:
    """All that is made, by the names in the marks."""
    return {
        "links": links,
        "commands": lambda: "".join(section(name, help_of(name)) for name in COMMANDS),
        "top": partial(settings_table, "", Config),
        **{f"[{name}]": partial(settings_table, name, owner) for name, owner in TABLES.items()},
        "paper": partial(differences, RECIPES["paper"], "default", "paper"),
        "tasks": partial(differences, TASK_DEFAULTS["translation"], "write", "translate"),
        "rates": rates,
    }


def renewed(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """A page with everything between marks made anew."""

    def fill(mark: re.Match[str]) -> str:
        return f"{mark[1]}{parts[mark[2]]()}{mark[3]}"

    return re.sub(r"(<!-- made: (\S+) -->\n).*?(<!-- end -->)", fill, page, flags=re.DOTALL)


if __name__ == "__main__":
    parts = made()
    for page in DOCS.glob("*.md"):
        text = page.read_text("utf-8")
        if (new := renewed(text, parts)) != text:
            page.write_text(new, "utf-8")
