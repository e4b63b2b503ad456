"""The paper's objective: negative log-likelihood."""

from __future__ import annotations

from templora_cli.config import LearningConfig
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_nll, logits_bytes
from templora_cli.engine.training.objective import Loss, StepMemory, StepSizes, Window


class NegativeLogLikelihood:
    """The paper's objective (section 3.2): negative log-likelihood of the chunk after its context."""

    copies = 3
    """Of the logits, where they are not taken in slices: their log-softmax, and the gradients of both."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
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
