"""The cost of a chunk at the end of a book against its beginning."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.command import TEMPLORA, environment, follow_chunks
from benchmarks.machine import machine


def flat(
    chunks: int = 42,
    repeats: int = 1,
    model: Annotated[str, typer.Option(help="Default: a tiny random model.")] = "",
    chunk_tokens: int = 64,
    context_tokens: int = 128,
) -> None:
    """Compare time, memory and step size on disk at the end of a book with those at its beginning."""
    from benchmarks.tiny_model import save_tiny_model

    ratios: dict[str, list[float]] = {"time": [], "resident memory": [], "size of a step": []}
    with tempfile.TemporaryDirectory() as folder:
        name = model or str(save_tiny_model(Path(folder) / "model"))
        # A chunk that the gate rejects is written twice.
        options = ["--model", name, "--chunks", str(chunks), "--set", "gate.enabled=false"]
        options += ["--chunk-tokens", str(chunk_tokens), "--context-tokens", str(context_tokens)]
        command = [*TEMPLORA, "write", "--json", "--premise", "A storm at sea.", *options]
        for _ in range(repeats):
            events, memory = follow_chunks(command, Path(folder) / "home")
            values = {
                "time": [sum(event["seconds"].values()) for event in events],
                "resident memory": memory,
                "size of a step": [event["step_bytes"] for event in events],
            }
            for quantity, series in values.items():
                ratios[quantity].append(median(series[-5:]) / median(series[2:7]))
    settings = f"chunk {chunk_tokens}, context {context_tokens}, {chunks} chunks, {repeats} runs"
    print(f"# {machine()}, {model or 'tiny model'}, {settings}")
    print("median of the last five chunks / median of chunks 3 to 7")
    for quantity, of_runs in ratios.items():
        print(f"{quantity}: {median(of_runs):.3f} (runs: {', '.join(f'{ratio:.3f}' for ratio in of_runs)})")


def translation(paragraphs: int = 1000) -> None:
    """Compare time, memory and step size at the end of a long translation with its beginning (tiny model)."""
    from benchmarks.tiny_model import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "model")
        book = Path(folder) / "book.txt"
        book.write_text(
            "".join(f"Der Turm Nummer {n} steht am Meer.\n\n" for n in range(paragraphs)), "utf-8"
        )
        options = ["--model", str(model), "--from", "de", "--to", "en", "--attempts", "1"]
        options += ["--chunk-tokens", "512", "--set", "context_tokens=256", "--set", "gate.enabled=false"]
        home = Path(folder) / "home"
        session = open_session([*TEMPLORA, "translate", str(book), *options, "--json"], home)
        command = [sys.executable, "-m", "benchmarks.unchecked", session]
        events, memory = follow_chunks(command, home)
    done = [event["done"] for event in events]
    seconds = [
        sum(event["seconds"].values()) / (now - before)
        for event, now, before in zip(events, done, [0, *done], strict=False)
    ]
    sizes = [event["step_bytes"] for event in events]
    ends = slice(2, 7), slice(-6, -1)
    learnt = sum(bool(event["train_losses"]) for event in events)
    print(f"# {machine()}, tiny model, chunk 512")
    print(f"{done[-1]} paragraphs in {len(events)} chunks, {learnt} of them learnt")
    for name, values in (("seconds per paragraph", seconds), ("memory", memory), ("size of a step", sizes)):
        first, last = (median(values[end]) for end in ends)
        print(f"{name}, five chunks at the end / chunks 3 to 7: {last / first:.3f}")


def open_session(command: list[str], home: Path) -> str:
    """Run a templora command, and stop it before its first chunk. Returns the id of its session."""
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if (event := json.loads(line))["event"] == "session_opened":
                process.terminate()  # like Ctrl-C, which background jobs of a shell ignore
                return str(event["session"])
    raise subprocess.CalledProcessError(process.returncode, command)
