"""Replay: while the model learns what it wrote, its predictions for samples of its own stay what they were.

A model that learns its own text drifts away from the rest of the language. Here samples are drawn before it
learns any, each with the likeliest next tokens at every place. A training step then also minimises the KL
divergence from these predictions, as in learning without forgetting (arXiv 1606.09282) and self-distillation
(arXiv 2605.26097). What a person wrote is learnt first and is part of what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_logits, top_divergence
from templora_cli.engine.training.objective import Loss

SAMPLE_TOKENS = 128
"""Tokens of a sample. It is never longer than a training window, so a step needs no more memory."""
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
        ids, logs = [], []
        model.module.eval()
        with torch.no_grad():
            for tokens in self.tokens.tolist():
                predictions = chunk_logits(model.module, self.prompt, tokens).log_softmax(-1)
                log, token = predictions.topk(min(TOP, predictions.shape[1]), -1)
                logs.append(log.cpu())
                ids.append(token.int().cpu())
        return Samples(self.prompt, self.tokens, torch.stack(ids), torch.stack(logs))

    def unpredicted(self) -> Samples:
        """The samples alone: the model has changed for a reason, and its predictions may."""
        return Samples(self.prompt, self.tokens)

    def divergence(self, number: int, model: AdaptedModel) -> Loss:
        """The mean KL divergence, in nats, of the model from what was predicted for a sample."""
        assert self.ids is not None and self.logs is not None
        which = number % len(self.tokens)
        tokens, ids, logs = self.tokens[which].tolist(), self.ids[which], self.logs[which]
        return lambda: top_divergence(model.module, self.prompt, tokens, ids, logs).mean()


def draw_samples(
    model: AdaptedModel, prompt: Sequence[int], number: int, length: int, *, seed: int, at_once: int
) -> Samples:
    """Draw samples of `length` tokens at a temperature of 1, `at_once` of them together."""
    model.module.eval()
    drawn: list[Tensor] = []
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for start in range(0, number, at_once):
            ids = torch.tensor([list(prompt)] * min(at_once, number - start), device=model.device)
            whole = model.module.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                repetition_penalty=1.0,
                min_new_tokens=length,
                max_new_tokens=length,
                suppress_tokens=list(model.banned_tokens),
                pad_token_id=0,
            )
            drawn.append(whole[:, len(prompt) :].cpu())
    return Samples(tuple(prompt), torch.cat(drawn))
