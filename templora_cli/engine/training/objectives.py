"""What a training step minimises: a table of objectives.

Each says what its loss is and what it needs: how much of the book it reads at once, which the window check
asks, and what it holds in memory, which the planner asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from templora_cli.config import LearningConfig
from templora_cli.engine.training.loss import FLOAT, chunk_logits, chunk_nll, kl_divergence, logits_bytes
from templora_cli.engine.training.model import Model

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

    def loss(self, window: Window, model: Model, learning: LearningConfig) -> Loss | None:
        """The loss of a step over `window`; None where there is nothing to learn from it."""

    def reads(self, learning: LearningConfig) -> int:
        """Tokens of the book before a chunk that it reads beside those that training shows."""

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """What a step takes."""


class NegativeLogLikelihood:
    """The paper's objective (section 3.2): negative log-likelihood of the chunk after its context."""

    copies = 3
    """Of the logits, where they are not taken in slices: their log-softmax, and the gradients of both."""

    def loss(self, window: Window, model: Model, learning: LearningConfig) -> Loss | None:
        """See `Objective.loss`."""
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        return lambda: chunk_nll(model.module, prompt, tokens, mask).mean()

    def reads(self, learning: LearningConfig) -> int:
        """See `Objective.reads`."""
        return 0

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """See `Objective.memory`. The logits are gone before the first layer's gradients come."""
        logits = logits_bytes(sizes.counting, sizes.vocabulary, self.copies, sliced=sizes.sliced)
        return StepMemory(sizes.kept + max(0, sizes.backward - logits), logits)


class Distill:
    """Context distillation: the base, which sees `teacher_context_tokens` of the book, teaches base +
    adapter, which see the short context.
    """

    copies = 4
    """Of the student's logits, which are there whole: as those of nll, and the divergence."""

    def loss(self, window: Window, model: Model, learning: LearningConfig) -> Loss | None:
        """See `Objective.loss`.

        Where nothing has left the window yet the teacher has nothing to teach: an optimizer that scales its
        steps would make whole ones out of rounding errors.
        """
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        seen = window.book[max(0, len(window.book) - learning.teacher_context_tokens) :]
        longer = window.header + seen
        if len(longer) <= len(prompt):
            return None
        model.module.eval()
        with torch.no_grad(), model.without_adapter():
            teacher = chunk_logits(model.module, longer, tokens, mask).log_softmax(-1)
        return lambda: kl_divergence(teacher, chunk_logits(model.module, prompt, tokens, mask)).mean()

    def reads(self, learning: LearningConfig) -> int:
        """See `Objective.reads`."""
        return learning.teacher_context_tokens

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """See `Objective.memory`. The teacher's logits are there for all windows of the chunk."""
        taught = sizes.forward(sizes.header + learning.teacher_context_tokens + sizes.chunk)
        whole, rows = (tokens * sizes.vocabulary * FLOAT for tokens in (sizes.chunk, sizes.counting))
        return StepMemory(max(taught, sizes.kept), whole + max(self.copies * rows, sizes.backward))


OBJECTIVES: dict[str, Objective] = {"nll": NegativeLogLikelihood(), "distill": Distill()}
"""By their names in `[given]` and `[own]`."""
