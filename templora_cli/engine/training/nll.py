"""The paper's objective: negative log-likelihood."""

from __future__ import annotations

from templora_cli.config import LearningConfig
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_nll, logits_bytes
from templora_cli.engine.training.objective import Loss, StepMemory, StepSizes, Window


class NegativeLogLikelihood:
    """The paper's objective (section 3.2): negative log-likelihood of the chunk after its context."""

    logit_copies = 3
    """Where the model cannot slice: the log-softmax of the logits, and the gradients of both."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
        """See `Objective.loss`."""
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        return lambda: chunk_nll(model.module, prompt, tokens, mask).mean()

    def extra_context_tokens(self, learning: LearningConfig) -> int:
        """See `Objective.extra_context_tokens`."""
        return 0

    def memory(self, sizes: StepSizes, learning: LearningConfig) -> StepMemory:
        """See `Objective.memory`. The logits are freed before the layers' gradients are allocated."""
        logits = logits_bytes(sizes.scored, sizes.vocab_size, self.logit_copies, sliced=sizes.model_can_slice)
        return StepMemory(sizes.activations + max(0, sizes.backward - logits), logits)
