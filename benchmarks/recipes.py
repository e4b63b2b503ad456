"""A grid of recipes for given text: what each is worth in perplexity, and what it costs to train.

    python -m benchmarks.recipes grid BOOK.txt --limit-tokens 12288 --only paper --only lr=2e-4

Each recipe reads the same chunks with the same context through the loop's own training, as `templora eval
ppl` does, but the base is scored once for all of them. One line of JSON a recipe goes to `--out`;
`python -m benchmarks.recipes table grid.jsonl` makes one table of several files. What wins here belongs in
`templora_cli/config.py`, after a confirmation on another book.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from templora_cli import temp_lora
from templora_cli.commands.settings import settings_of
from templora_cli.config import Config, Layer, LearningConfig, TrainConfig, for_size, resolve
from templora_cli.documents.utf8_text import read_text
from templora_cli.engine.models import catalog, loading
from templora_cli.engine.training.forward import logits_at
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.engine.training.muon import Muon
from templora_cli.engine.training.objectives import Window
from templora_cli.learning import learning_rate, windows
from templora_cli.reading import ReadingTask, reading_tokens
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Turn

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """A recipe: settings as `--set` takes them and, for what is no setting, changes to model or state."""

    settings: tuple[str, ...] = ()
    prepare: Callable[[loading.LanguageModel], None] = lambda model: None
    """Called once after loading: which matrices learn, and where they start."""
    optimizer: Callable[[loading.LanguageModel], torch.optim.Optimizer] | None = None
    """In place of AdamW with its usual betas; the loop sets the rate of its first group."""
    replay: int = 0
    """Earlier chunks, drawn at random, that are learnt again after each chunk."""
    schedule: Callable[[int], float] = lambda chunk: 1.0
    """Factor of the rate by the number of chunks before."""
    average: float = 0.0
    """Chunks are scored under a running mean of the adapters, which keeps this share of itself each time."""
    frozen_context: bool = False
    """No gradient flows through what stands before the chunk: its keys and values are constants."""
    choose: Callable[[loading.LanguageModel, list[Window]], list[Window]] = lambda model, windows: windows
    """Which windows of a chunk are learnt."""


def only(*parts: str) -> Callable[[loading.LanguageModel], None]:
    """Learn just the matrices whose names contain one of `parts`."""

    def prepare(model: loading.LanguageModel) -> None:
        for name in list(model.adapter):
            if not any(part in name for part in parts):
                model.adapter.pop(name).requires_grad_(False)

    return prepare


def blocks(first: int, last: int) -> Callable[[loading.LanguageModel], None]:
    """Learn just the blocks from `first` to before `last`."""
    return only(*(f"layers.{number}." for number in range(first, last)))


def with_head(model: loading.LanguageModel) -> None:
    """The output head gets an adapter too, of the rank of the others."""
    base = model.module.get_base_model()
    rank = next(len(weight) for name, weight in model.adapter.items() if "lora_A" in name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base.lm_head = LoraLinear(base.lm_head, "head", LoraConfig(r=rank, lora_alpha=rank), r=rank)
    for name, weight in base.lm_head.named_parameters():
        if "lora_" in name:
            model.adapter[f"lm_head.{name}"] = weight.requires_grad_(True)


def hardest(model: loading.LanguageModel, windows: list[Window]) -> list[Window]:
    """The half of them that the adapter expects least."""

    def nll(window: Window) -> float:
        return chunk_nll(model.module, window.header + window.context, window.tokens).mean().item()

    with torch.no_grad():
        chosen = sorted(windows, key=nll, reverse=True)[: math.ceil(len(windows) / 2)]
    return [window for window in windows if window in chosen]


def orthogonal(model: loading.LanguageModel) -> None:
    """A begins with orthonormal rows of the same norm that PEFT's uniform ones have."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.adapter.items():
            if "lora_A" in name:
                norm = weight.norm()
                weight.copy_(torch.linalg.qr(torch.randn(weight.T.shape, generator=generator))[0].T)
                weight.mul_(norm / weight.norm())


