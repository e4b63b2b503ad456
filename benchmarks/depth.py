"""What a chunk costs at the end of a book against its beginning."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.command import TEMPLORA, environment, followed
from benchmarks.machine import machine


def flat(
    chunks: int = 42,
    repeats: int = 1,
    model: Annotated[str, typer.Option(help="A tiny random one without.")] = "",
    chunk_tokens: int = 64,
    context_tokens: int = 128,
) -> None:
    """What a chunk costs at the end of a book against its beginning, in time, memory and size of a step."""
    from benchmarks.tiny_model import save_tiny_model

    found: dict[str, list[float]] = {"time": [], "resident memory": [], "size of a step": []}
    with tempfile.TemporaryDirectory() as folder:
        name = model or str(save_tiny_model(Path(folder) / "model"))
        # A chunk that the gate refuses is written twice.
        how = ["--model", name, "--chunks", str(chunks), "--set", "gate.enabled=false"]
        how += ["--chunk-tokens", str(chunk_tokens), "--context-tokens", str(context_tokens)]
        command = [*TEMPLORA, "write", "--json", "--premise", "A storm at sea.", *how]
        for _ in range(repeats):
            events, memory = followed(command, Path(folder) / "home")
            values = {
                "time": [sum(event["seconds"].values()) for event in events],
                "resident memory": memory,
                "size of a step": [event["step_bytes"] for event in events],
            }
            for what, series in values.items():
                found[what].append(median(series[-5:]) / median(series[2:7]))
    shown = f"chunk {chunk_tokens}, context {context_tokens}, {chunks} chunks, {repeats} runs"
    print(f"# {machine()}, {model or 'tiny model'}, {shown}")
    print("the last five chunks over the 3rd to 7th")
    for what, ratios in found.items():
        print(f"{what}: {median(ratios):.3f} (runs: {', '.join(f'{ratio:.3f}' for ratio in ratios)})")


def translation(paragraphs: int = 1000) -> None:
    """Memory, time and size of a step at the end of a long translation against its beginning (tiny model)."""
    from benchmarks.tiny_model import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "model")
        book = Path(folder) / "book.txt"
        book.write_text(
            "".join(f"Der Turm Nummer {n} steht am Meer.\n\n" for n in range(paragraphs)), "utf-8"
        )
        how = ["--model", str(model), "--from", "de", "--to", "en", "--attempts", "1"]
        how += ["--chunk-tokens", "512", "--set", "context_tokens=256", "--set", "gate.enabled=false"]
        home = Path(folder) / "home"
        session = begun([*TEMPLORA, "translate", str(book), *how, "--json"], home)
        command = [sys.executable, "-m", "benchmarks.unchecked", session]
        events, memory = followed(command, home)
    done = [event["done"] for event in events]
    paces = [
        sum(event["seconds"].values()) / (now - before)
        for event, now, before in zip(events, done, [0, *done], strict=False)
    ]
    sizes = [event["step_bytes"] for event in events]
    ends = slice(2, 7), slice(-6, -1)
    learnt = sum(bool(event["train_losses"]) for event in events)
    print(f"# {machine()}, tiny model, chunk 512")
    print(f"{done[-1]} paragraphs in {len(events)} chunks, {learnt} of them learnt")
    for name, values in (("seconds a paragraph", paces), ("memory", memory), ("size of a step", sizes)):
        first, last = (median(values[end]) for end in ends)
        print(f"{name}, five chunks at the end over the 3rd to 7th: {last / first:.3f}")


def begun(command: list[str], home: Path) -> str:
    """The session that a command of templora opens; it is stopped before its first chunk."""
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if (event := json.loads(line))["event"] == "session_opened":
                process.terminate()  # as Ctrl-C, which background jobs of a shell ignore
                return str(event["session"])
    raise subprocess.CalledProcessError(process.returncode, command)
