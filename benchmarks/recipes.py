"""A grid of recipes for human text: the gain in perplexity, and the training time, of each.

    \b
    python -m benchmarks.recipes grid BOOK.txt --limit-tokens 12288 --only paper --only lr=2e-4

Each recipe reads and learns the same chunks with the same context, as `templora eval ppl` does; but the base
is scored once for all recipes. `--out` gets one line of JSON per recipe, and `python -m benchmarks.recipes
table grid.jsonl` makes one table of several files. The best recipe belongs in `templora_cli/config.py`, if
another book confirms it.
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

from benchmarks.variants import VARIANTS, AdapterAverage, Variant
from templora_cli.commands.settings import settings_of
from templora_cli.config import Config, with_learning_rates
from templora_cli.config_layers import Layer, resolve
from templora_cli.documents.text_input import read_text
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.models import catalog, loading
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.events import TrainStep
from templora_cli.learning import learn_chunk
from templora_cli.prompt import fixed_header
from templora_cli.reading import ReadingTask, reading_tokens
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Given

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

Tokens = tuple[int, ...]


def run(
    name: str, tokens: Tokens, header: Tokens, folder: Path, sizes: tuple[int, int], extra: Iterable[str] = ()
) -> dict[str, Any]:
    """Read and learn `tokens` with recipe `name`. Returns the NLL of each chunk before learning, and seconds.

    `sizes` are the tokens of a chunk and of the context; `extra` are more settings, as for `--set`.
    """
    variant = VARIANTS[name]
    config = config_of(variant.settings, sizes, extra)
    model = loading.load(folder, config.model, config.train, seed=config.seed)
    config = with_learning_rates(config, model.parameters, model.model_type)
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
    """The NLL of each chunk in nats/token, and the seconds spent on learning all of them."""
    average = AdapterAverage(model, variant.average)
    # If training sees the context of scoring, the loss before the first update is the score.
    same_context = config.human.context_tokens >= config.decode.context_tokens
    loss_is_score = (
        same_context and config.train.dropout == 0 and not (variant.average or config.human.window_tokens)
    )
    replay_choice = torch.Generator().manual_seed(0)
    nlls: list[float] = []
    learnt: list[Given] = []
    seconds = 0.0
    recipe = variant.recipe(model)

    backend = EagerBackend(model.module)  # it would draw samples, for recipes that need them

    def learn(turn: Given) -> list[TrainStep]:
        events = learn_chunk(turn, Chunk(turn.tokens, ""), model, backend, state, config, recipe=recipe)
        return [event for event in events if isinstance(event, TrainStep)]

    while (turn := task.next_turn(state.tokens)) is not None:
        if not loss_is_score:
            with torch.no_grad(), average:
                nlls.append(chunk_nll(model.module, turn.prompt.tokens, turn.tokens).mean().item())
        start = time.perf_counter()
        steps = learn(turn)
        if loss_is_score:
            nlls.append(steps[0].loss if steps else math.nan)
        for index in torch.randperm(len(learnt), generator=replay_choice)[: variant.replay].tolist():
            learn(learnt[index])
        seconds += time.perf_counter() - start
        average.update()
        learnt.append(turn)
        state.tokens += turn.tokens
        state.chunks += 1
        if not math.isfinite(nlls[-1]):
            break
    return nlls, seconds


def config_of(settings: Iterable[str], sizes: tuple[int, int], extra: Iterable[str] = ()) -> Config:
    """The configuration of a recipe; `sizes` are the tokens of a chunk and of the context."""
    values: dict[str, dict[str, Any]] = {}
    # Activations fit into memory at these sizes; recomputing them would only cost time.
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
    """A task that reads `tokens` after `header`."""
    before = fixed_header(header, config.decode.context_tokens)
    return ReadingTask(before, tokens, config.decode.chunk_tokens, model.tokenizer)


def saved_base_nll(out: Path, facts: dict[str, Any]) -> list[float] | None:
    """The result of `base_nll` in an earlier line of `out` with the same `facts`; None without one."""
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
    only: Annotated[list[str], typer.Option(help="Recipes to run. Default: all.")] = [],  # noqa: B006
    settings: Annotated[list[str], typer.Option("--set", help="A setting for every recipe.")] = [],  # noqa: B006
    bf16: Annotated[bool, typer.Option(help="Matrix products in bfloat16.")] = False,
    out: Path = Path("grid.jsonl"),
) -> None:
    """Run recipes on a book, and append a line of JSON for each to `out`."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if bf16 else "ieee"  # type: ignore[attr-defined]
    if unknown := set(only) - VARIANTS.keys():
        message = f"unknown recipe {', '.join(sorted(unknown))}; choose from {', '.join(VARIANTS)}"
        raise typer.BadParameter(message)
    folder = catalog.resolve(model, print)
    config = config_of(["learn=false"], (chunk_tokens, context_tokens))
    tokenizer = loading.load(folder, config.model, config.train, seed=0).tokenizer
    header, tokens = reading_tokens(tokenizer, read_text(book))
    tokens = tokens[:limit_tokens]
    sizes = (chunk_tokens, context_tokens)
    facts = {"book": book.name, "model": model, "chunk": chunk_tokens, "context": context_tokens}
    facts |= {"tokens": len(tokens), "bf16": bf16}
    base = saved_base_nll(out, facts) or base_nll(tokens, header, folder, sizes)
    for name in only or VARIANTS:
        result = {**facts, "base": base, **run(name, tokens, header, folder, sizes, settings)}
        result["set"] = settings
        with out.open("a") as stream:
            stream.write(json.dumps(result) + "\n")
        print(table_row(result), flush=True)


