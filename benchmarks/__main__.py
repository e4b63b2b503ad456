"""What a chunk costs, alone and beside the paper's code, start-up time, whether a long book stays as cheap as
a short one, and how much people repeat themselves.

    python -m benchmarks chunk [--device cuda] [--model smollm2-135m] [--synthetic 7b] [--book BOOK]
    python -m benchmarks startup
    python -m benchmarks memory [--model smollm2-135m]
    python -m benchmarks plan [--model smollm2-135m]
    python -m benchmarks flat [--model smollm2-135m] [--chunks 42]
    python -m benchmarks translation [--paragraphs 1000]
    python -m benchmarks decode BOOK [--model smollm2-135m]
    python -m benchmarks repetition BOOK... [--model smollm2-135m]

Prints what it measured; judges nothing. POSIX only (peak memory from getrusage).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import psutil
import typer

from benchmarks.chunk import chunk
from benchmarks.machine import RESIDENT_UNIT, machine, peak_resident

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)
app.command()(chunk)

TEMPLORA = [sys.executable, "-m", "templora_cli"]


def write_events(*arguments: str, home: Path) -> list[dict[str, Any]]:
    """Run `templora write --json` and return its events."""
    environment = {**os.environ, "TEMPLORA_HOME": str(home)}
    command = [*TEMPLORA, "write", "--json", "--premise", "A storm at sea.", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def committed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "chunk_committed"]


@app.command()
def startup(runs: int = 15) -> None:
    """Wall-clock seconds of `templora --help`, and of an empty Python for comparison."""
    seconds: dict[str, list[float]] = {"templora --help": [], "python -c pass": []}
    commands = {"templora --help": [*TEMPLORA, "--help"], "python -c pass": [sys.executable, "-c", "pass"]}
    for _ in range(runs + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - began)
    print(f"# {machine()}, median of {runs} after one warm-up")
    for name, values in seconds.items():
        print(f"{name:16} {median(values[1:]):.3f} s (from {min(values[1:]):.3f} to {max(values[1:]):.3f})")


@app.command()
def memory(
    model: str = "smollm2-135m",
    chunk_tokens: int = 1024,
    context_tokens: int = 1024,
    chunks: Annotated[int, typer.Option(help="The window is full from the second chunk on.")] = 2,
) -> None:
    """Peak resident memory of a whole run: load, decode, score, train, commit."""
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


@app.command()
def plan(
    model: str = "smollm2-135m",
    sizes: Annotated[list[int], typer.Option("--size", help="Chunk and context.")] = [256, 512, 1024],  # noqa: B006
    checkpointing: Annotated[list[str], typer.Option(help="on, off.")] = ["on", "off"],  # noqa: B006
    backend: Annotated[list[str], typer.Option(help="auto, eager.")] = ["auto"],  # noqa: B006
) -> None:
    """What `templora doctor` says that a book will take, beside the peak of one that is written.

    An opening as long as the context is learnt, then a chunk is written and learnt with a full window.
    """
    print(f"# {machine()}, {model}; GB")
    print("chunk and context\tcheckpointing\tbackend\tplan\tpeak\tplan over peak")
    for size in sizes:
        for how in checkpointing:
            for name in backend:
                planned, peak = planned_and_peak(model, size, how, name)
                shown = f"{planned / 1e9:.2f}\t{peak / 1e9:.2f}\t{planned / peak - 1:+.1%}"
                print(f"{size}\t{how}\t{name}\t{shown}", flush=True)


def planned_and_peak(model: str, size: int, checkpointing: str, backend: str) -> tuple[int, int]:
    """Bytes by the plan, and resident bytes at the peak of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "config.toml"
        settings.write_text(
            f'[train]\ngradient_checkpointing = "{checkpointing}"\n[decode]\nbackend = "{backend}"\n'
        )
        opening = Path(folder) / "opening.txt"
        opening.write_text("The sea was calm that day. " * (2 * size // 7), "utf-8")  # seven tokens each
        environment = {**os.environ, "TEMPLORA_HOME": folder, "TEMPLORA_CONFIG": str(settings)}
        flags = ["--model", model, "--chunk-tokens", str(size), "--context-tokens", str(size), "--json"]
        told = subprocess.run(
            [*TEMPLORA, "doctor", *flags], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        command = [*TEMPLORA, "write", "--from", str(opening), "--chunks", "1", *flags]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return int(json.loads(told.stdout)["peak_bytes"]), usage.ru_maxrss * RESIDENT_UNIT


@app.command()
def flat(
    chunks: int = 42,
    repeats: int = 1,
    model: Annotated[str, typer.Option(help="A tiny random one without.")] = "",
    chunk_tokens: int = 64,
    context_tokens: int = 128,
) -> None:
    """What a chunk costs at the end of a book against its beginning, in time, memory and size of a step."""
    from tests.tiny import save_tiny_model

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


def followed(command: list[str], home: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The chunks that a command of templora commits, and the resident bytes of its process after each."""
    environment = {**os.environ, "TEMPLORA_HOME": str(home)}
    events: list[dict[str, Any]] = []
    memory: list[int] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            if (event := json.loads(line))["event"] == "chunk_committed":
                events.append(event)
                memory.append(child.memory_info().rss)
    return events, memory


@app.command()
def translation(paragraphs: int = 1000) -> None:
    """Memory, time and size of a step at the end of a long translation against its beginning (tiny model)."""
    from tests.tiny import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "model")
        book = Path(folder) / "book.txt"
        book.write_text(
            "".join(f"Der Turm Nummer {n} steht am Meer.\n\n" for n in range(paragraphs)), "utf-8"
        )
        how = [
            "--model",
            str(model),
            "--from",
            "de",
            "--to",
            "en",
            "--chunk-tokens",
            "512",
            "--attempts",
            "1",
        ]
        # The tiny model says nothing that passes a check, and what fails is not learnt.
        script = "from templora_cli.tasks import translation; translation.flaws_of = lambda *_: []\n"
        script += "from templora_cli.cli import main; main()"
        command = [sys.executable, "-c", script, "translate", str(book), *how, "--json"]
        command += ["--set", "context_tokens=256", "--set", "gate.enabled=false"]
        events, memory = followed(command, Path(folder) / "home")
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


@app.command()
def decode(
    book: Path, model: str = "smollm2-135m", context_tokens: int = 1024, tokens: int = 256, rounds: int = 3
) -> None:
    """Tokens a second of the int8 and the eager backend, in turns, and how likely the book is to each."""
    import torch

    from templora_cli.config import ModelConfig, TrainConfig
    from templora_cli.documents.utf8_text import read_text
    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.engine.models import catalog, loading

    loaded = loading.load(catalog.resolve(model, print), ModelConfig(), TrainConfig(), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # an adapter that has learnt: as it begins, B is zero
        for name, parameter in loaded.adapter.items():
            if "lora_B" in name:
                parameter.copy_(0.002 * torch.randn(parameter.shape, generator=generator))
    ids = loaded.tokenizer.encode(read_text(book)[:40_000], add_special_tokens=False)
    paces: dict[str, list[float]] = {}
    nlls: dict[str, list[float]] = {}
    for round_ in range(rounds):
        prompt = ids[round_ * tokens : round_ * tokens + context_tokens]
        said = ids[round_ * tokens + context_tokens :][:tokens]
        for name in ("int8", "eager"):
            forced = Forced(said)
            stream = backend_for(loaded, name).decode(
                prompt, sampler=forced, max_tokens=tokens, stop=lambda _: False
            )
            next(stream)  # the prompt
            began = time.perf_counter()
            for _ in stream:
                pass
            paces.setdefault(name, []).append((tokens - 1) / (time.perf_counter() - began))
            nlls.setdefault(name, []).extend(forced.nlls)
    print(f"# {machine()}, {model}, {torch.get_num_threads()} threads, context {context_tokens}")
    ratio = median(fast / slow for fast, slow in zip(paces["int8"], paces["eager"], strict=True))
    for name, values in paces.items():
        print(
            f"{name:6} {median(values):5.1f} tokens/s, NLL {sum(nlls[name]) / len(nlls[name]):.4f} nats/token"
        )
    differences = [a - b for a, b in zip(nlls["int8"], nlls["eager"], strict=True)]
    mean = sum(differences) / len(differences)
    error = (sum((d - mean) ** 2 for d in differences) / len(differences) ** 2) ** 0.5
    print(f"int8 over eager: {ratio:.2f} times the tokens, NLL {mean:+.4f} (standard error {error:.4f})")


class Forced:
    """A sampler that says what it is told to, and keeps how likely that was."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = iter(tokens)
        self.nlls: list[float] = []

    def draw(self, ids: Any, logits: Any) -> int:
        """See `Sampler.draw`."""
        token = next(self.tokens)
        self.nlls.append(-logits.log_softmax(-1)[token].item())
        return token


@app.command()
def repetition(books: list[Path], model: str = "smollm2-135m") -> None:
    """Share of 4-grams that a chunk of a person's text repeats from itself; the gate must let these pass."""
    from transformers import AutoTokenizer

    from templora_cli.documents.utf8_text import read_text
    from templora_cli.engine.models import catalog
    from templora_cli.gate import repetition

    tokenizer = AutoTokenizer.from_pretrained(catalog.resolve(model, print))
    print(f"# {model}\nbook\tchunk\tchunks\tmedian\t99 %\tmost")
    for book in books:
        ids = tokenizer.encode(read_text(book), add_special_tokens=False)
        for size in (256, 512, 1024, 2048):
            chunks = [ids[start : start + size] for start in range(0, len(ids) - size, size)]
            shares = sorted((repetition([], chunk), place) for place, chunk in enumerate(chunks))
            most, place = shares[-1]
            figures = f"{median(share for share, _ in shares):.3f}\t{shares[int(len(shares) * 0.99)][0]:.3f}"
            print(f"{book.name}\t{size}\t{len(chunks)}\t{figures}\t{most:.3f}")
            print(f"  the most: {tokenizer.decode(chunks[place])[:100]!r}")


if __name__ == "__main__":
    app()
