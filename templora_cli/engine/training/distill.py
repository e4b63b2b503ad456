"""Context distillation: the base with a longer context teaches base + adapter with a shorter one."""

from __future__ import annotations

import torch

from templora_cli.config import LearningConfig
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import FLOAT, chunk_logits, kl_divergence
from templora_cli.engine.training.objective import Loss, StepMemory, StepSizes, Window


class Distill:
    """Context distillation: the teacher is the base with `teacher_context_tokens` of the book, the student is
    base + adapter with the training context.
    """

    logit_copies = 4
    """Of the student's logits, all rows at once: the three of nll, and the divergence."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
        """See `Objective.loss`.

        None while the teacher sees no more than the student: the loss would be rounding errors, which Adam
        would scale to full steps.
        """
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        start = max(0, len(window.longer_context) - learning.teacher_context_tokens)
        longer = window.header + window.longer_context[start:]
        if len(longer) <= len(prompt):
            return None
        model.module.eval()
        with torch.no_grad(), model.without_adapter():
            teacher = chunk_logits(model.module, longer, tokens, mask).log_softmax(-1)
        return lambda: kl_divergence(teacher, chunk_logits(model.module, prompt, tokens, mask)).mean()

    def extra_context_tokens(self, learning: LearningConfig) -> int:
        """See `Objective.extra_context_tokens`."""
        return learning.teacher_context_tokens

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """See `Objective.memory`. The teacher's logits of all windows are held until the chunk is learnt."""
        teacher_pass = sizes.forward(sizes.header + learning.teacher_context_tokens + sizes.chunk)
        teacher, student = (tokens * sizes.vocab_size * FLOAT for tokens in (sizes.chunk, sizes.scored))
        logits = teacher + max(self.logit_copies * student, sizes.backward)
        return StepMemory(max(teacher_pass, sizes.activations), logits)
