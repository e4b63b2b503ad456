"""What commands cost that load no model: CPU time, beside that of `--help`, in a home with many sessions."""

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
"""The command that the others are held against."""


@dataclass(frozen=True)
class Light:
    """A command that needs no model."""

    command: tuple[str, ...]
    status: int = 0
    """What it ends with."""


def startup(
    sessions: Annotated[int, typer.Option(min=2, help="In the home, half of them translations.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Of all commands, after one that is not counted.")] = 7,
    limit: Annotated[float, typer.Option(help="Times the CPU time of --help that a command may take.")] = 2.0,
) -> None:
    """CPU time of commands that load no model, in turns. Exit status 1 where one takes too much."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # With the user's own settings and models the figures would be theirs.
        user = {"TEMPLORA_CONFIG": str(home / "config.toml"), "TEMPLORA_CACHE": str(home / "cache")}
        under = environment(home, **user, HF_HUB_CACHE=str(home / "hub"))
        ids = fill(home, sessions, lambda arguments: usage_of([*TEMPLORA, *arguments], under).status)
        found = measure(light_commands(*ids), under, rounds)
    print(f"# {machine()}, {sessions} sessions, median of {rounds} rounds after a warm-up")
    judge(found, limit)


def light_commands(novel: str, translation: str) -> dict[str, Light]:
    """By the names that they are shown with. Where no id is given, the last session is meant."""

    def templora(*arguments: str, status: int = 0) -> Light:
        return Light((*TEMPLORA, *arguments), status)

    return {
        "python -c pass": Light((sys.executable, "-c", "pass")),
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
    commands: Mapping[str, Light], environment: Mapping[str, str], rounds: int
) -> dict[str, list[Usage]]:
    """What each command takes in `rounds` in which they take turns, after one that is not counted.

    Raises CalledProcessError where one does not end as it should: it did something else.
    """
    found: dict[str, list[Usage]] = {name: [] for name in commands}
    for round_ in range(rounds + 1):
        for name, light in commands.items():
            with tempfile.TemporaryDirectory() as folder:  # for the files that they write
                usage = usage_of(light.command, environment, Path(folder), silent=True)
            if usage.status != light.status:
                raise subprocess.CalledProcessError(usage.status, light.command)
            if round_:
                found[name].append(usage)
    return found


def times_help(name: str, found: Mapping[str, Sequence[Usage]]) -> float:
    """The CPU time of a command over that of `--help`."""
    ours, theirs = (median(usage.cpu_seconds for usage in found[one]) for one in (name, HELP))
    return ours / theirs


def judge(found: Mapping[str, Sequence[Usage]], limit: float) -> None:
    """Print a row for each command. Raises typer.Exit where one takes more than `limit` times `--help`."""
    print("| command | CPU, s | range | on the clock, s | times --help |\n| --- | --- | --- | --- | --- |")
    for name, usages in found.items():
        cpu = [usage.cpu_seconds for usage in usages]
        figures = f"{median(cpu):.3f} | {min(cpu):.3f} to {max(cpu):.3f}"
        figures += f" | {median(usage.seconds for usage in usages):.3f} | {times_help(name, found):.2f}"
        print(f"| {name} | {figures} |")
    slow = [name for name in found if times_help(name, found) > limit]
    for name in slow:
        times = times_help(name, found)
        typer.echo(f"{name} takes {times:.2f} times the CPU time of {HELP}; the limit is {limit:g}", err=True)
    if slow:
        raise typer.Exit(1)


def fill(home: Path, sessions: int, templora: Callable[[list[str]], int]) -> tuple[str, str]:
    """Put so many sessions of a few chunks each into a new home, and a model into its cache of the hub.

    Returns the ids of a novel and of a translation. These two are made by `templora` (from arguments to an
    exit status) with a tiny model, without learning, so that they are small; the others are copies of them
    in turns.
    """
    from benchmarks.tiny_model import save_tiny_model

    cached = home / "hub" / "models--benchmarks--tiny"
    model = save_tiny_model(cached / "snapshots" / "0")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0")
    book = home / "book.txt"
    book.write_text("".join(f"Der Turm Nummer {n} steht am Meer.\n\n" for n in range(12)), "utf-8")
    how = ["--model", str(model), "--no-learn", "--chunk-tokens", "256", "--quiet"]
    how += ["--set", "context_tokens=256", "--set", "decode.backend=eager", "--set", "gate.enabled=false"]
    write = ["write", "--premise", "A storm at sea.", "--chunks", "4"]
    translate = ["translate", str(book), "--from", "de", "--to", "en", "--attempts", "1"]
    made: list[Path] = []
    for command, statuses in ((write, {0}), (translate, {0, 3})):  # 3: a paragraph fails a check
        if (status := templora([*command, *how])) not in statuses:
            raise subprocess.CalledProcessError(status, command)
        made += set((home / "sessions").iterdir()) - set(made)
    for number in range(2, sessions):
        copy(made[number % 2], f"copy-{number:05}")
    return made[0].name, made[1].name


def copy(session: Path, name: str) -> None:
    """The same session under another id."""
    other = session.with_name(name)
    shutil.copytree(session, other)
    manifest = other / "session.json"
    values = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps({**values, "id": name}, indent=2, ensure_ascii=False), "utf-8")
