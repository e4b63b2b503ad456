"""Recipes for generated text: does a book that learns itself stay coherent, and how much does it remember?

    \b
    python -m benchmarks.generated_text run --recipe off --recipe default --seed 0 --probe BOOK.txt --out FILE
    python -m benchmarks.generated_text table FILE

Each recipe writes a book from the same premise and seeds with templora's own loop. The book is measured after
each chunk, as by `templora eval drift`. `--out` gets one line of JSON per book. The best recipe belongs in
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
from templora_cli.config import Config, LearningConfig, with_learning_rates
from templora_cli.config_layers import Layer, resolve
from templora_cli.documents.text_input import read_text
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
class WritingVariant:
    """A recipe: settings as for `--set`, and other parts of learning that it replaces."""

    settings: tuple[str, ...] = ()
    recipe: Recipe = RECIPE


@dataclass(frozen=True)
class KlBudget(NegativeLogLikelihood):
    """The NLL, or the KL divergence from the base while it exceeds `nats` per token.

    The budget is that of arXiv 2510.16089. There, updates beyond it are refused; here, a step reduces the
    divergence instead.
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
            divergence = kl_divergence(base, logits).mean()
            if divergence.item() > self.nats:
                return divergence
            return cross_entropy(logits, torch.tensor(list(window.tokens), device=logits.device))

        return loss


def kl_within(nats: float) -> Recipe:
    """A recipe with `KlBudget` as the `nll` objective."""
    return Recipe(objectives={"nll": KlBudget(nats)})


def windows_and_first_chunk(
    turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig, extra_context_tokens: int
) -> list[Window]:
    """The windows of a chunk, and after them the first chunk of the book, which the base alone wrote."""
    first_chunk = tuple(book[: len(chunk.tokens)])
    replayed = [Window(turn.prompt.header, (), (), first_chunk, ())] if first_chunk else []
    return windows(turn, chunk, book, learning, extra_context_tokens) + replayed


NO_REPLAY = "generated.replay_samples=0"
WHOLE_CHUNKS = (
    NO_REPLAY,
    "generated.epochs=2",
    "generated.window_tokens=0",
    "generated.context_tokens=2048",
)
"""Whole chunks after the whole context, in two passes, as in the paper."""
DISTILL = ("generated.objective=distill", "generated.lr=2e-4", *WHOLE_CHUNKS)
NO_PENALTY = "decode.repetition_penalty=1.0"

