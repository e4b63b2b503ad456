"""Replay: while the model learns what it wrote, its predictions for samples of its own stay what they were.

A model that learns its own text drifts away from the rest of the language. Here samples are drawn before it
learns any, each with the likeliest next tokens at every place. A training step then also minimises the KL
divergence from these predictions, as in learning without forgetting (arXiv 1606.09282) and self-distillation
(arXiv 2605.26097). What a person wrote is learnt first and is part of what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import logits_bytes, top_divergence, top_predictions
from templora_cli.engine.training.objective import Loss, StepMemory, StepSizes

SAMPLE_TOKENS = 128
"""Tokens of a sample, at most those of a training window."""
LOGIT_COPIES = 5
"""Where the model cannot slice: the logits in float32, their log-softmax, and the gradients of all three."""
TOP = 64
"""The likeliest tokens at each place that are stored; all others count as one."""


@dataclass(frozen=True)
class Samples:
    """Samples of the model after `prompt`, and what it predicted at each of their places."""

    prompt: tuple[int, ...]
    tokens: Tensor
    """[samples, length], int64, on the CPU."""
    ids: Tensor | None = None
    """The likeliest tokens [samples, length, top], int32, on the CPU; None until `predicted`."""
    logs: Tensor | None = None
    """Their log-probabilities, float32."""

    def predicted(self, model: AdaptedModel) -> Samples:
        """These samples with the predictions of the model as it is now."""
        model.module.eval()
        pairs = [top_predictions(model.module, self.prompt, some, TOP) for some in self.tokens.tolist()]
        ids, logs = zip(*pairs, strict=True)
        return Samples(self.prompt, self.tokens, torch.stack(ids), torch.stack(logs))

    def unpredicted(self) -> Samples:
        """The samples alone: the model has changed for a reason, and its predictions may."""
        return Samples(self.prompt, self.tokens)

    def divergence(self, number: int, model: AdaptedModel) -> Loss:
        """The mean KL divergence, in nats, of the model from what was predicted for a sample.

        `number` may exceed that of the samples: it goes round.
        """
        assert self.ids is not None and self.logs is not None
        which = number % len(self.tokens)
        tokens, ids, logs = self.tokens[which].tolist(), self.ids[which], self.logs[which]
        return lambda: top_divergence(model.module, self.prompt, tokens, ids, logs).mean()


def step_memory(sizes: StepSizes) -> StepMemory:
    """The memory of the divergence in a training step, beside the gradients of the chunk's loss."""
    logits = logits_bytes(sizes.scored, sizes.vocab_size, LOGIT_COPIES, sliced=sizes.model_can_slice)
    return StepMemory(sizes.activations + max(0, sizes.backward - logits), logits)