def scaled(factor: float) -> Callable[[loading.LanguageModel], None]:
    """A begins `factor` times as large as PEFT makes it."""

    def prepare(model: loading.LanguageModel) -> None:
        with torch.no_grad():
            for name, weight in model.adapter.items():
                if "lora_A" in name:
                    weight.mul_(factor)

    return prepare


def adamw(beta1: float, beta2: float) -> Callable[[loading.LanguageModel], torch.optim.Optimizer]:
    return lambda model: torch.optim.AdamW(model.adapter.values(), betas=(beta1, beta2), weight_decay=0.0)


def muon(momentum: float) -> Callable[[loading.LanguageModel], torch.optim.Optimizer]:
    return lambda model: Muon(model.adapter.values(), momentum=momentum)


def sgd(model: loading.LanguageModel) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.adapter.values(), momentum=0.9)


class LoraPlus(torch.optim.AdamW):
    """AdamW whose B matrices learn `ratio` times as fast as the A matrices (LoRA+, arXiv 2402.12354)."""

    def __init__(self, model: loading.LanguageModel, ratio: float) -> None:
        named = model.adapter.items()
        groups = [
            {"params": [p for n, p in named if "lora_A" in n]},
            {"params": [p for n, p in named if "lora_B" in n]},
        ]
        super().__init__(groups, weight_decay=0.0)
        self.ratio = ratio

    def step(self, closure: Any = None) -> Any:
        self.param_groups[1]["lr"] = self.param_groups[0]["lr"] * self.ratio
        return super().step(closure)


class SlowKeys(torch.optim.AdamW):
    """AdamW in which the projections to keys learn at a tenth of the rate of the others."""

    def __init__(self, model: loading.LanguageModel) -> None:
        named = model.adapter.items()
        groups = [
            {"params": [p for n, p in named if "k_proj" not in n]},
            {"params": [p for n, p in named if "k_proj" in n]},
        ]
        super().__init__(groups, weight_decay=0.0)

    def step(self, closure: Any = None) -> Any:
        self.param_groups[1]["lr"] = self.param_groups[0]["lr"] / 10
        return super().step(closure)


def frozen_context_nll(
    module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Sequence[bool] = ()
) -> Tensor:
    """As `chunk_nll`, with the keys and values of the prompt as constants; all of the chunk counts."""
    assert not any(mask)
    cache = None
    if prompt[:-1]:
        with torch.no_grad():
            _, cache = logits_at(module, prompt[:-1], [0], use_cache=True)
    ids = [prompt[-1], *chunk[:-1]]
    logits, _ = logits_at(module, ids, range(len(ids)), cache=cache, use_cache=True)
    return cross_entropy(logits.float(), torch.tensor(list(chunk), device=logits.device), reduction="none")


class Mean:
    """A running mean of the adapters; inside its `with` block the model has it in place of its own."""

    def __init__(self, model: loading.LanguageModel, keep: float) -> None:
        self.adapter, self.keep = model.adapter, keep
        self.mean = {name: weight.detach().clone() for name, weight in model.adapter.items()}

    def add(self) -> None:
        for name, weight in self.adapter.items():
            self.mean[name].lerp_(weight.detach(), 1 - self.keep)

    def _swap(self) -> None:
        for name, weight in self.adapter.items():
            kept = weight.detach().clone()
            weight.data.copy_(self.mean[name])
            self.mean[name] = kept

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error: object) -> None:
        self._swap()


def decaying(chunk: int) -> float:
    return float((1 + chunk / 4) ** -0.5)


PLAIN = ("dropout=0.0", "epochs=2", "given.context_tokens=2048", "given.window_tokens=0")
"""Whole chunks in two passes, as the paper learns them; what a recipe says after it wins."""

VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "paper": Variant(("recipe=paper",)),
    "default frozen context": Variant(frozen_context=True),
    "paper frozen context": Variant(("recipe=paper",), frozen_context=True),
    **{f"lr={lr}": Variant((*PLAIN, f"lr={lr}")) for lr in ("1e-4", "2e-4", "3e-4", "5e-4", "1e-3")},
    **{
        f"lr={lr} epochs=1": Variant((*PLAIN, f"lr={lr}", "epochs=1"))
        for lr in ("2e-4", "3e-4", "5e-4", "1e-3")
    },
    "lr=2e-4 dropout=0.05": Variant((*PLAIN, "lr=2e-4", "dropout=0.05")),
    "lr=2e-4 warmup=0": Variant((*PLAIN, "lr=2e-4", "warmup_chunks=0")),
    "lr=2e-4 rank=16": Variant((*PLAIN, "lr=2e-4", "rank=16", "alpha=16")),
    "lr=2e-4 rank=16 alpha=64": Variant((*PLAIN, "lr=2e-4", "rank=16", "alpha=64")),
    "lr=5e-4 rank=8 alpha=8": Variant((*PLAIN, "lr=5e-4", "rank=8", "alpha=8")),
    "lr=2e-4 rank=128": Variant((*PLAIN, "lr=2e-4", "rank=128", "alpha=128")),
    # rsLoRA (arXiv 2312.03732) is the scale alpha / sqrt(rank): at alpha 64, rank 64 that of alpha 512.
    "lr=2e-4 rslora": Variant((*PLAIN, "lr=2e-4", "alpha=512")),
    "lr=5e-5 rslora": Variant((*PLAIN, "lr=5e-5", "alpha=512")),
    "lr=2e-4 alpha=128": Variant((*PLAIN, "lr=2e-4", "alpha=128")),
    "lr=2e-4 mlp": Variant((*PLAIN, "lr=2e-4"), only("mlp")),
    "lr=2e-4 attention": Variant((*PLAIN, "lr=2e-4"), only("self_attn")),
    "lr=2e-4 upper half": Variant((*PLAIN, "lr=2e-4"), blocks(15, 30)),
    "lr=2e-4 lower half": Variant((*PLAIN, "lr=2e-4"), blocks(0, 15)),
    "lr=2e-4 betas=0.9,0.95": Variant((*PLAIN, "lr=2e-4"), optimizer=adamw(0.9, 0.95)),
    "lr=2e-4 betas=0.8,0.95": Variant((*PLAIN, "lr=2e-4"), optimizer=adamw(0.8, 0.95)),
    "lr=2e-4 betas=0.9,0.99": Variant((*PLAIN, "lr=2e-4"), optimizer=adamw(0.9, 0.99)),
    "lr=3e-4 betas=0.9,0.99": Variant((*PLAIN, "lr=3e-4"), optimizer=adamw(0.9, 0.99)),
    "lr=1e-1 sgd": Variant((*PLAIN, "lr=1e-1"), optimizer=sgd),
    "lr=1.0 sgd": Variant((*PLAIN, "lr=1.0"), optimizer=sgd),
    "lr=2e-4 muon": Variant((*PLAIN, "lr=2e-4"), optimizer=muon(0.9)),
    "lr=1e-3 muon": Variant((*PLAIN, "lr=1e-3"), optimizer=muon(0.9)),
    "lr=1e-4 lora+ 4": Variant((*PLAIN, "lr=1e-4"), optimizer=lambda model: LoraPlus(model, 4)),
    "lr=5e-5 lora+ 16": Variant((*PLAIN, "lr=5e-5"), optimizer=lambda model: LoraPlus(model, 16)),
    "lr=2e-4 orthogonal A": Variant((*PLAIN, "lr=2e-4"), orthogonal),
    "lr=2e-4 A x 2": Variant((*PLAIN, "lr=2e-4"), scaled(2)),
    "lr=2e-4 A x 4": Variant((*PLAIN, "lr=2e-4"), scaled(4)),
    "lr=2e-4 context=0": Variant((*PLAIN, "lr=2e-4", "given.context_tokens=0")),
    "lr=2e-4 context=256": Variant((*PLAIN, "lr=2e-4", "given.context_tokens=256")),
    "lr=2e-4 epochs=1 replay=1": Variant((*PLAIN, "lr=2e-4", "epochs=1"), replay=1),
    "lr=3e-4 epochs=1 replay=1": Variant((*PLAIN, "lr=3e-4", "epochs=1"), replay=1),
    **{
        f"lr={lr} epochs={epochs} frozen context": Variant(
            (*PLAIN, f"lr={lr}", f"epochs={epochs}"), frozen_context=True
        )
        for lr in ("2e-4", "3e-4")
        for epochs in (1, 2, 3, 4)
    },
    "lr=5e-4 decaying": Variant((*PLAIN, "lr=5e-4"), schedule=decaying),
    "lr=1e-3 epochs=1 decaying": Variant((*PLAIN, "lr=1e-3", "epochs=1"), schedule=decaying),
    "lr=5e-4 average": Variant((*PLAIN, "lr=5e-4"), average=0.7),
    "lr=5e-4 epochs=1 average": Variant((*PLAIN, "lr=5e-4", "epochs=1"), average=0.6),
    "lr=1e-3 epochs=1 average": Variant((*PLAIN, "lr=1e-3", "epochs=1"), average=0.7),
    "lr=2e-3 epochs=1 muon window=256": Variant(
        (*PLAIN, "lr=2e-3", "epochs=1", "given.context_tokens=256", "given.window_tokens=256"),
        optimizer=muon(0.9),
    ),
    "lr=2e-3 epochs=1 muon window=128": Variant(
        (*PLAIN, "lr=2e-3", "epochs=1", "given.context_tokens=256", "given.window_tokens=128"),
        optimizer=muon(0.9),
    ),
    "lr=2e-4 window=256": Variant((*PLAIN, "lr=2e-4", "given.context_tokens=256", "given.window_tokens=256")),
    "lr=2e-4 epochs=1 window=128": Variant(
        (*PLAIN, "lr=2e-4", "epochs=1", "given.context_tokens=128", "given.window_tokens=128")
    ),
    "lr=1e-3 epochs=1 mlp": Variant((*PLAIN, "lr=1e-3", "epochs=1"), only("mlp")),
    "lr=5e-4 epochs=1 mlp": Variant((*PLAIN, "lr=5e-4", "epochs=1"), only("mlp")),
    **{
        f"lr={lr} epochs=1 muon": Variant((*PLAIN, f"lr={lr}", "epochs=1"), optimizer=muon(0.9))
        for lr in ("5e-4", "1e-3", "2e-3", "4e-3", "8e-3")
    },
    "lr=2e-3 epochs=1 muon 0.95": Variant((*PLAIN, "lr=2e-3", "epochs=1"), optimizer=muon(0.95)),
    "lr=2e-3 epochs=1 muon 0.8": Variant((*PLAIN, "lr=2e-3", "epochs=1"), optimizer=muon(0.8)),
    "lr=2e-3 epochs=1 muon rank=16": Variant(
        (*PLAIN, "lr=2e-3", "epochs=1", "rank=16", "alpha=16"), optimizer=muon(0.9)
    ),
    "lr=2e-4 epochs=1 lora+ 4": Variant(
        (*PLAIN, "lr=2e-4", "epochs=1"), optimizer=lambda model: LoraPlus(model, 4)
    ),
    "lr=5e-4 epochs=1 rank=16": Variant((*PLAIN, "lr=5e-4", "epochs=1", "rank=16", "alpha=16")),
    "lr=5e-4 epochs=1 rank=16 alpha=64": Variant((*PLAIN, "lr=5e-4", "epochs=1", "rank=16", "alpha=64")),
    "lr=5e-4 epochs=1 A x 3": Variant((*PLAIN, "lr=5e-4", "epochs=1"), scaled(3)),
    "lr=5e-4 epochs=1 betas=0.9,0.99": Variant((*PLAIN, "lr=5e-4", "epochs=1"), optimizer=adamw(0.9, 0.99)),
    "lr=2e-4 epochs=3": Variant((*PLAIN, "lr=2e-4", "epochs=3")),
    "lr=2e-4 and the output head": Variant((*PLAIN, "lr=2e-4"), with_head),
    "lr=2e-4 slow keys": Variant((*PLAIN, "lr=2e-4"), optimizer=SlowKeys),
    "lr=2e-4 window=128 hardest half": Variant(
        (*PLAIN, "lr=2e-4", "given.context_tokens=128", "given.window_tokens=128"), choose=hardest
    ),
}


