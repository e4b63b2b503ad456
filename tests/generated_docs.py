"""The pages of docs/ that are made from the code. `python -m tests.generated_docs` writes them anew."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import typer

from templora_cli.cli import app
from templora_cli.commands.flags import flags_of
from templora_cli.commands.settings import FIELDS, Setting, flag_name
from templora_cli.config import (
    MOST_TOKENS,
    OWN_SHARE,
    RECIPES,
    REPLACED,
    TABLES,
    TASKS,
    Config,
    rate_for_size,
)

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `python -m tests.generated_docs`: change the code, or that file, and run it. -->"

CLI = """# Every command and flag

What each command says when it is asked with `--help`. `-h` is short for it.

{links}

The exit status is 0 when all went well, 1 for a defect of templora or a pipe that was closed, 2 for something that you
can put right (one line says what, a second one how), 3 when paragraphs of a translation are left that fail a check, and
130 after Ctrl-C.
"""

SETTINGS = """# Settings

Nothing has to be set: a book begins with the defaults below. Settings come from five places, and **a later one wins**:

1. the defaults;
2. your own config file: `~/.config/templora/config.toml` on Linux, `~/Library/Application Support/templora/config.toml`
   on macOS, `%LOCALAPPDATA%\\templora\\config.toml` on Windows, or the file that `TEMPLORA_CONFIG` names;
3. `templora.toml` in the folder where you give the command;
4. flags, such as `--chunk-tokens 512`;
5. `--set TABLE.KEY=VALUE`, for every setting, with a flag or without.

A session keeps the settings that it began with. `templora resume` goes by those, whatever the files say by then.

A setting that is unknown, of the wrong type or out of its range stops the command before anything is loaded. All
mistakes of files and flags are told together, each with its place.

With `--set` the table may be left out where one table alone has such a key: `--set rank=16`. Where several have it,
`write` takes the one of `[own]` and `translate` the one of `[translation]`, if it has one, and then the one of
`[decode]`. So name the table where there could be a doubt: `--set given.lr=2e-4`.

## An example

A `templora.toml` for a card with 8 GB. It names only what differs from the defaults.

```toml
{example}```
"""

EXAMPLE = """seed = 7

[model]
name = "Qwen/Qwen3-4B"

[decode]
chunk_tokens = 512
context_tokens = 1024
temperature = 0.9

[session]
grid_checkpoints = 4
"""

RATES = """## Learning rates

`lr = 0` under `[given]` and `[own]` takes the rate for the size of the base model. Two of these rates for a person's
text rest on something: {measured}, and {papers} is the paper's. The others lie on a curve through the two. The model's own
text is learnt at {share} times the rate.

| parameters of the base | a person's text (`[given]`) | the model's own (`[own]`) |
| --- | --- | --- |
{rows}
"""

ENVIRONMENT = """## Environment variables

| variable | meaning |
| --- | --- |
| `TEMPLORA_HOME` | folder of the sessions ([sessions.md](sessions.md)) |
| `TEMPLORA_CACHE` | folder of the models that templora converts itself: the two small ones, and GGUF files |
| `TEMPLORA_CONFIG` | your own config file, in place of the usual one |
| `TEMPLORA_DEBUG` | 1 shows the traceback of an error, as `--debug` does |
| `HF_HOME`, `HF_HUB_OFFLINE` | of the Hugging Face library: where models that you pull lie, and whether it may use the network |
| `VISUAL`, `EDITOR` | the editor of `templora review --edit` |
| `NO_COLOR` | anything in it turns colours off |
"""


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


def help_of(command: str) -> str:
    """`--help` as in a terminal of 100 columns without colours."""
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    arguments = [sys.executable, "-m", "templora_cli", *command.split()[1:], "--help"]
    done = subprocess.run(arguments, env={**os.environ, **plain}, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8").replace("python -m templora_cli", "templora").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def section(command: str, said: str) -> str:
    """The part of cli.md that holds the help of a command."""
    return f"## {command}\n\n```text\n$ {command} --help\n\n{said}\n```\n"


def cli_page(help_of: Callable[[str], str] = help_of) -> str:
    """docs/cli.md."""
    links = " · ".join(f"[{name}](#{name.replace(' ', '-')})" for name in COMMANDS)
    return "\n".join([MADE, CLI.format(links=links), *(section(name, help_of(name)) for name in COMMANDS)])


def configuration_page() -> str:
    """docs/configuration.md."""
    parts = [MADE, SETTINGS.format(example=EXAMPLE), "## All settings\n"]
    parts.append("Where no flag is named, use a file or `--set`.\n")
    parts += [_table_of(name, owner) for name, owner in {"": Config, **TABLES}.items()]
    parts += [_recipes(), _tasks(), _rates(), ENVIRONMENT]
    return "\n".join(parts)


def _table_of(name: str, owner: type) -> str:
    title = f"### `[{name}]`" if name else "### At the top of the file"
    first = (inspect.getdoc(owner) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")
    about = first.partition("`: ")[2] if name else "these stand before the first table"
    known = [field for field in fields(owner) if "help" in field.metadata]
    rows = [_row((name, field.name), field) for field in known]
    notes = [NOTES[name], ""] if name in NOTES else []
    return "\n".join([title, "", f"{about[0].upper()}{about[1:]}.", "", *_header(*COLUMNS), *rows, "", *notes])


NOTES = {
    "given": """`nll` learns to expect the text. `distill` learns to expect, from a short context, the words that the base
