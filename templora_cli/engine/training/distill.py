"""Context distillation: what has left the window is taught by the base that still sees it."""

from __future__ import annotations

import torch

from templora_cli.config import LearningConfig
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import FLOAT, chunk_logits, kl_divergence
from templora_cli.engine.training.objective import Loss, StepMemory, StepSizes, Window


class Distill:
    """Context distillation: the base, which sees `teacher_context_tokens` of the book, teaches base +
    adapter, which see the short context.
    """

    copies = 4
    """Of the student's logits, which are there whole: as those of nll, and the divergence."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
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
