"""Logits to token, drawn from what `generate()` of transformers would draw from, with a generator of ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from templora_cli.config import DecodeConfig
from templora_cli.errors import TemploraError

GREEDY_BELOW = 0.01
"""Temperatures below it take the likeliest token: divided by them, logits overflow."""
NEAR = 10.0
"""Nats below the likeliest token within which the others are looked for first: few are, and sorting few is
a hundred times as fast as sorting the vocabulary."""
NOT_NUMBERS = "its weights may be damaged, or too large for 16 bits: begin again with another --quantize"


def sampler_for(config: DecodeConfig, generator: torch.Generator, banned: Iterable[int]) -> Sampler:
    """What draws fastest where `generator` and the logits are."""
    kind = HostSampler if generator.device.type == "cpu" else Sampler
    return kind(config, generator, banned)


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
            # torch.tensor takes four times as long for a list
            seen = torch.from_numpy(np.array(ids, np.int64)).to(scores.device)
            scores = self.penalty(seen[None], scores[None])[0]
        else:
            scores = scores.clone()
        # A tokenizer may have special tokens that the model has no logits for.
        scores[self.banned[self.banned < len(scores)]] = -math.inf
        if self.config.temperature < GREEDY_BELOW:
            return int(scores.argmax())
        tokens, probabilities = self.candidates(scores.div_(self.config.temperature))
        return int(tokens[torch.multinomial(probabilities, 1, generator=self.generator)])

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n] that may come out by `scores` [V], and their probabilities, which need not sum to 1.

        top_k, top_p and min_p cut in this order, as in `generate()`.
        """
        near, total = self._near(scores)
        values, order = scores[near].sort(descending=True, stable=True)
        shares = (values - values[0]).exp()
        if self.config.top_k:
            shares = shares[: self.config.top_k]
            total = shares.sum()
        probabilities = shares / total
        before = probabilities.cumsum(-1) - probabilities  # what the likelier ones hold
        kept = (before < self.config.top_p) & (probabilities >= self.config.min_p * probabilities[0])
        kept[0] = True  # rounding may not leave none
        return near[order[: len(kept)][kept]], probabilities[kept]

    def _near(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n] among which are all that the cuts can leave, and by what exp(score) / exp(most) is
        divided to be a probability.

        Of the vocabulary as few copies are made as can be: after a token's weights nothing of it is in the
        CPU's cache.
        """
        below = scores - scores.max()
        near = (below > -NEAR).nonzero()[:, 0]
        if not len(near):
            raise TemploraError("the model's logits are not numbers", NOT_NUMBERS)
        shares = below.exp_()
        total = shares.sum()
        if not self._are_enough(len(near), shares[near].sum() / total):
            near = torch.arange(len(scores), device=scores.device)
        return near, total

    def _are_enough(self, tokens: int, held: Any) -> bool:
        """Do so many of the likeliest tokens, which hold that share, hold all that the cuts can leave?"""
        if self.config.top_k:
            return tokens >= self.config.top_k
        return bool(held > self.config.top_p) or self.config.min_p >= math.exp(-NEAR)


class HostSampler(Sampler):
    """The same with numpy, for logits of a CPU.

    Half as long a token as with torch (docs/performance.md).
    """

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `Sampler.draw`."""
        scores = logits.float().numpy().copy()
        penalty = np.float32(self.config.repetition_penalty)
        if penalty != 1:
            seen = np.array(ids, np.int64)
            those = scores[seen]
            scores[seen] = np.where(those < 0, those * penalty, those / penalty)
        banned = self.banned.numpy()
        scores[banned[banned < len(scores)]] = -np.inf
        if self.config.temperature < GREEDY_BELOW:
            return int(scores.argmax())
        scores /= np.float32(self.config.temperature)
        tokens, probabilities = self.host_candidates(scores)
        return int(tokens[torch.multinomial(torch.from_numpy(probabilities), 1, generator=self.generator)])

    def host_candidates(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `Sampler.candidates`."""
        config = self.config
        with np.errstate(invalid="ignore"):  # infinity less infinity: told below
            below = scores - scores.max()
        near = np.flatnonzero(below > -NEAR)
        if not len(near):
            raise TemploraError("the model's logits are not numbers", NOT_NUMBERS)
        shares = np.exp(below)
        total = shares.sum()
        if not self._are_enough(len(near), shares[near].sum() / total):
            near = np.arange(len(scores))
        order = np.argsort(-below[near], kind="stable")
        if config.top_k:
            order = order[: config.top_k]
            total = shares[near[order]].sum()
        probabilities = shares[near[order]] / total
        before = probabilities.cumsum() - probabilities
        kept = (before < config.top_p) & (probabilities >= config.min_p * probabilities[0])
        kept[0] = True
        return near[order[kept]], probabilities[kept]
