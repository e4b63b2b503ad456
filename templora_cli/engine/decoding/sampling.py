"""Samplers: they draw from the distribution of transformers' `generate()`, with their own generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors import PROCESSORS
from templora_cli.engine.decoding.processors.candidates import DeviceCandidates, HostCandidates
from templora_cli.engine.decoding.processors.processor import Processor, ScoreProcessor, TokenFilter
from templora_cli.engine.decoding.protocols import Sampler
from templora_cli.errors import TemploraError

GREEDY_BELOW = 0.01
"""Below this temperature decoding is greedy: logits divided by it would overflow."""
NEAR_NATS = 10.0
"""Only tokens within this distance of the most likely one are sorted if that suffices. They are few; sorting
them is a hundred times as fast as sorting the vocabulary."""
NAN_HINT = "the model's weights may be damaged, or overflow in 16 bits: start again with another --quantize"

ProcessorTypes = Sequence[type[Processor]]


def sampler_for(
    config: DecodeConfig,
    generator: torch.Generator,
    banned: Iterable[int],
    breakers: Collection[int] = (),
) -> BaseSampler:
    """Create the sampler that is fastest on the device of `generator` and the logits.

    `breakers` are the tokens of `config.dry_breakers`.
    """
    sampler_type = HostSampler if generator.device.type == "cpu" else DeviceSampler
    return sampler_type(config, generator, banned, breakers=breakers)


def distribution(
    config: DecodeConfig,
    banned: Iterable[int],
    logits: Tensor,
    ids: Sequence[int],
    processor_types: ProcessorTypes = PROCESSORS,
    breakers: Collection[int] = (),
) -> Tensor:
    """The reference distribution [V] of the token after `ids`, float64. Samplers draw from it."""
    scores = logits.double().cpu()
    for processor in _active_processors(config, banned, scores.device, processor_types, breakers):
        scores = processor.reference(scores, ids)
    if _is_greedy(config):
        return torch.nn.functional.one_hot(scores.argmax(), len(scores)).double()
    return scores.softmax(-1)


def _is_greedy(config: DecodeConfig) -> bool:
    return config.temperature < GREEDY_BELOW


def _active_processors(
    config: DecodeConfig,
    banned: Iterable[int],
    device: torch.device,
    processor_types: ProcessorTypes,
    breakers: Collection[int],
) -> list[Processor]:
    """The processors that have an effect with these settings."""
    tokens, greedy = sorted(set(banned)), _is_greedy(config)
    processors = [processor_type(config, tokens, device, breakers) for processor_type in processor_types]
    return [
        processor
        for processor in processors
        if processor.is_active and not (processor.skipped_if_greedy and greedy)
    ]


class BaseSampler(ABC):
    """Draws one token at a time. Its only random state is `generator`."""

    def __init__(
        self,
        config: DecodeConfig,
        generator: torch.Generator,
        banned: Iterable[int],
        processor_types: ProcessorTypes = PROCESSORS,
        breakers: Collection[int] = (),
    ) -> None:
        """`banned` tokens are never drawn: end of text and other special tokens.

        In `processor_types` score processors come before filters. `breakers` end a repetition for DRY.
        """
        self.generator, self.is_greedy = generator, _is_greedy(config)
        processors = _active_processors(config, banned, generator.device, processor_types, breakers)
        self.score_processors = [each for each in processors if isinstance(each, ScoreProcessor)]
        self.filters = [each for each in processors if isinstance(each, TokenFilter)]

    @abstractmethod
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """Draw the token that follows `ids` from the model's `logits` [V], without changing them.

        Raises TemploraError for NaN logits.
        """


class DeviceSampler(BaseSampler):
    """Draws with torch. It waits for a GPU once per token, for the token itself."""

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `BaseSampler.draw`."""
        scores = self.scores(ids, logits)
        if self.is_greedy:
            return int(scores.argmax())
        tokens, probs = self.candidates(scores)
        # The method of `torch.multinomial`, which on NaN raises an error that makes the GPU unusable.
        race = probs / torch.empty_like(probs).exponential_(generator=self.generator)
        token = tokens.gather(0, race.argmax(0, keepdim=True))
        drawn = int(torch.where(probs[:1].isfinite(), token, -1))
        if drawn < 0:
            raise TemploraError("the model produced NaN logits", NAN_HINT)
        return drawn

    def scores(self, ids: Sequence[int], logits: Tensor) -> Tensor:
        """The scores [V] of all tokens, float32."""
        scores = logits.to(torch.float32, copy=True)
        for processor in self.score_processors:
            scores = processor.apply_on_device(scores, ids)
        return scores

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [n], the most likely first, and their probabilities by `scores` [V].

        The probability of a removed token is 0; the sum need not be 1.
        """
        candidates = DeviceCandidates(scores)
        for token_filter in self.filters:
            token_filter.apply(candidates)
        return candidates.tokens, candidates.masked_probs


class HostSampler(BaseSampler):
    """Draws with numpy, on a CPU in half the time of torch (docs/lab/decoding-cpu.md)."""

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `BaseSampler.draw`."""
        scores = self.scores(ids, logits)
        if self.is_greedy:
            return int(scores.argmax())
        tokens, probs = self.candidates(scores)
        return int(tokens[torch.multinomial(torch.from_numpy(probs), 1, generator=self.generator)])

    def scores(self, ids: Sequence[int], logits: Tensor) -> NDArray[np.float32]:
        """The scores [V] of all tokens."""
        scores: NDArray[np.float32] = logits.float().numpy().copy()
        for processor in self.score_processors:
            scores = processor.apply_on_host(scores, ids)
        return scores

    def candidates(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The remaining tokens [n] by `scores` [V], and their probabilities, whose sum need not be 1."""
        with np.errstate(invalid="ignore"):  # inf - inf: an error is raised below
            below = scores - scores.max()
        near = np.flatnonzero(below > -NEAR_NATS)
        if not len(near):
            raise TemploraError("the model produced NaN logits", NAN_HINT)
        weights = np.exp(below)
        total = weights.sum()
        if not self._covers_result(len(near), weights[near].sum() / total):
            near = np.arange(len(scores))
        tokens = near[np.argsort(-below[near], kind="stable")]
        candidates = HostCandidates(tokens, weights[tokens], total)
        for token_filter in self.filters:
            token_filter.apply(candidates)
        tokens, probs, mask = candidates.tokens, candidates.unmasked_probs, candidates.mask
        return (tokens, probs) if mask is None else (tokens[mask], probs[mask])

    def _covers_result(self, count: int, probability: float) -> bool:
        """Do the `count` most likely tokens include all that can remain after the filters?

        `probability` is their total probability.
        """
        answers = (each.covers_result(count, probability, NEAR_NATS) for each in self.filters)
        return next((answer for answer in answers if answer is not None), False)


class EndingSampler:
    """Draws with one sampler, and with another where the text may end; that one does not ban the end.

    Both must have the same generator.
    """

    def __init__(self, sampler: Sampler, with_end: Sampler, may_end: Callable[[Sequence[int]], bool]) -> None:
        self.sampler, self.with_end, self.may_end = sampler, with_end, may_end

    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `BaseSampler.draw`."""
        return (self.with_end if self.may_end(ids) else self.sampler).draw(ids, logits)
