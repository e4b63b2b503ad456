"""What one chunk costs: templora against the paper's public code, on the same model, prompts and machine.

Each side is a process of its own, so that each has its own peak of memory, and they make their chunks in
turns, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Optional

import typer

from benchmarks.sides import SIDES, SYNTHETIC, Cost, Subject, begin, find_model, one_chunk, rates, token_ids
from templora_cli.errors import TemploraError

PHASES = ("prompt", "decode", "score", "train", "commit")
WARM_UP_TOKENS = 16
"""Of a first chunk that is not counted: it pays for what is made once."""
RATIOS = {
    # property of a cost: how the table calls it, and whether more of it is better
    "total": ("whole chunk", False),
    "tokens_per_second": ("decoding", True),
    "train_pass": ("a training pass", False),
    "train": ("training", False),
    "peak_bytes": ("peak memory", False),
}

COLUMNS = ("tokens/s", "of bandwidth", "training, of arithmetic", "peak, GB")


@dataclass
class Measured:
    """The chunks of a side, and what ended it before its time."""

    costs: list[Cost] = field(default_factory=list)
    error: str | None = None

    def values(self, name: str) -> list[float]:
        """One property of all costs; empty where it has none."""
        return [value for cost in self.costs if (value := getattr(cost, name)) is not None]


def process() -> ProcessPoolExecutor:
    """A process that is kept; spawned, so that it inherits no memory."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def measure(subject: Subject, ids: list[int], names: list[str], rounds: int) -> dict[str, Measured]:
    """`rounds` chunks a side, in turns, after one that is not counted. A side that fails is left out."""
    context, size = subject.context_tokens, subject.chunk_tokens
    measured = {name: Measured() for name in names}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(process()) for name in names}
        for round_ in range(-1, rounds):
            start = max(0, round_) * size
            prompt, given = ids[start : start + context], ids[start + context :][:size]
            for name in [name for name, side in measured.items() if side.error is None]:
                typer.echo(f"{name}: {f'chunk {round_ + 1}' if round_ >= 0 else 'loading'}", err=True)
                try:
                    if round_ < 0:
                        processes[name].submit(begin, name, subject).result()
                        processes[name].submit(one_chunk, prompt, given[:WARM_UP_TOKENS]).result()
                    else:
                        cost = processes[name].submit(one_chunk, prompt, given).result()
                        measured[name].costs.append(cost)
                except Exception as error:  # out of memory, or killed for it: the others go on
                    measured[name].error = f"{type(error).__name__}: {error}"
                    processes[name].shutdown()
    return measured