expects from a longer one; as measured, it keeps the text together and remembers nothing.""",
    "own": "The settings are those of `[given]`, and each counts for itself.",
    "gate": """NLL (negative log-likelihood) says how unexpected a text is to a model, in nats a token: 0 is certain, 2.3 is
a chance of 1 in 10, 4.6 of 1 in 100. A 4-gram is a sequence of four tokens.""",
}
"""What stands below a table."""
COLUMNS = ("setting", "default", "may be", "flag", "meaning")


def _header(*columns: str) -> Sequence[str]:
    return [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]


def _row(setting: Setting, field: Field[Any]) -> str:
    flag = f"`{flag_name(setting)}`" if setting in with_flags() else ""
    cells = (f"`{field.name}`", _shown(field.default), _range(field), flag, field.metadata["help"])
    return f"| {' | '.join(cells)} |"


def with_flags() -> set[Setting]:
    """The settings for which a command has a flag."""
    found = [flags_of(command) for command in COMMANDS.values() if command is not None]
    return {setting for flags in found if flags is not None for setting in flags.settings}


def _shown(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _range(field: Field[Any]) -> str:
    limits = field.metadata
    if limits["choices"]:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    if isinstance(field.default, bool):
        return "`true`, `false`"
    if isinstance(field.default, str):
        return "a text"
    least, above, most = limits["at_least"], limits["above"], limits["at_most"]
    if most is not None and most >= MOST_TOKENS:  # such bounds only keep out typing errors
        most = None
    low = f"above {above}" if above is not None else f"{least}"
    return f"{low} or more" if most is None else f"{low} to {most}"


def _recipes() -> str:
    parts = [RECIPES_TOLD]
    for recipe, tables in RECIPES.items():
        rows = [
            f"| `{table}.{key}` | {_shown(usual)} | {_shown(value)} |"
            for table, values in tables.items()
            for key, value in values.items()
            if value != (usual := FIELDS[table, key].default)
        ]
        parts += [*_header("setting", "`default`", f"`{recipe}`"), *rows, ""] if rows else []
    return "\n".join(parts)


RECIPES_TOLD = """## Recipes

A recipe is a set of values under one name: `--recipe paper`, or `recipe = "paper"` under `[train]`. `default` is the
values above; `paper` is the published settings of Temp-LoRA (arXiv 2401.11504). Naming a recipe takes back what earlier
places say under `[train]`, `[given]`, `[own]` and `[gate]`, except `learn` and `gradient_checkpointing`; `paper` also
sets its chunk of 1024 tokens. What the same place or a later one says besides still counts. The recipes differ in:
"""


def _tasks() -> str:
    def rows(values: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        for table, keys in values.items():
            for key, value in keys.items():
                yield f"| `{table}.{key}` | {_shown(FIELDS[table, key].default)} | {_shown(value)} |"

    instead = "\n".join(
        f"- `translate` goes by `{'.'.join(own)}`, not by `{'.'.join(other)}`."
        for other, own in REPLACED["translation"].items()
    )
    head = _header("setting", "`write`", "`translate`")
    return "\n".join(["## Writing and translating differ\n", *head, *rows(TASKS["translation"]), "", instead, ""])


def _rates() -> str:
    sizes = {"0.135 billion": 1.35e8, "0.6 billion": 6e8, "4 billion": 4e9, "7 billion": 7e9, "14 billion": 1.4e10}
    rates = {name: rate_for_size(int(size), "adamw") for name, size in sizes.items()}
    rows = [f"| {name} | {rate:g} | {float(f'{OWN_SHARE * rate:.1e}'):g} |" for name, rate in rates.items()]
    measured = f"{rates['0.135 billion']:g} was measured ([quality.md](quality.md))"
    papers = f"{rates['7 billion']:g}"
    return RATES.format(measured=measured, papers=papers, share=OWN_SHARE, rows="\n".join(rows))


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page, "configuration.md": configuration_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), "utf-8")