def run(
    name: str, tokens: Tokens, header: Tokens, folder: Path, sizes: tuple[int, int], extra: Iterable[str] = ()
) -> dict[str, Any]:
    """Read `tokens` under recipe `name`; the NLL of each chunk before it was learnt, and seconds spent."""
    variant = VARIANTS[name]
    config = config_of(variant.settings, sizes, extra)
    model = loading.load(folder, config.model, config.train, seed=config.seed)
    config = for_size(config, model.parameters)
    variant.prepare(model)
    state = WritingState.begin(model, config)
    if variant.optimizer is not None:
        state.optimizer = variant.optimizer(model)  # type: ignore[assignment]
    task = ReadingTask(header, tokens, config.decode, model.tokenizer)
    loss = frozen_context_nll if variant.frozen_context else chunk_nll
    with (
        mock.patch.object(temp_lora, "chunk_nll", loss),
        mock.patch.object(temp_lora, "learning_rate", _scheduled(variant)),
        mock.patch.object(temp_lora, "windows", lambda *chunk: variant.choose(model, windows(*chunk))),
    ):
        nlls, seconds = _read(variant, task, model, state, config)
    return {"recipe": name, "nll": nlls, "train_seconds": seconds, "config": config.as_dict()}


def _scheduled(variant: Variant) -> Callable[..., float]:
    def rate(chunk: int, learning: LearningConfig, train: TrainConfig) -> float:
        return learning_rate(chunk, learning, train) * variant.schedule(chunk)

    return rate