@app.command()
def table(files: list[Path], after: Annotated[int, typer.Option(help="In tokens.")] = 10_000) -> None:
    """Print one table of the results in `files`, the best first; the last columns begin at `after`."""
    results = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    print(f"| recipe | book | chunk, context | all | from {after} on | PPL from {after} on | training, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for result in sorted(results, key=lambda result: ppl_change(result, after)):
        print(table_row(result, after))


@app.command()
def plot(
    files: list[Path],
    out: Annotated[Path, typer.Option(help=".svg or .png")],
    step: Annotated[int, typer.Option(help="Tokens per point.")] = 2560,
) -> None:
    """Plot the change of perplexity against depth, with a panel per book and a line per recipe."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "templora"  # the same figures give the same file
    results = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    books = sorted({result["book"] for result in results})
    figure, panels = pyplot.subplots(1, len(books), figsize=(4 * len(books), 3.2), sharey=True, squeeze=False)
    for book, panel in zip(books, panels[0], strict=True):
        for result in sorted((r for r in results if r["book"] == book), key=lambda r: str(r["recipe"])):
            ends = range(step, result["tokens"] + 1, step)
            name = " ".join([result["recipe"], *result["set"]])
            changes = [ppl_change_between(result, end - step, end) for end in ends]
            panel.plot([end / 1000 for end in ends], changes, label=name)
        panel.set(title=book, xlabel="depth, thousand tokens")
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("perplexity against the base, %")
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def ppl_change_between(result: dict[str, Any], begin: int, end: int) -> float:
    """The change of the perplexity against the base over a range of tokens, in per cent."""
    chunks = slice(begin // result["chunk"], end // result["chunk"])
    base, learnt = (math.fsum(result[side][chunks]) / len(result[side][chunks]) for side in ("base", "nll"))
    return (math.exp(learnt - base) - 1) * 100


def ppl_change(result: dict[str, Any], after: int = 0) -> float:
    """The change of the perplexity against the base from token `after` on, in per cent."""
    base, learnt = (mean_nll(result, side, after) for side in ("base", "nll"))
    return (math.exp(learnt - base) - 1) * 100


def mean_nll(result: dict[str, Any], side: str, after: int = 0) -> float:
    """The mean NLL of the base ("base") or the adapter ("nll") from token `after` on, nats/token.

    A recipe that diverged has fewer chunks than the base; only these count.
    """
    first = -(-after // result["chunk"])
    values = result[side][first : len(result["nll"])]
    return math.fsum(values) / len(values) if values else math.nan


def table_row(result: dict[str, Any], after: int = 5_600) -> str:
    """The row of a result, in Markdown."""
    name = " ".join([result["recipe"], *result["set"]])
    sizes = f"{result['chunk']}, {result['context']}"
    figures = f"{ppl_change(result):+.2f} % | {ppl_change(result, after):+.2f} %"
    figures += f" | {math.exp(mean_nll(result, 'nll', after)):.2f}"
    return f"| {name} | {result['book']} | {sizes} | {figures} | {result['train_seconds']:.0f} |"


if __name__ == "__main__":
    app()
