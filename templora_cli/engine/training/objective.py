"""The interface of an objective: the loss of a training step, and the context and memory that it needs.

The window check asks how much of the book an objective reads, and the planner how much memory it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from templora_cli.config import LearningConfig
from templora_cli.engine.training.adapted_model import AdaptedModel

Loss = Callable[[], Tensor]
"""Computes the loss of a step: the mean over its scored tokens, in nats. Called once per pass."""


@dataclass(frozen=True)
class Window:
    """The training example of one step (context -> tokens): a part of a chunk, or all of it."""

    header: tuple[int, ...]
    context: tuple[int, ...]
    """The tokens of the book that training shows before `tokens`."""
    longer_context: tuple[int, ...]
    """As many tokens of the book before `tokens` as the objective asked for (`extra_context_tokens`)."""
    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """Which of `tokens` are scored, at least one; empty for all."""


@dataclass(frozen=True)
class StepSizes:
    """The sizes that decide how much memory a training step takes."""

    header: int
    """Tokens of the prompt before the book."""
    chunk: int
    """Tokens of the longest chunk."""
    scored: int
    """Tokens of the chunk whose loss one step takes."""
    vocab_size: int
    model_can_slice: bool
    """Can this model compute a few rows of logits at a time, as `loss.chunk_nll` does?"""
    activations: int
    """Bytes of activations saved for the backward pass."""
    backward: int
    """Bytes that the backward pass allocates beside them."""
    forward: Callable[[int], int]
    """Bytes of activations of a forward pass without gradients, by its number of tokens."""


class StepMemory(NamedTuple):
    """Bytes at the peak of a training step. Model, adapter, gradients and optimizer are not counted here."""

    activations: int
    logits: int


class Objective(Protocol):
    """How a training example (context -> tokens) is learnt."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
        """The loss of a step over `window`; None where it would teach nothing, and the step is skipped."""

    def extra_context_tokens(self, learning: LearningConfig) -> int:
        """Tokens of the book that the loss reads before a chunk, beyond the training context; 0 for none."""

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """The memory of one step, for the planner.

        `activations` includes `sizes.backward`, less any logits that are freed before it is allocated.
        """
