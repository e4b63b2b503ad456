"""The recipes of `benchmarks.recipes` by name, and their parts."""

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
    """A recipe: settings as for `--set`, and other parts of learning that it replaces."""

    settings: tuple[str, ...] = ()
    prepare: Callable[[loading.LanguageModel], None] = lambda model: None
    """Called once after loading: it selects or initialises the matrices that learn."""
    optimizer: Callable[[loading.LanguageModel], torch.optim.Optimizer] | None = None
    """Replaces AdamW with its default betas; the loop sets the learning rate of the first group."""
    replay: int = 0
    """The number of earlier chunks, drawn at random, that are learnt again after each chunk."""
    average: float = 0.0
    """The decay of a running mean of the adapters, with which chunks are then scored; 0 for no mean."""
    recipe: Callable[[AdaptedModel], Recipe] = lambda model: RECIPE
    """The objective, windows and learning rate of a chunk."""


def train_only(*parts: str) -> Callable[[loading.LanguageModel], None]:
    """Learn only the matrices whose names contain one of `parts`."""

    def prepare(model: loading.LanguageModel) -> None:
        for name in list(model.adapter):
            if not any(part in name for part in parts):
                model.adapter.pop(name).requires_grad_(False)

    return prepare


def train_blocks(first: int, last: int) -> Callable[[loading.LanguageModel], None]:
    """Learn only the blocks from `first` up to, but not including, `last`."""
    return train_only(*(f"layers.{number}." for number in range(first, last)))


def with_head(model: loading.LanguageModel) -> None:
    """Add an adapter of the same rank to the output head."""
    base = model.module.get_base_model()
    rank = next(len(weight) for name, weight in model.adapter.items() if "lora_A" in name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base.lm_head = LoraLinear(base.lm_head, "head", LoraConfig(r=rank, lora_alpha=rank), r=rank)
    for name, weight in base.lm_head.named_parameters():
        if "lora_" in name:
            model.adapter[f"lm_head.{name}"] = weight.requires_grad_(True)


def hardest_windows(model: AdaptedModel, candidates: list[Window]) -> list[Window]:
    """The half of the windows with the highest NLL, in their order."""

    def nll(window: Window) -> float:
        return chunk_nll(model.module, window.header + window.context, window.tokens).mean().item()

    with torch.no_grad():
        selected = sorted(candidates, key=nll, reverse=True)[: math.ceil(len(candidates) / 2)]
    return [window for window in candidates if window in selected]


def hardest_half(model: AdaptedModel) -> Recipe:
    """Learn only the half of the windows of a chunk with the highest NLL."""

    def select(
        turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig, extra: int = 0
    ) -> list[Window]:
        return hardest_windows(model, windows(turn, chunk, book, learning, extra))

    return Recipe(windows=select)


def orthogonal_a(model: loading.LanguageModel) -> None:
    """Initialise A with orthogonal rows, with the norm that PEFT's uniform initialisation has."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.adapter.items():
            if "lora_A" in name:
                norm = weight.norm()
                weight.copy_(torch.linalg.qr(torch.randn(weight.T.shape, generator=generator))[0].T)
                weight.mul_(norm / weight.norm())


def scaled_a(factor: float) -> Callable[[loading.LanguageModel], None]:
    """Multiply the initial A of PEFT by `factor`."""

    def prepare(model: loading.LanguageModel) -> None:
        with torch.no_grad():
            for name, weight in model.adapter.items():
                if "lora_A" in name:
                    weight.mul_(factor)

    return prepare


def adamw(beta1: float, beta2: float) -> Callable[[loading.LanguageModel], torch.optim.Optimizer]:
    """AdamW with these betas."""
    return lambda model: torch.optim.AdamW(model.adapter.values(), betas=(beta1, beta2), weight_decay=0.0)


def muon(momentum: float) -> Callable[[loading.LanguageModel], torch.optim.Optimizer]:
    """Muon with this momentum."""
    return lambda model: Muon(model.adapter.values(), momentum=momentum)


def sgd(model: loading.LanguageModel) -> torch.optim.Optimizer:
    """SGD with momentum 0.9."""
    return torch.optim.SGD(model.adapter.values(), momentum=0.9)


class LoraPlus(torch.optim.AdamW):
    """AdamW with a learning rate for B that is `ratio` times that for A (LoRA+, arXiv 2402.12354)."""

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
    """AdamW with a tenth of the learning rate for the key projections."""

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
    """Like `chunk_nll`, but with constant keys and values for the prompt, and without a mask."""
    assert not any(mask)
    cache = None
    if prompt[:-1]:
        with torch.no_grad():
            _, cache = logits_at(module, prompt[:-1], [0], use_cache=True)
    ids = [prompt[-1], *chunk[:-1]]
    logits, _ = logits_at(module, ids, range(len(ids)), cache=cache, use_cache=True)
    return cross_entropy(logits.float(), torch.tensor(list(chunk), device=logits.device), reduction="none")


class FrozenContext(NegativeLogLikelihood):
    """The NLL without a gradient through the prompt: its keys and values are constants."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        return lambda: frozen_context_nll(model.module, prompt, tokens, mask).mean()


def frozen_context(model: AdaptedModel) -> Recipe:
    """A recipe with `FrozenContext` as the `nll` objective."""
    return Recipe(objectives={"nll": FrozenContext()})


class AdapterAverage:
    """A running mean of the adapters; inside a `with` block the model uses it instead of its adapter."""

    def __init__(self, model: loading.LanguageModel, decay: float) -> None:
        self.adapter, self.decay = model.adapter, decay
        self.mean = {name: weight.detach().clone() for name, weight in model.adapter.items()}

    def update(self) -> None:
        """Include the present adapter in the mean."""
        for name, weight in self.adapter.items():
            self.mean[name].lerp_(weight.detach(), 1 - self.decay)

    def _swap(self) -> None:
        for name, weight in self.adapter.items():
            saved = weight.detach().clone()
            weight.data.copy_(self.mean[name])
            self.mean[name] = saved

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error: object) -> None:
        self._swap()


