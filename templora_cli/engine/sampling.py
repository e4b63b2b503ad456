"""Logits to token, drawn from what `generate()` of transformers would draw from, with a generator of ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from templora_cli.config import DecodeConfig

GREEDY_BELOW = 0.01
"""Temperatures below it take the likeliest token: divided by them, logits overflow."""
NEAR = 10.0
"""Nats below the likeliest token within which the others are looked for first: few are, and sorting few is
a hundred times as fast as sorting the vocabulary."""


class Sampler:
    """Draws one token at a time; all its randomness is the state of `generator`."""

    def __init__(self, config: DecodeConfig, generator: torch.Generator, banned: Iterable[int]) -> None:
        """`banned` tokens never come out: end of text and the other special tokens."""
        self.config = config
        self.generator = generator
        self.banned = torch.tensor(sorted(set(banned)), dtype=torch.long, device=generator.device)
        self.penalty = RepetitionPenaltyLogitsProcessor(config.repetition_penalty)

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """The token that follows `ids`, given the model's `logits` [V] for that place."""
        scores = logits.float()
        if self.config.repetition_penalty != 1:
            scores = self.penalty(torch.tensor([list(ids)], device=scores.device), scores[None])[0]
        # A tokenizer may have special tokens that the model has no logits for.
        scores = scores.index_fill(0, self.banned[self.banned < len(scores)], -math.inf)
        if self.config.temperature < GREEDY_BELOW:
            return int(scores.argmax())
        tokens, probabilities = self.candidates(scores / self.config.temperature)
        return int(tokens[torch.multinomial(probabilities, 1, generator=self.generator)])

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n] that may come out by `scores` [V], and their probabilities, which need not sum to 1.

        top_k, top_p and min_p cut in this order, as in `generate()`.
        """
        near = self._near(scores)
        values, order = scores[near].sort(descending=True, stable=True)
        if self.config.top_k:
            values = values[: self.config.top_k]
        probabilities = (values - (values if self.config.top_k else scores).logsumexp(-1)).exp()
        before = probabilities.cumsum(-1) - probabilities  # what the likelier ones hold
        kept = (before < self.config.top_p) & (probabilities >= self.config.min_p * probabilities[0])
        kept[0] = True  # rounding may not leave none
        return near[order[: len(values)][kept]], probabilities[kept]

    def _near(self, scores: Tensor) -> Tensor:
        """Tokens [n] among which are all that the cuts can leave."""
        floor = scores.max() - NEAR
        near = (scores > floor).nonzero()[:, 0]
        if self.config.top_k:
            enough = len(near) >= self.config.top_k
        else:
            held = scores[near].logsumexp(-1) - scores.logsumexp(-1)
            enough = held.exp().item() > self.config.top_p or self.config.min_p >= math.exp(-NEAR)
        return near if enough else torch.arange(len(scores), device=scores.device)