def report_of(measured: dict[str, Measured], machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each side its costs as they are, medians of them, and ratios to the first side."""
    first = next(iter(measured.values()))
    report = {}
    for name, side in measured.items():
        figures = {**medians(side, machine), "ratios": ratios(side, first)} if side.costs else {}
        report[name] = {"error": side.error, **figures, "costs": [asdict(cost) for cost in side.costs]}
    return report


def medians(side: Measured, machine: dict[str, Any]) -> dict[str, Any]:
    """Of the chunks of a side, with the range of its totals and its shares of the machine's bounds."""
    pace, totals = side.values("tokens_per_second"), side.values("total")
    read, flops = side.costs[0].read_bytes, side.costs[0].train_flops
    return {
        "seconds": {phase: median(cost.seconds.get(phase, 0.0) for cost in side.costs) for phase in PHASES},
        "total": median(totals) if totals else None,
        "total_range": [min(totals), max(totals)] if totals else None,
        "tokens_per_second": median(pace) if pace else None,
        "decode_share": median(pace) * read / machine["read_bandwidth"] if pace else None,
        "train_share": flops / median(side.values("train")) / machine["product_rate"],
        "peak_bytes": max(side.values("peak_bytes")),
    }


def ratios(side: Measured, first: Measured) -> dict[str, dict[str, float]]:
    """How many times better than the first side: by the medians, and the range over the rounds."""
    found = {}
    for name, (_, more) in RATIOS.items():
        ours, theirs = side.values(name), first.values(name)
        if ours and theirs:
            ours, theirs = (ours, theirs) if more else (theirs, ours)
            rounds = [a / b for a, b in zip(ours, theirs, strict=False)]
            found[name] = {"median": median(ours) / median(theirs), "min": min(rounds), "max": max(rounds)}
    return found


def show(settings: dict[str, Any], machine: dict[str, Any], sides: dict[str, dict[str, Any]]) -> None:
    """Print the report as two tables."""
    print(
        f"# {machine['machine']}, {machine['device']}, torch {machine['torch']}, {machine['threads']} threads"
    )
    print(
        f"# reads {machine['read_bandwidth'] / 1e9:.1f} GB/s, multiplies {machine['product_rate'] / 1e9:.0f} GFLOP/s"
    )
    print("# " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items()) + "\n")
    whole = {name: side for name, side in sides.items() if side["costs"]}
    row("side", *(f"{phase}, s" for phase in PHASES), "whole chunk, s", "range", *COLUMNS)
    row(*["---"] * (len(PHASES) + len(COLUMNS) + 3))
    for name, side in whole.items():
        seconds = (f"{side['seconds'][phase]:.2f}" for phase in PHASES)
        total = (
            (f"{side['total']:.1f}", "{:.1f} to {:.1f}".format(*side["total_range"]))
            if side["total"]
            else ("", "")
        )
        pace = (
            (f"{side['tokens_per_second']:.1f}", f"{side['decode_share']:.0%}") if side["total"] else ("", "")
        )
        row(name, *seconds, *total, *pace, f"{side['train_share']:.0%}", f"{side['peak_bytes'] / 1e9:.2f}")
    print(f"\nTimes better than {next(iter(sides))}: by the medians, and the range over the rounds\n")
    row("side", *(title for title, _ in RATIOS.values()))
    row(*["---"] * (len(RATIOS) + 1))
    for name, side in list(whole.items())[1:]:
        found = (side["ratios"].get(key) for key in RATIOS)
        row(name, *("{median:.2f} ({min:.2f} to {max:.2f})".format(**one) if one else "" for one in found))
    for name, side in sides.items():
        if side["error"]:
            print(f"\n{name} ended early: {side['error']}")


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def chunk(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    model: str = "smollm2-135m",
    synthetic: Annotated[
        Optional[str], typer.Option(help="Random weights in the shape of a model: 135m, 1b, 7b or 14b.")
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(min=8)] = 1024,
    context_tokens: Annotated[int, typer.Option(min=2, help="Of the whole prompt.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Chunks of each side that count.")] = 3,
    side: Annotated[list[str], typer.Option(help=f"{', '.join(SIDES)}; ratios are to the first.")] = [  # noqa: B006
        "reference",
        "default",
        "paper",
        "given",
    ],
    book: Annotated[
        Optional[Path], typer.Option(help="A text for the prompts; random tokens without.")
    ] = None,
    json_file: Annotated[Optional[Path], typer.Option("--json", help="File for the raw figures.")] = None,
) -> None:
    """Seconds and memory of a chunk, templora and the paper's public code in turns, against the machine's bounds."""
    if unknown := [name for name in side if name not in SIDES]:
        raise typer.BadParameter(f"no side {unknown[0]}; there are {', '.join(SIDES)}")
    if synthetic not in (None, *SYNTHETIC):
        raise typer.BadParameter(f"no synthetic {synthetic}; there are {', '.join(SYNTHETIC)}")
    if synthetic and book:
        raise typer.BadParameter("a synthetic model has no tokenizer for --book")
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"--device {device}: cpu or cuda")
    count = context_tokens + rounds * chunk_tokens
    with process() as helper:
        try:
            folder = None if synthetic else helper.submit(find_model, model).result()
            ids = helper.submit(token_ids, folder, synthetic or "", book, count).result()
        except TemploraError as error:
            raise typer.BadParameter(f"{error.message} ({error.hint})") from None
        if len(ids) < count:
            raise typer.BadParameter(f"{book} has {len(ids):,} tokens, and {count:,} are needed")
        machine = helper.submit(rates, device).result()
    subject = Subject(device, folder, synthetic or "", context_tokens, chunk_tokens)
    measured = measure(subject, ids, list(dict.fromkeys(side)), rounds)
    report = report_of(measured, machine)
    settings = {
        "model": f"synthetic {synthetic}" if synthetic else model,
        **{"device": device, "chunk_tokens": chunk_tokens, "context_tokens": context_tokens},
        **{"rounds": rounds, "prompts": "random tokens" if book is None else book.name},
    }
    if json_file is not None:
        raw = {"settings": settings, "machine": machine, "sides": report}
        json_file.write_text(json.dumps(raw, indent=1) + "\n", "utf-8")
    show(settings, machine, report)
