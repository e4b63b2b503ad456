"""The cost of one chunk: templora against the paper's public code, on the same model, prompts and machine.

Each side runs in its own process, so that each has its own peak of memory. The sides make their chunks in
turns, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Optional

import typer

from benchmarks.sides import SIDES, begin, find_model, one_chunk, rates, token_ids
from benchmarks.subject import Checkpointing, ChunkCost, Device, Subject, Synthetic
from templora_cli.errors import TemploraError

Start = Callable[[], Executor]
"""Starts a process that runs one task after another."""
Rates = Callable[[Device], dict[str, Any]]
"""Measures the machine, as `sides.rates` does."""

PHASES = ("prompt", "decode", "score", "train", "commit")
WARM_UP_TOKENS = 16
"""The length of a first chunk that is not measured: it pays for one-time work such as compiling."""
RATIOS = {
    # property of a cost: title in the table, and whether a higher value is better
    "total": ("whole chunk", False),
    "tokens_per_second": ("decoding", True),
    "train_pass": ("a training pass", False),
    "train": ("training", False),
    "peak_bytes": ("peak memory", False),
}
COLUMNS = ("whole chunk, s", "range", "tokens/s", "of bandwidth", "training, of arithmetic", "peak, GB")


@dataclass
class Measured:
    """The measured chunks of a side, and the error that ended it early."""

    costs: list[ChunkCost] = field(default_factory=list)
    error: str | None = None

    def values(self, name: str) -> list[float]:
        """One property of all costs, without those that are None."""
        return [value for cost in self.costs if (value := getattr(cost, name)) is not None]


def default_sides() -> list[str]:
    """The sides that are measured if none is named."""
    return [name for name in SIDES if name not in ("live", "eager")]


def worker_process() -> ProcessPoolExecutor:
    """One process for several tasks; spawned, so that it inherits no memory."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def measure(
    subject: Subject, ids: list[int], names: Sequence[str], rounds: int, start: Start = worker_process
) -> dict[str, Measured]:
    """Measure `rounds` chunks of each side, in turns, after a warm-up. A side ends with its first error."""
    context, size = subject.context_tokens, subject.chunk_tokens
    measured = {name: Measured() for name in names}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(start()) for name in names}
        for round_ in range(-1, rounds):
            offset = max(0, round_) * size
            prompt, text = ids[offset : offset + context], ids[offset + context :][:size]
            for name in [name for name, side in measured.items() if side.error is None]:
                typer.echo(f"{name}: {f'chunk {round_ + 1}' if round_ >= 0 else 'loading'}", err=True)
                try:
                    if round_ < 0:
                        processes[name].submit(begin, name, subject).result()
                        processes[name].submit(one_chunk, name, prompt, text[:WARM_UP_TOKENS]).result()
                    else:
                        cost = processes[name].submit(one_chunk, name, prompt, text).result()
                        measured[name].costs.append(cost)
                except Exception as error:  # such as out of memory: the other sides continue
                    measured[name].error = f"{type(error).__name__}: {error}"
                    processes[name].shutdown()
    return measured


def compare(
    subject: Subject,
    model: str,
    names: Sequence[str],
    rounds: int,
    book: Path | None = None,
    *,
    start: Start = worker_process,
    measure_machine: Rates = rates,
) -> dict[str, Any]:
    """Measure the sides. Returns the content of `--json`: settings, machine, and the report of each side.

    The folder of `subject` becomes the folder of `model`, unless it is synthetic. Raises typer.BadParameter
    for an unknown side or model, and for a book that does not fit.
    """
    if unknown := set(names) - SIDES.keys():
        raise typer.BadParameter(f"unknown side {', '.join(sorted(unknown))}; choose from {', '.join(SIDES)}")
    if subject.synthetic and book:
        raise typer.BadParameter("a synthetic model has no tokenizer, so it cannot be combined with --book")
    with start() as helper:
        count = subject.context_tokens + rounds * subject.chunk_tokens
        subject, ids = model_and_tokens(helper, subject, model, book, count)
        before = helper.submit(measure_machine, subject.device).result()
        measured = measure(subject, ids, names, rounds, start)
        after = helper.submit(measure_machine, subject.device).result()
    # On a machine with other load, the better of two measurements is nearer to the bound.
    machine = {**after, **{key: max(before[key], after[key]) for key in ("read_bandwidth", "product_rate")}}
    settings = {
        "model": f"synthetic {subject.synthetic}" if subject.synthetic else model,
        "chunk_tokens": subject.chunk_tokens,
        "context_tokens": subject.context_tokens,
        "rounds": rounds,
        "checkpointing": subject.checkpointing,
        "prompts": "random tokens" if book is None else book.name,
    }
    return {"settings": settings, "machine": machine, "sides": report_of(measured, machine)}


def model_and_tokens(
    helper: Executor, subject: Subject, model: str, book: Path | None, count: int
) -> tuple[Subject, list[int]]:
    """The subject with the folder of its model, and `count` tokens of text. `helper` is a worker process."""
    try:
        if not subject.synthetic:
            subject = replace(subject, folder=helper.submit(find_model, model).result())
        ids = helper.submit(token_ids, subject.folder, subject.synthetic, book, count).result()
    except TemploraError as error:
        raise typer.BadParameter(f"{error.message} ({error.hint})") from None
    if len(ids) < count:
        raise typer.BadParameter(f"{book} has {len(ids):,} tokens, but {count:,} are needed")
    return subject, ids


