"""A grid of recipes for given text: what each is worth in perplexity, and what it costs to train.

    python -m benchmarks.recipes grid BOOK.txt --limit-tokens 12288 --only paper --only lr=2e-4

Each recipe reads the same chunks with the same context through the loop's own training, as `templora eval
ppl` does, but the base is scored get_or_compute for all of them. One line of JSON a recipe goes to `--out`;
`python -m benchmarks.recipes table grid.jsonl` makes one table of several files. What wins here belongs in
`templora_cli/config.py`, after a confirmation on another book.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.variants import VARIANTS, Mean, Variant
from templora_cli.commands.settings import settings_of
from templora_cli.config import Config, Layer, resolve, with_learning_rates
from templora_cli.documents.utf8_text import read_text
from templora_cli.engine.models import catalog, loading
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.events import TrainStep
from templora_cli.learning import learn_chunk
from templora_cli.prompt import fixed
from templora_cli.reading import ReadingTask, reading_tokens
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Given

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

Tokens = tuple[int, ...]


def run(
    name: str, tokens: Tokens, header: Tokens, folder: Path, sizes: tuple[int, int], extra: Iterable[str] = ()
) -> dict[str, Any]:
    """Read `tokens` under recipe `name`; the NLL of each chunk before it was learnt, and seconds spent."""
    variant = VARIANTS[name]
    config = config_of(variant.settings, sizes, extra)
    model = loading.load(folder, config.model, config.train, seed=config.seed)
    config = with_learning_rates(config, model.parameters)
    variant.prepare(model)
    state = WritingState.begin(model, config)
    if variant.optimizer is not None:
        state.optimizer = variant.optimizer(model)
    task = reading_task(tokens, header, model, config)
    nlls, seconds = _read(variant, task, model, state, config)
    return {"recipe": name, "nll": nlls, "train_seconds": seconds, "config": config.as_dict()}


def _read(
    variant: Variant, task: ReadingTask, model: loading.LanguageModel, state: WritingState, config: Config
) -> tuple[list[float], float]:
    """The NLL of each chunk, nats/token, and the seconds that were spent on learning them all."""
    mean = Mean(model, variant.average)
    # The loss of the first pass, taken before its update, is the score where both see the same.
    same = config.human.context_tokens >= config.decode.context_tokens
    told = same and config.train.dropout == 0 and not (variant.average or config.human.window_tokens)
    choose = torch.Generator().manual_seed(0)
    nlls: list[float] = []
    read: list[Given] = []
    seconds = 0.0
    recipe = variant.recipe(model)

    def learn(turn: Given) -> list[TrainStep]:
        events = learn_chunk(turn, Chunk(turn.tokens, ""), model, state, config, recipe=recipe)
        return [event for event in events if isinstance(event, TrainStep)]

    while (turn := task.next_turn(state.tokens)) is not None:
        if not told:
            with torch.no_grad(), mean:
                nlls.append(chunk_nll(model.module, turn.prompt.tokens, turn.tokens).mean().item())
        began = time.perf_counter()
        steps = learn(turn)
        if told:
            nlls.append(steps[0].loss if steps else math.nan)
        for number in torch.randperm(len(read), generator=choose)[: variant.replay].tolist():
            learn(read[number])
        seconds += time.perf_counter() - began
        mean.add()
        read.append(turn)
        state.tokens += turn.tokens
        state.chunks += 1
        if not math.isfinite(nlls[-1]):
            break
    return nlls, seconds


def config_of(settings: Iterable[str], sizes: tuple[int, int], extra: Iterable[str] = ()) -> Config:
    """The configuration of a recipe; `sizes` are chunk and context in tokens."""
    values: dict[str, dict[str, Any]] = {}
    # Activations fit at these sizes; recomputing them changes the time, not the figures.
    fixed = ["gradient_checkpointing=off", f"chunk_tokens={sizes[0]}", f"decode.context_tokens={sizes[1]}"]
    for (table, key), value in settings_of([*settings, *fixed, *extra], prefer="human").items():
        values.setdefault(table, {})[key] = value
    return resolve([Layer.of_file("recipes", values)])


def base_nll(tokens: Tokens, header: Tokens, folder: Path, sizes: tuple[int, int]) -> list[float]:
    """The NLL of each chunk under the base."""
    config = config_of(["learn=false"], sizes)
    model = loading.load(folder, config.model, config.train, seed=0)
    task = reading_task(tokens, header, model, config)
    book: list[int] = []
    nlls = []
    while (turn := task.next_turn(book)) is not None:
        with torch.no_grad():
            nlls.append(chunk_nll(model.module, turn.prompt.tokens, turn.tokens).mean().item())
        book += turn.tokens
    return nlls


def reading_task(tokens: Tokens, header: Tokens, model: loading.LanguageModel, config: Config) -> ReadingTask:
    before = fixed(header, config.decode.context_tokens)
    return ReadingTask(before, tokens, config.decode.chunk_tokens, model.tokenizer)


def known_base(out: Path, facts: dict[str, Any]) -> list[float] | None:
    """The base's NLLs from an earlier result in `out` on the same text."""
    for text in out.read_text().splitlines() if out.is_file() else []:
        result = json.loads(text)
        if facts.items() <= result.items():
            return list(result["base"])
    return None