VARIANTS: dict[str, WritingVariant] = {
    "off": WritingVariant(("learn=false",)),
    "off, no penalty": WritingVariant(("learn=false", NO_PENALTY)),
    "paper": WritingVariant(("recipe=paper",)),
    "default": WritingVariant(),
    "nll 5e-5": WritingVariant(("generated.lr=5e-5", *WHOLE_CHUNKS)),
    "nll 5e-5, no penalty": WritingVariant(("generated.lr=5e-5", *WHOLE_CHUNKS, NO_PENALTY)),
    "nll 1e-5": WritingVariant(("generated.lr=1e-5", *WHOLE_CHUNKS)),
    "nll 2e-5": WritingVariant(("generated.lr=2e-5", *WHOLE_CHUNKS)),
    # The windows of human text at other rates: as many steps as above, at half the cost or less.
    **{
        f"nll {lr}, windows": WritingVariant(
            (NO_REPLAY, f"generated.lr={lr}", "generated.context_tokens=256")
        )
        for lr in ("1e-5", "2e-5", "4e-5")
    },
    "nll 2e-5, no context": WritingVariant((NO_REPLAY, "generated.lr=2e-5", "generated.context_tokens=0")),
    "nll 5e-5, first chunk replayed": WritingVariant(
        ("generated.lr=5e-5", *WHOLE_CHUNKS), Recipe(windows=windows_and_first_chunk)
    ),
    "nll 2e-4": WritingVariant(("generated.lr=2e-4", *WHOLE_CHUNKS)),
    "nll 2e-4, KL within 0.05": WritingVariant(("generated.lr=2e-4", *WHOLE_CHUNKS), kl_within(0.05)),
    "nll 2e-4, KL within 0.02": WritingVariant(("generated.lr=2e-4", *WHOLE_CHUNKS), kl_within(0.02)),
    "nll 5e-5, KL within 0.02": WritingVariant(("generated.lr=5e-5", *WHOLE_CHUNKS), kl_within(0.02)),
    "distill 2e-4, teacher 2048": WritingVariant((*DISTILL, "generated.teacher_context_tokens=2048")),
    "distill 2e-4, teacher 4096": WritingVariant((*DISTILL, "generated.teacher_context_tokens=4096")),
    # A student that sees a quarter of the window has the rest to learn, from the first chunk on.
    **{
        f"distill {lr}, teacher {teacher}, student 128": WritingVariant(
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
    """Write one book with recipe `name`. Returns its chunks, and the measures after each.

    `sizes` are the tokens of a chunk and of the context; `probe` is a text and how many of its tokens to use.
    """
    variant = VARIANTS[name]
    config = config_of(variant.settings, seed, sizes, model_name)
    model = loading.load(catalog.resolve(model_name, print), config.model, config.train, seed=seed)
    config = with_learning_rates(config, model.parameters, model.model_type)
    prompts, sections = (load_prompts(name, config.prompts) for name in ("novel", "sections"))
    prompt = NovelPrompt(model.tokenizer, prompts, sections, PREMISE, False, config.decode)
    goal, size = Goal(tokens, "tokens"), config.decode.chunk_tokens
    task = NovelTask(prompt, (), goal, size, model.tokenizer, whole_sentences=False)
    beginning, held_out = reading_tokens(model.tokenizer, probe[0]) if probe else ((), ())
    held_out = held_out[: probe[1] if probe else 0]
    measure = LiveMeasures(model, prompt(()).header, (beginning, held_out), config.decode)
    state = WritingState.begin(model, config)
    probe_before = measure(state)["probe"]
    chunks: list[dict[str, Any]] = []
    live: dict[int, Any] = {}
    start = time.perf_counter()
    backend = backend_for(model, config.decode.backend)
    for event in write(task, model, backend, state, config, recipe=variant.recipe):
        if isinstance(event, ChunkLearnt):
            chunks.append(asdict(event))
            live[event.index] = measure(state)
    measured = [asdict(measures) for measures in measures_of(chunks, live)]
    saved_chunks = [
        {key: chunk[key] for key in ("text", "rejection_reason", "train_losses", "nll_adapter")}
        for chunk in chunks
    ]
    return {
        "recipe": name,
        "seed": seed,
        "probe_before": probe_before,
        "measured": measured,
        "chunks": saved_chunks,
        "seconds": time.perf_counter() - start,
        "config": config.as_dict(),
    }


def config_of(settings: Iterable[str], seed: int, sizes: tuple[int, int], model_name: str) -> Config:
    """The configuration of a recipe; `sizes` are the tokens of a chunk and of the context."""
    values: dict[str, dict[str, Any]] = {"": {"seed": seed}, "model": {"name": model_name}}
    fixed = ["gradient_checkpointing=off", f"chunk_tokens={sizes[0]}", f"decode.context_tokens={sizes[1]}"]
    for (table, key), value in settings_of([*settings, *fixed], prefer="generated").items():
        values.setdefault(table, {})[key] = value
    return resolve([Layer.of_file("generated", {**values.pop(""), **values})])


@app.command()
def run(
    recipe: Annotated[list[str], typer.Option(help="Recipes to run. Default: all.")] = [],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="Seeds of the books.")] = [0, 1, 2],  # noqa: B006
    tokens: int = 8192,
    chunk_tokens: int = 512,
    context_tokens: int = 512,
    model: str = "smollm2-135m",
    probe: Annotated[Path | None, typer.Option(help="Human text that is never learnt.")] = None,
    probe_tokens: int = 2048,
    out: Path = Path("own.jsonl"),
) -> None:
    """Write a book for each recipe and seed, and append a line of JSON for each to `out`."""
    if unknown := set(recipe) - VARIANTS.keys():
        message = f"unknown recipe {', '.join(sorted(unknown))}; choose from {', '.join(VARIANTS)}"
        raise typer.BadParameter(message)
    held_out = (read_text(probe), probe_tokens) if probe else None
    for number in seed:
        for name in recipe or VARIANTS:
            result = write_book(name, number, tokens, (chunk_tokens, context_tokens), model, held_out)
            with out.open("a") as stream:
                stream.write(json.dumps(result) + "\n")
            typer.echo(f"{name}, seed {number}: {result['seconds']:.0f} s")


COLUMNS = {
    "nll_base": "NLL under the base",
    "repetition_in_chunk": "4-grams repeated in the chunk",
    "repetition_in_book": "4-grams repeated in the book",
    "distinct_3": "distinct 3-grams",
    "probe_ppl": "PPL of the probe",
    "recall_base": "recall NLL, base",
    "recall_adapter": "recall NLL, adapter",
}


@app.command()
def table(
    files: list[Path], step: Annotated[int, typer.Option(help="Depth of a row, in tokens; 0: all.")] = 0
) -> None:
    """Print one table of the books in `files`, with means over the seeds."""
    books: dict[str, list[Measures]] = {}
    seeds: dict[str, int] = {}
    for result in (json.loads(line) for file in files for line in file.read_text().splitlines()):
        books.setdefault(result["recipe"], []).extend(Measures(**values) for values in result["measured"])
        seeds[result["recipe"]] = seeds.get(result["recipe"], 0) + 1
    print(f"| recipe | books | depth | {' | '.join(COLUMNS.values())} |")
    print(f"| {' | '.join(['---'] * (len(COLUMNS) + 3))} |")
    for name, measured in books.items():
        for row in by_depth(measured, step or 1 << 40):
            print(f"| {name} | {seeds[name]} | {row.depth:,} | {' | '.join(figures(row))} |")


def figures(row: Measures) -> Iterable[str]:
    """The cells of `COLUMNS`; "" for a value that was not measured."""
    return ("" if (value := getattr(row, name)) is None else f"{value:.3f}" for name in COLUMNS)


if __name__ == "__main__":
    app()