def report_of(measured: dict[str, Measured], machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The report of each side: its costs, their medians, and ratios to the first side."""
    first = next(iter(measured.values()))
    report = {}
    for name, side in measured.items():
        figures = {**medians(side, machine), "ratios": ratios(side, first)} if side.costs else {}
        report[name] = {"error": side.error, **figures, "costs": [asdict(cost) for cost in side.costs]}
    return report


def medians(side: Measured, machine: dict[str, Any]) -> dict[str, Any]:
    """Medians over the chunks of a side, the range of the totals, and shares of the machine's bounds."""
    speeds, totals = side.values("tokens_per_second"), side.values("total")
    read, flops = side.costs[0].read_bytes, side.costs[0].train_flops
    return {
        "seconds": {phase: median(cost.seconds.get(phase, 0.0) for cost in side.costs) for phase in PHASES},
        "total": median(totals) if totals else None,
        "total_range": [min(totals), max(totals)] if totals else None,
        "tokens_per_second": median(speeds) if speeds else None,
        "decode_share": median(speeds) * read / machine["read_bandwidth"] if speeds else None,
        "train_share": flops / median(side.values("train")) / machine["product_rate"],
        "peak_bytes": max(side.values("peak_bytes")),
    }


def ratios(side: Measured, first: Measured) -> dict[str, dict[str, float]]:
    """How many times better than the first side: the ratio of the medians, and its range over the rounds."""
    result = {}
    for name, (_, higher_is_better) in RATIOS.items():
        ours, theirs = side.values(name), first.values(name)
        if ours and theirs:
            ours, theirs = (ours, theirs) if higher_is_better else (theirs, ours)
            rounds = [a / b for a, b in zip(ours, theirs, strict=False)]
            average = max if name == "peak_bytes" else median  # a peak covers all rounds so far
            result[name] = {"ratio": average(ours) / average(theirs), "min": min(rounds), "max": max(rounds)}
    return result


def show(settings: dict[str, Any], machine: dict[str, Any], sides: dict[str, dict[str, Any]]) -> None:
    """Print the report as two tables."""
    print("# {machine}, {device}, torch {torch}, {threads} threads".format(**machine))
    bandwidth, rate = machine["read_bandwidth"] / 1e9, machine["product_rate"] / 1e9
    print(f"# reads {bandwidth:.1f} GB/s, multiplies at {rate:.0f} GFLOP/s")
    print("# " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items()) + "\n")
    print_row("side", *(f"{phase}, s" for phase in PHASES), *COLUMNS)
    print_row(*["---"] * (1 + len(PHASES) + len(COLUMNS)))
    for name, side in sides.items():
        if side["costs"]:
            print_row(name, *cells_of(side))
    first = next(iter(sides))
    print(f"\nHow many times better than {first}: ratio of the medians (range over the rounds)\n")
    print_row("side", *(title for title, _ in RATIOS.values()))
    print_row(*["---"] * (1 + len(RATIOS)))
    for name, side in sides.items():
        if side["costs"] and name != first:
            figures = (side["ratios"].get(key) for key in RATIOS)
            print_row(name, *(f and "{ratio:.2f} ({min:.2f} to {max:.2f})".format(**f) for f in figures))
    for name, side in sides.items():
        if side["error"]:
            print(f"\n{name} ended early: {side['error']}")


def cells_of(side: dict[str, Any]) -> Iterable[str]:
    """The figures of a side in the order of `PHASES` and `COLUMNS`; "" for figures that it does not have."""
    yield from (f"{side['seconds'][phase]:.2f}" for phase in PHASES)
    if side["total"] is None:
        yield from [""] * 4
    else:
        yield f"{side['total']:.1f}"
        yield "{:.1f} to {:.1f}".format(*side["total_range"])
        yield f"{side['tokens_per_second']:.1f}"
        yield f"{side['decode_share']:.0%}"
    yield f"{side['train_share']:.0%}"
    yield f"{side['peak_bytes'] / 1e9:.2f}"


def print_row(*cells: str | None) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cell or '' for cell in cells)} |")


def chunk(
    device: Device = "cpu",
    model: str = "smollm2-135m",
    synthetic: Annotated[
        Optional[Synthetic], typer.Option(help="Random weights in the shape of a model of this size.")
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(min=8)] = 1024,
    context_tokens: Annotated[int, typer.Option(min=2, help="Length of the whole prompt.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Measured chunks of each side.")] = 3,
    side: Annotated[
        Optional[list[str]],
        typer.Option(
            help="; ".join(f"{name}: {meaning}" for name, meaning in SIDES.items())
            + ". Default: all but live and eager. Ratios are to the first side."
        ),
    ] = None,
    checkpointing: Annotated[Checkpointing, typer.Option(help="Gradient checkpointing in templora.")] = "off",
    book: Annotated[
        Optional[Path], typer.Option(help="A text for the prompts. Default: random tokens.")
    ] = None,
    json_file: Annotated[Optional[Path], typer.Option("--json", help="File for the raw figures.")] = None,
) -> None:
    """Measure a chunk of templora and of the paper's public code, in turns, against the machine's bounds."""
    names = list(dict.fromkeys(side or default_sides()))
    subject = Subject(device, None, synthetic, context_tokens, chunk_tokens, checkpointing)
    raw = compare(subject, model, names, rounds, book)
    if json_file is not None:
        json_file.write_text(json.dumps(raw, indent=1) + "\n", "utf-8")
    show(**raw)
