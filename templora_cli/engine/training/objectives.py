"""What a training step minimises: a table of objectives.

Each says what its loss is and what it needs: how much of the book it reads at once, which the window check
asks, and what it holds in memory, which the planner asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from templora_cli.config import LearningConfig
from templora_cli.engine.training.loss import chunk_logits, chunk_nll, kl_divergence
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


class Objective(Protocol):
    """How (context -> tokens) is learnt."""

    def loss(self, window: Window, model: Model, learning: LearningConfig) -> Loss | None:
        """The loss of a step over `window`; None where there is nothing to learn from it."""

    def reads(self, learning: LearningConfig) -> int:
        """Tokens of the book before a chunk that it reads beside those that training shows."""


class NegativeLogLikelihood:
    """The paper's objective (section 3.2): negative log-likelihood of the chunk after its context."""

    def loss(self, window: Window, model: Model, learning: LearningConfig) -> Loss | None:
        """See `Objective.loss`."""
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        return lambda: chunk_nll(model.module, prompt, tokens, mask).mean()

    def reads(self, learning: LearningConfig) -> int:
        """See `Objective.reads`."""
        return 0


class Distill:
    """Context distillation: the base, which sees `teacher_context_tokens` of the book, teaches base +
    adapter, which see the short context.
    """

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


OBJECTIVES: dict[str, Objective] = {"nll": NegativeLogLikelihood(), "distill": Distill()}
"""By their names in `[given]` and `[own]`."""
