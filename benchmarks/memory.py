"""The memory of a whole run, and the plan for it. POSIX only (peak memory from getrusage)."""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.command import TEMPLORA, environment, usage_of
from benchmarks.machine import machine, peak_resident


def write_events(*arguments: str, home: Path) -> list[dict[str, Any]]:
    """Run `templora write --json`. Returns its events."""
    command = [*TEMPLORA, "write", "--json", "--premise", "A storm at sea.", *arguments]
    done = subprocess.run(command, env=environment(home), stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def committed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of committed chunks."""
    return [event for event in events if event["event"] == "chunk_committed"]


def memory(
    model: str = "smollm2-135m",
    chunk_tokens: int = 1024,
    context_tokens: int = 1024,
    chunks: Annotated[int, typer.Option(help="Number of chunks; the window is full from the second on.")] = 2,
) -> None:
    """Measure the peak resident memory of a whole run: load, decode, score, train, commit."""
    with tempfile.TemporaryDirectory() as home:
        events = write_events(
            *("--model", model, "--chunks", str(chunks)),
            *("--chunk-tokens", str(chunk_tokens), "--context-tokens", str(context_tokens)),
            home=Path(home),
        )
    peak = peak_resident(resource.RUSAGE_CHILDREN)
    print(f"# {machine()}, {model}, chunk {chunk_tokens}, context {context_tokens}, {chunks} chunks")
    print(f"peak resident memory {peak / 1e9:.2f} GB")
    for event in committed(events):
        phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in event["seconds"].items())
        print(f"chunk {event['index'] + 1}: {phases} s; step {event['step_bytes'] / 1e6:.0f} MB")


def plan(
    model: str = "smollm2-135m",
    sizes: Annotated[list[int], typer.Option("--size", help="Chunk and context size.")] = [256, 512, 1024],  # noqa: B006
    checkpointing: Annotated[list[str], typer.Option(help="on or off.")] = ["on", "off"],  # noqa: B006
    backend: Annotated[list[str], typer.Option(help="auto or eager.")] = ["auto"],  # noqa: B006
) -> None:
    """Compare the memory plan of `templora doctor` with the peak of a run.

    The run learns an opening as long as the context, then writes and learns a chunk with a full window.
    """
    print(f"# {machine()}, {model}; GB")
    print("chunk and context\tcheckpointing\tbackend\tplan\tpeak\tplan over peak")
    for size in sizes:
        for mode in checkpointing:
            for name in backend:
                planned, peak = planned_and_peak(model, size, mode, name)
                figures = f"{planned / 1e9:.2f}\t{peak / 1e9:.2f}\t{planned / peak - 1:+.1%}"
                print(f"{size}\t{mode}\t{name}\t{figures}", flush=True)


def planned_and_peak(model: str, size: int, checkpointing: str, backend: str) -> tuple[int, int]:
    """The planned bytes, and the peak resident bytes of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "config.toml"
        settings.write_text(
            f'[train]\ngradient_checkpointing = "{checkpointing}"\n[decode]\nbackend = "{backend}"\n'
            "[gate]\nenabled = false\n"  # what is written after such an opening does not matter
        )
        opening = Path(folder) / "opening.txt"
        opening.write_text("The sea was calm that day. " * (2 * size // 7), "utf-8")  # seven tokens each
        variables = environment(Path(folder), TEMPLORA_CONFIG=str(settings))
        flags = ["--model", model, "--chunk-tokens", str(size), "--context-tokens", str(size), "--json"]
        doctor = subprocess.run(
            [*TEMPLORA, "doctor", *flags], env=variables, stdout=subprocess.PIPE, text=True, check=True
        )
        command = [*TEMPLORA, "write", "--from", str(opening), "--chunks", "1", *flags]
        usage = usage_of(command, variables)
    if usage.status:
        raise subprocess.CalledProcessError(usage.status, command)
    return int(json.loads(doctor.stdout)["peak_bytes"]), usage.peak_bytes