def _read(
    variant: Variant, task: ReadingTask, model: loading.LanguageModel, state: WritingState, config: Config
) -> tuple[list[float], float]:
    """The NLL of each chunk, nats/token, and the seconds that were spent on learning them all."""
    mean = Mean(model, variant.average)
    # The loss of the first pass, taken before its update, is the score where both see the same.
    same = config.given.context_tokens >= config.decode.context_tokens
    told = same and config.train.dropout == 0 and not (variant.average or config.given.window_tokens)
    choose = torch.Generator().manual_seed(0)
    nlls: list[float] = []
    read: list[Turn] = []
    seconds = 0.0
    while (turn := task.next_turn(state.tokens)) is not None:
        chunk = list(turn.given)
        if not told:
            with torch.no_grad(), mean:
                nlls.append(chunk_nll(model.module, turn.header + turn.context, chunk).mean().item())
        began = time.perf_counter()
        steps = list(train_on_chunk(turn, Chunk(turn.given, ""), model, state, config))
        if told:
            nlls.append(steps[0].loss)  # type: ignore[union-attr]
        for number in torch.randperm(len(read), generator=choose)[: variant.replay].tolist():
            list(train_on_chunk(read[number], Chunk(read[number].given, ""), model, state, config))
        seconds += time.perf_counter() - began
        mean.add()
        read.append(turn)
        state.tokens += chunk
        state.chunks += 1
        if not math.isfinite(nlls[-1]):
            break
    return nlls, seconds


def config_of(settings: Iterable[str], sizes: tuple[int, int], extra: Iterable[str] = ()) -> Config:
    """The configuration of a recipe; `sizes` are chunk and context in tokens."""
    values: dict[str, dict[str, Any]] = {}
    # Activations fit at these sizes; recomputing them changes the time, not the figures.
    fixed = ["gradient_checkpointing=off", f"chunk_tokens={sizes[0]}", f"decode.context_tokens={sizes[1]}"]
    for (table, key), value in settings_of([*settings, *fixed, *extra], prefer="given").items():
        values.setdefault(table, {})[key] = value
    return resolve([Layer.of_file("recipes", values)])


def base_nll(tokens: Tokens, header: Tokens, folder: Path, sizes: tuple[int, int]) -> list[float]:
    """The NLL of each chunk under the base."""
    config = config_of(["learn=false"], sizes)
    model = loading.load(folder, config.model, config.train, seed=0)
    task = ReadingTask(header, tokens, config.decode, model.tokenizer)
    book: list[int] = []
    nlls = []
    while (turn := task.next_turn(book)) is not None:
        with torch.no_grad():
            nlls.append(chunk_nll(model.module, turn.header + turn.context, turn.given).mean().item())
        book += turn.given
    return nlls


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
