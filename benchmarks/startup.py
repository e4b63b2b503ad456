"""The CPU time of commands that load no model, against that of `--help`, in a home with many sessions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.command import TEMPLORA, Usage, environment, usage_of
from benchmarks.machine import machine

HELP = "--help"
"""The command that the others are compared with."""


@dataclass(frozen=True)
class LightCommand:
    """A command that loads no model."""

    command: tuple[str, ...]
    status: int = 0
    """The expected exit status."""


def startup(
    sessions: Annotated[int, typer.Option(min=2, help="Sessions in the home; half are translations.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds over all commands, after a warm-up.")] = 7,
    limit: Annotated[float, typer.Option(help="Maximum CPU time, as a multiple of --help.")] = 2.0,
) -> None:
    """Measure the CPU time of commands that load no model, in turns. Exit with 1 if one takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # The user's own settings and models would change the figures.
        user = {"TEMPLORA_CONFIG": str(home / "config.toml"), "TEMPLORA_CACHE": str(home / "cache")}
        variables = environment(home, **user, HF_HUB_CACHE=str(home / "hub"))
        ids = fill_home(home, sessions, lambda arguments: usage_of([*TEMPLORA, *arguments], variables).status)
        usages = measure(light_commands(*ids), variables, rounds)
    print(f"# {machine()}, {sessions} sessions, median of {rounds} rounds after a warm-up")
    judge(usages, limit)


def light_commands(novel: str, translation: str) -> dict[str, LightCommand]:
    """The commands by their names in the table. Without an id they use the newest session."""

    def templora(*arguments: str, status: int = 0) -> LightCommand:
        return LightCommand((*TEMPLORA, *arguments), status)

    return {
        "python -c pass": LightCommand((sys.executable, "-c", "pass")),
        HELP: templora("--help"),
        "sessions list": templora("sessions", "list"),
        "sessions show": templora("sessions", "show"),
        "sessions show ID": templora("sessions", "show", novel),
        "sessions export ID": templora("sessions", "export", novel),
        "review ID": templora("review", translation),
        "models list": templora("models", "list"),
        "write without a premise": templora("write", status=2),
    }


def measure(
    commands: Mapping[str, LightCommand], environment: Mapping[str, str], rounds: int
) -> dict[str, list[Usage]]:
    """The usage of each command in `rounds` rounds, in which they take turns, after a warm-up round.

    Raises CalledProcessError for an unexpected exit status: the command did not do its work.
    """
    usages: dict[str, list[Usage]] = {name: [] for name in commands}
    for round_ in range(rounds + 1):
        for name, light in commands.items():
            with tempfile.TemporaryDirectory() as folder:  # for the files that a command writes
                usage = usage_of(light.command, environment, Path(folder), silent=True)
            if usage.status != light.status:
                raise subprocess.CalledProcessError(usage.status, light.command)
            if round_:
                usages[name].append(usage)
    return usages


def times_help(name: str, usages: Mapping[str, Sequence[Usage]]) -> float:
    """The CPU time of a command as a multiple of that of `--help`."""
    command, help_ = (median(usage.cpu_seconds for usage in usages[key]) for key in (name, HELP))
    return command / help_


def judge(usages: Mapping[str, Sequence[Usage]], limit: float) -> None:
    """Print a row for each command. Raises typer.Exit if one takes more than `limit` times `--help`."""
    print("| command | CPU, s | range | wall clock, s | times --help |\n| --- | --- | --- | --- | --- |")
    for name, of_command in usages.items():
        cpu = [usage.cpu_seconds for usage in of_command]
        figures = f"{median(cpu):.3f} | {min(cpu):.3f} to {max(cpu):.3f}"
        figures += f" | {median(usage.seconds for usage in of_command):.3f} | {times_help(name, usages):.2f}"
        print(f"| {name} | {figures} |")
    slow = [name for name in usages if times_help(name, usages) > limit]
    for name in slow:
        times = times_help(name, usages)
        typer.echo(f"{name} takes {times:.2f} times the CPU time of {HELP}; the limit is {limit:g}", err=True)
    if slow:
        raise typer.Exit(1)


def fill_home(home: Path, sessions: int, templora: Callable[[list[str]], int]) -> tuple[str, str]:
    """Fill a new home with `sessions` sessions of a few chunks each, and its Hub cache with a model.

    Returns the ids of a novel and of a translation. Only these two are written, by `templora` (a function
    from arguments to an exit status), with a tiny model and without learning, so that they are small. The
    other sessions are copies of them, in turns.
    """
    from benchmarks.tiny_model import save_tiny_model

    cached = home / "hub" / "models--benchmarks--tiny"
    model = save_tiny_model(cached / "snapshots" / "0")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0")
    book = home / "book.txt"
    book.write_text("".join(f"Der Turm Nummer {n} steht am Meer.\n\n" for n in range(12)), "utf-8")
    options = ["--model", str(model), "--no-learn", "--chunk-tokens", "256", "--quiet"]
    options += ["--set", "context_tokens=256", "--set", "decode.backend=eager", "--set", "gate.enabled=false"]
    write = ["write", "--premise", "A storm at sea.", "--chunks", "4"]
    translate = ["translate", str(book), "--from", "de", "--to", "en", "--attempts", "1"]
    written: list[Path] = []
    for command, statuses in ((write, {0}), (translate, {0, 3})):  # 3: a paragraph fails a check
        if (status := templora([*command, *options])) not in statuses:
            raise subprocess.CalledProcessError(status, command)
        written += set((home / "sessions").iterdir()) - set(written)
    for number in range(2, sessions):
        copy_session(written[number % 2], f"copy-{number:05}")
    return written[0].name, written[1].name


def copy_session(session: Path, name: str) -> None:
    """Copy a session under another id."""
    other = session.with_name(name)
    shutil.copytree(session, other)
    manifest = other / "session.json"
    values = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps({**values, "id": name}, indent=2, ensure_ascii=False), "utf-8")