@app.command()
def grid(
    book: Path,
    limit_tokens: int = 12_288,
    chunk_tokens: int = 512,
    context_tokens: int = 512,
    model: str = "smollm2-135m",
    only: Annotated[list[str], typer.Option(help="Recipes to run; all without.")] = [],  # noqa: B006
    settings: Annotated[list[str], typer.Option("--set", help="For every recipe.")] = [],  # noqa: B006
    out: Path = Path("grid.jsonl"),
) -> None:
    """Run recipes on a book; one line of JSON each is added to `out`."""
    if unknown := set(only) - VARIANTS.keys():
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(VARIANTS)}")
    folder = catalog.resolve(model, print)
    config = config_of(["learn=false"], (chunk_tokens, context_tokens))
    tokenizer = loading.load(folder, config.model, config.train, seed=0).tokenizer
    header, tokens = reading_tokens(tokenizer, read_text(book))
    tokens = tokens[:limit_tokens]
    sizes = (chunk_tokens, context_tokens)
    facts = {"book": book.name, "model": model, "chunk": chunk_tokens, "context": context_tokens}
    facts["tokens"] = len(tokens)
    base = known_base(out, facts) or base_nll(tokens, header, folder, sizes)
    for name in only or VARIANTS:
        result = {**facts, "base": base, **run(name, tokens, header, folder, sizes, settings)}
        result["set"] = settings
        with out.open("a") as stream:
            stream.write(json.dumps(result) + "\n")
        print(line(result), flush=True)


@app.command()
def table(files: list[Path], after: Annotated[int, typer.Option(help="Tokens.")] = 10_000) -> None:
    """One table of the results in `files`, best first."""
    results = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    print(f"| recipe | book | chunk, context | all | from {after} on | PPL from {after} on | training, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for result in sorted(results, key=lambda result: change(result, after)):
        print(line(result, after))


@app.command()
def plot(
    files: list[Path],
    out: Annotated[Path, typer.Option(help=".svg or .png")],
    step: Annotated[int, typer.Option(help="Tokens of depth that a point spans.")] = 2560,
) -> None:
    """Change of perplexity against depth, a panel a book and a line a recipe."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "templora"  # the same figures, the same file
    results = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    books = sorted({result["book"] for result in results})
    figure, panels = pyplot.subplots(1, len(books), figsize=(4 * len(books), 3.2), sharey=True, squeeze=False)
    for book, panel in zip(books, panels[0], strict=True):
        for result in sorted((r for r in results if r["book"] == book), key=lambda r: str(r["recipe"])):
            ends = range(step, result["tokens"] + 1, step)
            name = " ".join([result["recipe"], *result["set"]])
            panel.plot([end / 1000 for end in ends], [between(result, e - step, e) for e in ends], label=name)
        panel.set(title=book, xlabel="depth, thousand tokens")
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("perplexity against the base, %")
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def between(result: dict[str, Any], begin: int, end: int) -> float:
    """Change of the perplexity over the chunks in a range of tokens, in per cent."""
    chunks = slice(begin // result["chunk"], end // result["chunk"])
    base, learnt = (math.fsum(result[side][chunks]) / len(result[side][chunks]) for side in ("base", "nll"))
    return (math.exp(learnt - base) - 1) * 100


def change(result: dict[str, Any], after: int = 0) -> float:
    """Of the perplexity against the base, in per cent, over the chunks that begin at or after `after`."""
    base, learnt = (mean_nll(result, side, after) for side in ("base", "nll"))
    return (math.exp(learnt - base) - 1) * 100


def mean_nll(result: dict[str, Any], side: str, after: int = 0) -> float:
    """Of "base" or of the adapter ("nll"), over the chunks from `after` on that both have, nats/token."""
    begins = -(-after // result["chunk"])
    values = result[side][begins : len(result["nll"])]
    return math.fsum(values) / len(values) if values else math.nan


def line(result: dict[str, Any], after: int = 5_600) -> str:
    name = " ".join([result["recipe"], *result["set"]])
    sizes = f"{result['chunk']}, {result['context']}"
    figures = f"{change(result):+.2f} % | {change(result, after):+.2f} %"
    figures += f" | {math.exp(mean_nll(result, 'nll', after)):.2f}"
    return f"| {name} | {result['book']} | {sizes} | {figures} | {result['train_seconds']:.0f} |"


if __name__ == "__main__":
    app()
