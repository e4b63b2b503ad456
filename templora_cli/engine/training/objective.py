"""What a training step minimises, and what it learns from.

An objective says what its loss is and what it needs: how much of the book it reads at once, which the window
check asks, and what it holds in memory, which the planner asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from templora_cli.config import LearningConfig
from templora_cli.engine.training.adapted_model import AdaptedModel

Loss = Callable[[], Tensor]
"""The loss of a step, mean over the tokens that count, in nats; called once for each pass."""


@dataclass(frozen=True)
class Window:
    """What one step learns: (context -> tokens), a part of a chunk or the whole of it."""

    header: tuple[int, ...]
    context: tuple[int, ...]
    """What training shows before the tokens."""
    book: tuple[int, ...]
    """What stands before them in the book, as far as a teacher sees."""
    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...]


@dataclass(frozen=True)
class StepSizes:
    """What decides the memory of a training step, in tokens or, where it is said, in bytes."""

    header: int
    chunk: int
    """The longest one."""
    counting: int
    """Tokens of the chunk that one step learns."""
    vocabulary: int
    sliced: bool
    """Can the loss be taken in slices of the logits?"""
    kept: int
    """Activations that are kept for the backward pass, bytes."""
    backward: int
    """What that makes beside them, bytes."""
    forward: Callable[[int], int]
    """Bytes of the activations of a forward pass without gradients over so many tokens."""


class StepMemory(NamedTuple):
    """Bytes at the peak of a training step, beside what is held all the time."""

    activations: int
    logits: int


class Objective(Protocol):
    """How (context -> tokens) is learnt."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
        """The loss of a step over `window`; None where there is nothing to learn from it."""

    def reads(self, learning: LearningConfig) -> int:
        """Tokens of the book before a chunk that it reads beside those that training shows."""

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """What a step takes."""
