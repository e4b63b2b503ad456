"""Logits to token, drawn from what `generate()` of transformers would draw from, with a generator of ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.errors import TemploraError

GREEDY_BELOW = 0.01
"""Temperatures below it take the likeliest token: divided by them, logits overflow."""
NEAR = 10.0
"""Nats below the likeliest token within which the others are looked for first: few are, and sorting few is
a hundred times as fast as sorting the vocabulary."""
ONE = 1 << 40
"""The share 1 as a whole number."""
NOT_NUMBERS = "its weights may be damaged, or too large for 16 bits: begin again with another --quantize"


def sampler_for(config: DecodeConfig, generator: torch.Generator, banned: Iterable[int]) -> Sampler:
    """What draws fastest where `generator` and the logits are."""
    kind = HostSampler if generator.device.type == "cpu" else Sampler
    return kind(config, generator, banned)


class Sampler:
    """Draws one token at a time; all its randomness is the state of `generator`.

    A GPU is waited for once a token, for the token itself.
    """

    def __init__(self, config: DecodeConfig, generator: torch.Generator, banned: Iterable[int]) -> None:
        """`banned` tokens never come out: end of text and the other special tokens."""
        self.config = config
        self.generator = generator
        known = sorted(set(banned))
        self._most_banned = known[-1] if known else -1
        self.banned = torch.tensor(known, dtype=torch.long, device=generator.device)
        self._ids: list[int] = []
        self._penalty = torch.empty(0)
        """[V] the repetition penalty where a token is among `_ids`, else 1."""

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """The token that follows `ids`, given the model's `logits` [V] for that place."""
        scores = logits.float()
        if self.config.repetition_penalty != 1:
            penalty = self._penalty_of(ids, scores)
            scores = torch.where(scores < 0, scores * penalty, scores / penalty)
        else:
            scores = scores.clone()
        # A tokenizer may have special tokens that the model has no logits for.
        most = len(scores) - 1
        banned = self.banned[self.banned <= most] if self._most_banned > most else self.banned
        scores.index_fill_(0, banned, -math.inf)
        if self.config.temperature < GREEDY_BELOW:
            return int(scores.argmax())
        tokens, shares = self.candidates(scores.div_(self.config.temperature))
        # As `torch.multinomial` draws one, which stops a GPU for good where a share is not a number.
        race = shares / torch.empty_like(shares).exponential_(generator=self.generator)
        token = tokens.gather(0, race.argmax(0, keepdim=True))
        drawn = int(torch.where(shares[:1].isfinite(), token, -1))
        if drawn < 0:
            raise TemploraError("the model's logits are not numbers", NOT_NUMBERS)
        return drawn

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n], the likeliest first, and their shares by `scores` [V]: 0 where one is cut.

        top_k, top_p and min_p cut in this order, as in `generate()`; those left need not sum to 1.
        """
        values, tokens = scores.sort(descending=True, stable=True)
        if self.config.top_k:
            values, tokens = values[: self.config.top_k], tokens[: self.config.top_k]
        shares = values.softmax(-1)
        # In whole numbers: a GPU adds up floats in another order each time.
        counts = (shares * ONE).long()
        before = counts.cumsum(-1) - counts  # what the likelier ones hold
        kept = (before < self.config.top_p * ONE) & (shares >= self.config.min_p * shares[0])
        kept[0] = True  # rounding may not leave none
        return tokens, shares * kept

    def _penalty_of(self, ids: Sequence[int], scores: Tensor) -> Tensor:
        known = len(self._ids)
        if len(self._penalty) != len(scores) or list(ids[:known]) != self._ids:
            self._penalty, self._ids, known = torch.ones_like(scores), [], 0
        fresh = list(ids[known:])
        if len(fresh) == 1:  # a number needs no copying to the device
            self._penalty[fresh[0]] = self.config.repetition_penalty
        elif fresh:
            self._penalty[torch.tensor(fresh, device=scores.device)] = self.config.repetition_penalty
        self._ids += fresh
        return self._penalty


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
        """Tokens [n] that may come out by `scores` [V], and their probabilities, which need not sum to 1."""
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

    def _are_enough(self, tokens: int, held: float) -> bool:
        """Do so many of the likeliest tokens, which hold that share, hold all that the cuts can leave?"""
        if self.config.top_k:
            return tokens >= self.config.top_k
        return held > self.config.top_p or self.config.min_p >= math.exp(-NEAR)
