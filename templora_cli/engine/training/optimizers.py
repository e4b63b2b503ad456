"""The table of optimizers, with the state that each stores per parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from templora_cli.engine.training.muon import Muon


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer: how it is made, which state a checkpoint saves, and how much memory it takes."""

    make: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]
    """Makes it from parameters and weight decay; each chunk sets the learning rate."""
    moments: tuple[str, ...]
    """State tensors with the shape of the parameter: float32, on its device."""
    counters: tuple[str, ...] = ()
    """State tensors with a single number, on the CPU."""
    scratch: int = 0
    """Copies of all parameters that a step makes on a GPU; on a CPU parameters are updated one by one."""


OPTIMIZERS = {
    "adamw": OptimizerKind(
        lambda parameters, decay: torch.optim.AdamW(parameters, weight_decay=decay),
        moments=("exp_avg", "exp_avg_sq"),
        counters=("step",),
        scratch=1,
    ),
    "muon": OptimizerKind(
        lambda parameters, decay: Muon(parameters, weight_decay=decay), moments=("momentum",)
    ),
}
"""Optimizers by their name in `[train]`."""

MOMENTS = tuple(key for kind in OPTIMIZERS.values() for key in kind.moments)
COUNTERS = tuple(key for kind in OPTIMIZERS.values() for key in kind.counters)
"""All state keys of all optimizers."""