def decaying_rate(model: AdaptedModel) -> Recipe:
    """A learning rate that falls with the number of chunks: to half after twelve."""

    def rate(chunk: int, learning: LearningConfig, train: TrainConfig) -> float:
        return learning_rate(chunk, learning, train) * float((1 + chunk / 4) ** -0.5)

    return Recipe(rate=rate)


WHOLE_CHUNKS = ("dropout=0.0", "epochs=2", "human.context_tokens=2048", "human.window_tokens=0")
"""Whole chunks in two passes, as in the paper; later settings of a recipe override these."""

VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "paper": Variant(("recipe=paper",)),
    "default frozen context": Variant(recipe=frozen_context),
    "paper frozen context": Variant(("recipe=paper",), recipe=frozen_context),
    **{f"lr={lr}": Variant((*WHOLE_CHUNKS, f"lr={lr}")) for lr in ("1e-4", "2e-4", "3e-4", "5e-4", "1e-3")},
    **{
        f"lr={lr} epochs=1": Variant((*WHOLE_CHUNKS, f"lr={lr}", "epochs=1"))
        for lr in ("2e-4", "3e-4", "5e-4", "1e-3")
    },
    "lr=2e-4 dropout=0.05": Variant((*WHOLE_CHUNKS, "lr=2e-4", "dropout=0.05")),
    "lr=2e-4 warmup=0": Variant((*WHOLE_CHUNKS, "lr=2e-4", "warmup_chunks=0")),
    "lr=2e-4 rank=16": Variant((*WHOLE_CHUNKS, "lr=2e-4", "rank=16", "alpha=16")),
    "lr=2e-4 rank=16 alpha=64": Variant((*WHOLE_CHUNKS, "lr=2e-4", "rank=16", "alpha=64")),
    "lr=5e-4 rank=8 alpha=8": Variant((*WHOLE_CHUNKS, "lr=5e-4", "rank=8", "alpha=8")),
    "lr=2e-4 rank=128": Variant((*WHOLE_CHUNKS, "lr=2e-4", "rank=128", "alpha=128")),
    # rsLoRA (arXiv 2312.03732) scales by alpha / sqrt(rank): alpha 64 at rank 64 acts like alpha 512.
    "lr=2e-4 rslora": Variant((*WHOLE_CHUNKS, "lr=2e-4", "alpha=512")),
    "lr=5e-5 rslora": Variant((*WHOLE_CHUNKS, "lr=5e-5", "alpha=512")),
    "lr=2e-4 alpha=128": Variant((*WHOLE_CHUNKS, "lr=2e-4", "alpha=128")),
    "lr=2e-4 mlp": Variant((*WHOLE_CHUNKS, "lr=2e-4"), train_only("mlp")),
    "lr=2e-4 attention": Variant((*WHOLE_CHUNKS, "lr=2e-4"), train_only("self_attn")),
    "lr=2e-4 upper half": Variant((*WHOLE_CHUNKS, "lr=2e-4"), train_blocks(15, 30)),
    "lr=2e-4 lower half": Variant((*WHOLE_CHUNKS, "lr=2e-4"), train_blocks(0, 15)),
    "lr=2e-4 betas=0.9,0.95": Variant((*WHOLE_CHUNKS, "lr=2e-4"), optimizer=adamw(0.9, 0.95)),
    "lr=2e-4 betas=0.8,0.95": Variant((*WHOLE_CHUNKS, "lr=2e-4"), optimizer=adamw(0.8, 0.95)),
    "lr=2e-4 betas=0.9,0.99": Variant((*WHOLE_CHUNKS, "lr=2e-4"), optimizer=adamw(0.9, 0.99)),
    "lr=3e-4 betas=0.9,0.99": Variant((*WHOLE_CHUNKS, "lr=3e-4"), optimizer=adamw(0.9, 0.99)),
    "lr=1e-1 sgd": Variant((*WHOLE_CHUNKS, "lr=1e-1"), optimizer=sgd),
    "lr=1.0 sgd": Variant((*WHOLE_CHUNKS, "lr=1.0"), optimizer=sgd),
    "lr=2e-4 muon": Variant((*WHOLE_CHUNKS, "lr=2e-4"), optimizer=muon(0.9)),
    "lr=1e-3 muon": Variant((*WHOLE_CHUNKS, "lr=1e-3"), optimizer=muon(0.9)),
    "lr=1e-4 lora+ 4": Variant((*WHOLE_CHUNKS, "lr=1e-4"), optimizer=lambda model: LoraPlus(model, 4)),
    "lr=5e-5 lora+ 16": Variant((*WHOLE_CHUNKS, "lr=5e-5"), optimizer=lambda model: LoraPlus(model, 16)),
    "lr=2e-4 orthogonal A": Variant((*WHOLE_CHUNKS, "lr=2e-4"), orthogonal_a),
    "lr=2e-4 A x 2": Variant((*WHOLE_CHUNKS, "lr=2e-4"), scaled_a(2)),
    "lr=2e-4 A x 4": Variant((*WHOLE_CHUNKS, "lr=2e-4"), scaled_a(4)),
    "lr=2e-4 context=0": Variant((*WHOLE_CHUNKS, "lr=2e-4", "human.context_tokens=0")),
    "lr=2e-4 context=256": Variant((*WHOLE_CHUNKS, "lr=2e-4", "human.context_tokens=256")),
    "lr=2e-4 epochs=1 replay=1": Variant((*WHOLE_CHUNKS, "lr=2e-4", "epochs=1"), replay=1),
    "lr=3e-4 epochs=1 replay=1": Variant((*WHOLE_CHUNKS, "lr=3e-4", "epochs=1"), replay=1),
    **{
        f"lr={lr} epochs={epochs} frozen context": Variant(
            (*WHOLE_CHUNKS, f"lr={lr}", f"epochs={epochs}"), recipe=frozen_context
        )
        for lr in ("2e-4", "3e-4")
        for epochs in (1, 2, 3, 4)
    },
    "lr=5e-4 decaying": Variant((*WHOLE_CHUNKS, "lr=5e-4"), recipe=decaying_rate),
    "lr=1e-3 epochs=1 decaying": Variant((*WHOLE_CHUNKS, "lr=1e-3", "epochs=1"), recipe=decaying_rate),
    "lr=5e-4 average": Variant((*WHOLE_CHUNKS, "lr=5e-4"), average=0.7),
    "lr=5e-4 epochs=1 average": Variant((*WHOLE_CHUNKS, "lr=5e-4", "epochs=1"), average=0.6),
    "lr=1e-3 epochs=1 average": Variant((*WHOLE_CHUNKS, "lr=1e-3", "epochs=1"), average=0.7),
    "lr=2e-3 epochs=1 muon window=256": Variant(
        (*WHOLE_CHUNKS, "lr=2e-3", "epochs=1", "human.context_tokens=256", "human.window_tokens=256"),
        optimizer=muon(0.9),
    ),
    "lr=2e-3 epochs=1 muon window=128": Variant(
        (*WHOLE_CHUNKS, "lr=2e-3", "epochs=1", "human.context_tokens=256", "human.window_tokens=128"),
        optimizer=muon(0.9),
    ),
    "lr=2e-4 window=256": Variant(
        (*WHOLE_CHUNKS, "lr=2e-4", "human.context_tokens=256", "human.window_tokens=256")
    ),
    "lr=2e-4 epochs=1 window=128": Variant(
        (*WHOLE_CHUNKS, "lr=2e-4", "epochs=1", "human.context_tokens=128", "human.window_tokens=128")
    ),
    "lr=1e-3 epochs=1 mlp": Variant((*WHOLE_CHUNKS, "lr=1e-3", "epochs=1"), train_only("mlp")),
    "lr=5e-4 epochs=1 mlp": Variant((*WHOLE_CHUNKS, "lr=5e-4", "epochs=1"), train_only("mlp")),
    **{
        f"lr={lr} epochs=1 muon": Variant((*WHOLE_CHUNKS, f"lr={lr}", "epochs=1"), optimizer=muon(0.9))
        for lr in ("5e-4", "1e-3", "2e-3", "4e-3", "8e-3")
    },
    "lr=2e-3 epochs=1 muon 0.95": Variant((*WHOLE_CHUNKS, "lr=2e-3", "epochs=1"), optimizer=muon(0.95)),
    "lr=2e-3 epochs=1 muon 0.8": Variant((*WHOLE_CHUNKS, "lr=2e-3", "epochs=1"), optimizer=muon(0.8)),
    "lr=2e-3 epochs=1 muon rank=16": Variant(
        (*WHOLE_CHUNKS, "lr=2e-3", "epochs=1", "rank=16", "alpha=16"), optimizer=muon(0.9)
    ),
    "lr=2e-4 epochs=1 lora+ 4": Variant(
        (*WHOLE_CHUNKS, "lr=2e-4", "epochs=1"), optimizer=lambda model: LoraPlus(model, 4)
    ),
    "lr=5e-4 epochs=1 rank=16": Variant((*WHOLE_CHUNKS, "lr=5e-4", "epochs=1", "rank=16", "alpha=16")),
    "lr=5e-4 epochs=1 rank=16 alpha=64": Variant(
        (*WHOLE_CHUNKS, "lr=5e-4", "epochs=1", "rank=16", "alpha=64")
    ),
    "lr=5e-4 epochs=1 A x 3": Variant((*WHOLE_CHUNKS, "lr=5e-4", "epochs=1"), scaled_a(3)),
    "lr=5e-4 epochs=1 betas=0.9,0.99": Variant(
        (*WHOLE_CHUNKS, "lr=5e-4", "epochs=1"), optimizer=adamw(0.9, 0.99)
    ),
    "lr=2e-4 epochs=3": Variant((*WHOLE_CHUNKS, "lr=2e-4", "epochs=3")),
    "lr=2e-4 and the output head": Variant((*WHOLE_CHUNKS, "lr=2e-4"), with_head),
    "lr=2e-4 slow keys": Variant((*WHOLE_CHUNKS, "lr=2e-4"), optimizer=SlowKeys),
    "lr=2e-4 window=128 hardest half": Variant(
        (*WHOLE_CHUNKS, "lr=2e-4", "human.context_tokens=128", "human.window_tokens=128"), recipe=hardest_half
    ),
}
