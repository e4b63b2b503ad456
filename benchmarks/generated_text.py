"""Recipes for own text: does a book that learns from itself hold together, and what does it remember?

    python -m benchmarks.generated_text run --recipe off --recipe distill --seed 0 --probe BOOK.txt --out FILE
    python -m benchmarks.generated_text table FILE

Each recipe writes a book from the same premise and seeds through the loop itself, measured after each chunk
as `templora eval drift` measures; one line of JSON a book goes to `--out`. What wins here belongs in
`templora_cli/config.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn.functional import cross_entropy

from templora_cli.commands.settings import settings_of
from templora_cli.config import Layer, LearningConfig, resolve, with_learning_rates
from templora_cli.documents.utf8_text import read_text
from templora_cli.engine.decoding.choose import backend_for
from templora_cli.engine.models import catalog, loading
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_logits, kl_divergence
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Loss, Window
from templora_cli.evaluation.drift_measures import LiveMeasures, Measures, by_depth, measures_of
from templora_cli.events import ChunkLearnt
from templora_cli.learning import RECIPE, Recipe, windows
from templora_cli.novel.prompt import NovelPrompt
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt_files import load_prompts
from templora_cli.reading import reading_tokens
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.turn import Chunk, Turn

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

PREMISE = "A lighthouse keeper finds a letter in a bottle, written in his own hand."


@dataclass(frozen=True)
class Variant:
    """A recipe: settings as `--set` takes them and, for what is no setting, what is put in its place."""

    settings: tuple[str, ...] = ()
    recipe: Recipe = RECIPE


@dataclass(frozen=True)
class KlBudget(NegativeLogLikelihood):
    """Where base + adapter have moved further than `nats` a token from the base, a step goes back.

    The budget is that of arXiv 2510.16089; there updates are refused, here the KL divergence is the loss.
    """

    nats: float

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        prompt = window.header + window.context
        model.module.eval()
        with torch.no_grad(), model.without_adapter():
            base = chunk_logits(model.module, prompt, window.tokens).log_softmax(-1)

        def loss() -> Tensor:
            logits = chunk_logits(model.module, prompt, window.tokens)
            moved = kl_divergence(base, logits).mean()
            if moved.item() > self.nats:
                return moved
            return cross_entropy(logits, torch.tensor(list(window.tokens), device=logits.device))

        return loss


def kl_within(nats: float) -> Recipe:
    return Recipe(objectives={"nll": KlBudget(nats)})


def with_opening(turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig) -> list[Window]:
    """The first chunk, which the base wrote, is learnt again with each later one."""
    opening = tuple(book[: len(chunk.tokens)])
    again = [Window(turn.prompt.header, (), (), opening, ())] if opening else []
    return windows(turn, chunk, book, learning) + again


WHOLE = ("generated.epochs=2", "generated.window_tokens=0", "generated.context_tokens=2048")
"""The whole chunk after the whole context, in two passes, as in the paper."""
DISTILL = ("generated.objective=distill", "generated.lr=2e-4", *WHOLE)
NO_PENALTY = "decode.repetition_penalty=1.0"

VARIANTS: dict[str, Variant] = {
    "off": Variant(("learn=false",)),
    "off, no penalty": Variant(("learn=false", NO_PENALTY)),
    "paper": Variant(("recipe=paper",)),
    "default": Variant(),
    "nll 5e-5": Variant(("generated.lr=5e-5", *WHOLE)),
    "nll 5e-5, no penalty": Variant(("generated.lr=5e-5", *WHOLE, NO_PENALTY)),
    "nll 1e-5": Variant(("generated.lr=1e-5", *WHOLE)),
    "nll 2e-5": Variant(("generated.lr=2e-5", *WHOLE)),
    # As given text is learnt, but for the rate: as many steps, at half the cost and less.
    **{
        f"nll {lr}, windows": Variant((f"generated.lr={lr}", "generated.context_tokens=256"))
        for lr in ("1e-5", "2e-5", "4e-5")
    },
    "nll 2e-5, no context": Variant(("generated.lr=2e-5", "generated.context_tokens=0")),
    "nll 5e-5, first chunk replayed": Variant(("generated.lr=5e-5", *WHOLE), Recipe(windows=with_opening)),
    "nll 2e-4": Variant(("generated.lr=2e-4", *WHOLE)),
    "nll 2e-4, KL within 0.05": Variant(("generated.lr=2e-4", *WHOLE), kl_within(0.05)),
    "nll 2e-4, KL within 0.02": Variant(("generated.lr=2e-4", *WHOLE), kl_within(0.02)),
    "nll 5e-5, KL within 0.02": Variant(("generated.lr=5e-5", *WHOLE), kl_within(0.02)),
    "distill 2e-4, teacher 2048": Variant((*DISTILL, "generated.teacher_context_tokens=2048")),
    "distill 2e-4, teacher 4096": Variant((*DISTILL, "generated.teacher_context_tokens=4096")),
    # A student that sees a quarter of the window learns from the first chunk on what stands in the rest.
    **{
        f"distill {lr}, teacher {teacher}, student 128": Variant(
            (
                *DISTILL,
                f"generated.lr={lr}",
                f"generated.teacher_context_tokens={teacher}",
                "generated.context_tokens=128",
            )
        )
        for lr in ("1e-4", "2e-4", "5e-4")
        for teacher in (512, 2048, 4096)
    },
}


def write_book(
    name: str, seed: int, tokens: int, sizes: tuple[int, int], model_name: str, probe: tuple[str, int] | None
) -> dict[str, Any]:
    """Write one book under recipe `name`; its chunks and what was measured after each."""
    variant = VARIANTS[name]
    values: dict[str, dict[str, Any]] = {"": {"seed": seed}, "model": {"name": model_name}}
    fixed = ["gradient_checkpointing=off", f"chunk_tokens={sizes[0]}", f"decode.context_tokens={sizes[1]}"]
    for (table, key), value in settings_of([*variant.settings, *fixed], prefer="generated").items():
        values.setdefault(table, {})[key] = value
    config = resolve([Layer.of_file("generated", {**values.pop(""), **values})])
    model = loading.load(catalog.resolve(model_name, print), config.model, config.train, seed=seed)
    config = with_learning_rates(config, model.parameters)
    prompts = load_prompts("novel", config.prompts)
    prompt = NovelPrompt(model.tokenizer, prompts, PREMISE, False, config.decode.context_tokens)
    task = NovelTask(prompt, (), Goal(tokens, "tokens"), config.decode.chunk_tokens, model.tokenizer)
    beginning, held_out = reading_tokens(model.tokenizer, probe[0]) if probe else ((), ())
    held_out = held_out[: probe[1] if probe else 0]
    look = LiveMeasures(model, prompt(()).header, (beginning, held_out), config.decode)
    state = WritingState.begin(model, config)
    first = look(state)["probe"]
    chunks: list[dict[str, Any]] = []
    live: dict[int, Any] = {}
    began = time.perf_counter()
    backend = backend_for(model, config.decode.backend)
    for event in write(task, model, backend, state, config, recipe=variant.recipe):
        if isinstance(event, ChunkLearnt):
            chunks.append(asdict(event))
            live[event.index] = look(state)
    measured = [asdict(one) for one in measures_of(chunks, live)]
    kept = [
        {key: chunk[key] for key in ("text", "rejection_reason", "train_losses", "nll_adapter")}
        for chunk in chunks
    ]
    return {
        "recipe": name,
        "seed": seed,
        "probe_before": first,
        "measured": measured,
        "chunks": kept,
        "seconds": time.perf_counter() - began,
        "config": config.as_dict(),
    }


@app.command()
def run(
    recipe: Annotated[list[str], typer.Option(help="Recipes to run; all without.")] = [],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="Seeds of the books.")] = [0, 1, 2],  # noqa: B006
    tokens: int = 8192,
    chunk_tokens: int = 512,
    context_tokens: int = 512,
    model: str = "smollm2-135m",
    probe: Annotated[Path | None, typer.Option(help="Text of a person that is never learnt.")] = None,
    probe_tokens: int = 2048,
    out: Path = Path("own.jsonl"),
) -> None:
    """Write a book for each recipe and seed; one line of JSON each is added to `out`."""
    if unknown := set(recipe) - VARIANTS.keys():
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(VARIANTS)}")
    held_out = (read_text(probe), probe_tokens) if probe else None
    for one in seed:
        for name in recipe or VARIANTS:
            result = write_book(name, one, tokens, (chunk_tokens, context_tokens), model, held_out)
            with out.open("a") as stream:
                stream.write(json.dumps(result) + "\n")
            typer.echo(f"{name}, seed {one}: {result['seconds']:.0f} s")


COLUMNS = {
    "nll_base": "NLL under the base",
    "repetition_in_chunk": "4-grams repeated in the chunk",
    "repetition_in_book": "in the book",
    "distinct_3": "distinct 3-grams",
    "probe_ppl": "PPL of the probe",
    "recall_base": "recall NLL, base",
    "recall_adapter": "recall NLL, adapter",
}


@app.command()
def table(
    files: list[Path], step: Annotated[int, typer.Option(help="Depth of a row, in tokens; 0: all.")] = 0
) -> None:
    """One table of the books in `files`: means over the seeds."""
    books: dict[str, list[Measures]] = {}
    seeds: dict[str, int] = {}
    for result in (json.loads(line) for file in files for line in file.read_text().splitlines()):
        books.setdefault(result["recipe"], []).extend(Measures(**one) for one in result["measured"])
        seeds[result["recipe"]] = seeds.get(result["recipe"], 0) + 1
    print(f"| recipe | books | depth | {' | '.join(COLUMNS.values())} |")
    print(f"| {' | '.join(['---'] * (len(COLUMNS) + 3))} |")
    for name, measured in books.items():
        for row in by_depth(measured, step or 1 << 40):
            print(f"| {name} | {seeds[name]} | {row.depth:,} | {' | '.join(figures(row))} |")


def figures(row: Measures) -> Iterable[str]:
    return ("" if (value := getattr(row, name)) is None else f"{value:.3f}" for name in COLUMNS)


if __name__ == "__main__":
    app()
