"""What turns gradients into steps: a table of optimizers, and what each keeps of a parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from templora_cli.engine.training.muon import Muon


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer, what a checkpoint holds of it, and what the planner asks about it."""

    make: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]
    """Of parameters and weight decay; each chunk sets the learning rate."""
    moments: tuple[str, ...]
    """Keys of its state that are as large as the parameter, in float32, on its device."""
    counters: tuple[str, ...] = ()
    """Keys of its state that are single numbers, on the CPU."""
    scratch: int = 0
    """Copies of all parameters that a step makes on a GPU beside them; on a CPU it takes them one by one."""


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
"""By their names in `[train]`."""

MOMENTS = tuple(key for kind in OPTIMIZERS.values() for key in kind.moments)
COUNTERS = tuple(key for kind in OPTIMIZERS.values() for key in kind.counters)
"""Keys that the state of some optimizer has."""
