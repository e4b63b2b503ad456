"""What the recipes of `benchmarks.recipes` are made of, and all of them by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from templora_cli.config import LearningConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.forward import logits_at
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.engine.training.muon import Muon
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Loss, Window
from templora_cli.learning import RECIPE, Recipe, learning_rate, windows
from templora_cli.turn import Chunk, Turn


@dataclass(frozen=True)
class Variant:
    """A recipe: settings as `--set` takes them and, for what is no setting, what is put in its place."""

    settings: tuple[str, ...] = ()
    prepare: Callable[[loading.LanguageModel], None] = lambda model: None
    """Called once after loading: which matrices learn, and where they start."""
    optimizer: Callable[[loading.LanguageModel], torch.optim.Optimizer] | None = None
    """In place of AdamW with its usual betas; the loop sets the rate of its first group."""
    replay: int = 0
    """Earlier chunks, drawn at random, that are learnt again after each chunk."""
    average: float = 0.0
    """Chunks are scored under a running mean of the adapters, which keeps this share of itself each time."""
    recipe: Callable[[AdaptedModel], Recipe] = lambda model: RECIPE
    """How a chunk is learnt: its objective, its windows and its rate."""


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


def hardest(model: AdaptedModel, windows: list[Window]) -> list[Window]:
    """The half of them that the adapter expects least."""

    def nll(window: Window) -> float:
        return chunk_nll(model.module, window.header + window.context, window.tokens).mean().item()

    with torch.no_grad():
        chosen = sorted(windows, key=nll, reverse=True)[: math.ceil(len(windows) / 2)]
    return [window for window in windows if window in chosen]


def hardest_half(model: AdaptedModel) -> Recipe:
    """Only the hardest windows of a chunk are learnt."""

    def chosen(turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig) -> list[Window]:
        return hardest(model, windows(turn, chunk, book, learning))

    return Recipe(windows=chosen)


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


class FrozenContext(NegativeLogLikelihood):
    """No gradient flows through what stands before the chunk: its keys and values are constants."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        return lambda: frozen_context_nll(model.module, prompt, tokens, mask).mean()


def frozen_context(model: AdaptedModel) -> Recipe:
    return Recipe(objectives={"nll": FrozenContext()})


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


def decaying(model: AdaptedModel) -> Recipe:
    """The rate falls with the chunks before: to half of it after twelve."""

    def rate(chunk: int, learning: LearningConfig, train: TrainConfig) -> float:
        return learning_rate(chunk, learning, train) * float((1 + chunk / 4) ** -0.5)

    return Recipe(rate=rate)


PLAIN = ("dropout=0.0", "epochs=2", "human.context_tokens=2048", "human.window_tokens=0")
"""Whole chunks in two passes, as the paper learns them; what a recipe says after it wins."""

VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "paper": Variant(("recipe=paper",)),
    "default frozen context": Variant(recipe=frozen_context),
    "paper frozen context": Variant(("recipe=paper",), recipe=frozen_context),
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
    "lr=2e-4 context=0": Variant((*PLAIN, "lr=2e-4", "human.context_tokens=0")),
    "lr=2e-4 context=256": Variant((*PLAIN, "lr=2e-4", "human.context_tokens=256")),
    "lr=2e-4 epochs=1 replay=1": Variant((*PLAIN, "lr=2e-4", "epochs=1"), replay=1),
    "lr=3e-4 epochs=1 replay=1": Variant((*PLAIN, "lr=3e-4", "epochs=1"), replay=1),
    **{
        f"lr={lr} epochs={epochs} frozen context": Variant(
            (*PLAIN, f"lr={lr}", f"epochs={epochs}"), recipe=frozen_context
        )
        for lr in ("2e-4", "3e-4")
        for epochs in (1, 2, 3, 4)
    },
    "lr=5e-4 decaying": Variant((*PLAIN, "lr=5e-4"), recipe=decaying),
    "lr=1e-3 epochs=1 decaying": Variant((*PLAIN, "lr=1e-3", "epochs=1"), recipe=decaying),
    "lr=5e-4 average": Variant((*PLAIN, "lr=5e-4"), average=0.7),
    "lr=5e-4 epochs=1 average": Variant((*PLAIN, "lr=5e-4", "epochs=1"), average=0.6),
    "lr=1e-3 epochs=1 average": Variant((*PLAIN, "lr=1e-3", "epochs=1"), average=0.7),
    "lr=2e-3 epochs=1 muon window=256": Variant(
        (*PLAIN, "lr=2e-3", "epochs=1", "human.context_tokens=256", "human.window_tokens=256"),
        optimizer=muon(0.9),
    ),
    "lr=2e-3 epochs=1 muon window=128": Variant(
        (*PLAIN, "lr=2e-3", "epochs=1", "human.context_tokens=256", "human.window_tokens=128"),
        optimizer=muon(0.9),
    ),
    "lr=2e-4 window=256": Variant((*PLAIN, "lr=2e-4", "human.context_tokens=256", "human.window_tokens=256")),
    "lr=2e-4 epochs=1 window=128": Variant(
        (*PLAIN, "lr=2e-4", "epochs=1", "human.context_tokens=128", "human.window_tokens=128")
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
        (*PLAIN, "lr=2e-4", "human.context_tokens=128", "human.window_tokens=128"), recipe=hardest_half
    ),
}
