"""Logits to token, drawn from what `generate()` of transformers would draw from, with a generator of ours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors import PROCESSORS
from templora_cli.engine.decoding.processors.candidates import DeviceCandidates, HostCandidates
from templora_cli.engine.decoding.processors.processor import Cut, Processor, ScoreProcessor
from templora_cli.errors import TemploraError

GREEDY_BELOW = 0.01
"""Temperatures below it take the likeliest token: divided by them, logits overflow."""
NEAR = 10.0
"""Nats below the likeliest token within which the others are looked for first: few are, and sorting few is
a hundred times as fast as sorting the vocabulary."""
NOT_NUMBERS = "its weights may be damaged, or too large for 16 bits: begin again with another --quantize"

Kinds = Sequence[type[Processor]]


def sampler_for(config: DecodeConfig, generator: torch.Generator, banned: Iterable[int]) -> Sampler:
    """What draws fastest where `generator` and the logits are."""
    kind = HostSampler if generator.device.type == "cpu" else DeviceSampler
    return kind(config, generator, banned)


def distribution(
    config: DecodeConfig,
    banned: Iterable[int],
    logits: Tensor,
    ids: Sequence[int],
    kinds: Kinds = PROCESSORS,
) -> Tensor:
    """The probability [V] of each token after `ids`, float64, by definition: what samplers draw from."""
    scores = logits.double().cpu()
    for processor in _switched_on(config, banned, scores.device, kinds):
        scores = processor.by_definition(scores, ids)
    if _is_greedy(config):
        return torch.nn.functional.one_hot(scores.argmax(), len(scores)).double()
    return scores.softmax(-1)


def _is_greedy(config: DecodeConfig) -> bool:
    return config.temperature < GREEDY_BELOW


def _switched_on(
    config: DecodeConfig, banned: Iterable[int], device: torch.device, kinds: Kinds
) -> list[Processor]:
    """Those that have something to do with these settings."""
    known = sorted(set(banned))
    processors = [kind(config, known, device) for kind in kinds]
    return [one for one in processors if one.is_on and not (one.warps and _is_greedy(config))]


class Sampler(ABC):
    """Draws one token at a time; all its randomness is the state of `generator`."""

    def __init__(
        self,
        config: DecodeConfig,
        generator: torch.Generator,
        banned: Iterable[int],
        kinds: Kinds = PROCESSORS,
    ) -> None:
        """`banned` tokens never come out: end of text and the other special tokens.

        Among `kinds` those of scores come before the cuts.
        """
        self.generator, self.is_greedy = generator, _is_greedy(config)
        processors = _switched_on(config, banned, generator.device, kinds)
        self.scoring = [one for one in processors if isinstance(one, ScoreProcessor)]
        self.cuts = [one for one in processors if isinstance(one, Cut)]

    @abstractmethod
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """The token that follows `ids`, given the model's `logits` [V] for that place, which stay as they
        are. Raises TemploraError where they are not numbers."""


class DeviceSampler(Sampler):
    """With torch. A GPU is waited for once a token, for the token itself."""

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `Sampler.draw`."""
        scores = self.scores(ids, logits)
        if self.is_greedy:
            return int(scores.argmax())
        tokens, shares = self.candidates(scores)
        # As `torch.multinomial` draws one, which stops a GPU for good where a share is not a number.
        race = shares / torch.empty_like(shares).exponential_(generator=self.generator)
        token = tokens.gather(0, race.argmax(0, keepdim=True))
        drawn = int(torch.where(shares[:1].isfinite(), token, -1))
        if drawn < 0:
            raise TemploraError("the model's logits are not numbers", NOT_NUMBERS)
        return drawn

    def scores(self, ids: Sequence[int], logits: Tensor) -> Tensor:
        """The scores [V] of all tokens, float32."""
        scores = logits.to(torch.float32, copy=True)
        for processor in self.scoring:
            scores = processor.on_device(scores, ids)
        return scores

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n], the likeliest first, and their shares by `scores` [V]: 0 where one is cut.

        Those left need not sum to 1.
        """
        candidates = DeviceCandidates(scores)
        for cut in self.cuts:
            cut.cut(candidates)
        return candidates.tokens, candidates.left


class HostSampler(Sampler):
    """With numpy, for logits of a CPU: half as long a token as with torch (docs/performance.md)."""

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `Sampler.draw`."""
        scores = self.scores(ids, logits)
        if self.is_greedy:
            return int(scores.argmax())
        tokens, shares = self.candidates(scores)
        return int(tokens[torch.multinomial(torch.from_numpy(shares), 1, generator=self.generator)])

    def scores(self, ids: Sequence[int], logits: Tensor) -> NDArray[np.float32]:
        """The scores [V] of all tokens."""
        scores: NDArray[np.float32] = logits.float().numpy().copy()
        for processor in self.scoring:
            scores = processor.on_host(scores, ids)
        return scores

    def candidates(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Tokens [n] that may come out by `scores` [V], and their shares, which need not sum to 1."""
        with np.errstate(invalid="ignore"):  # infinity less infinity: told below
            below = scores - scores.max()
        near = np.flatnonzero(below > -NEAR)
        if not len(near):
            raise TemploraError("the model's logits are not numbers", NOT_NUMBERS)
        weights = np.exp(below)
        total = weights.sum()
        if not self._are_enough(len(near), weights[near].sum() / total):
            near = np.arange(len(scores))
        tokens = near[np.argsort(-below[near], kind="stable")]
        candidates = HostCandidates(tokens, weights[tokens], total)
        for cut in self.cuts:
            cut.cut(candidates)
        tokens, shares, kept = candidates.tokens, candidates.shares, candidates.kept
        return (tokens, shares) if kept is None else (tokens[kept], shares[kept])

    def _are_enough(self, tokens: int, held: float) -> bool:
        """Do so many of the likeliest tokens, which hold that share, hold all that the cuts can leave?"""
        answers = (cut.are_enough(tokens, held, NEAR) for cut in self.cuts)
        return next((answer for answer in answers if answer is not None), False)
