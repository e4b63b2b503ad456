"""Logits to token: transformers' own logits processors, drawn with a generator of ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from templora_cli.config import DecodeConfig

GREEDY_BELOW = 0.01
"""Temperatures below it take the likeliest token: divided by them, logits overflow."""


class Sampler:
    """Draws one token at a time; all its randomness is the state of `generator`."""

    def __init__(self, config: DecodeConfig, generator: torch.Generator, banned: Iterable[int]) -> None:
        """`banned` tokens never come out: end of text and the other special tokens."""
        self.config = config
        self.generator = generator
        self.processors = _processors(config, sorted(set(banned)), generator.device)

    @torch.no_grad()
    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """The token that follows `ids`, given the model's `logits` [V] for that place."""
        window = torch.tensor([list(ids)], device=logits.device)
        scores = self.processors(window, logits.float()[None])  # [1, V]
        if self.config.temperature < GREEDY_BELOW:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(-1)[0], 1, generator=self.generator))


def _processors(config: DecodeConfig, banned: list[int], device: torch.device) -> LogitsProcessorList:
    """In the order of `generate()`: penalty, bans, temperature, then what is cut off."""
    chosen = LogitsProcessorList()
    if config.repetition_penalty != 1:
        chosen.append(RepetitionPenaltyLogitsProcessor(penalty=config.repetition_penalty))
    if banned:
        chosen.append(SuppressTokensLogitsProcessor(banned, device=str(device)))
    if config.temperature < GREEDY_BELOW:
        return chosen
    if config.temperature != 1:
        chosen.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        chosen.append(TopKLogitsWarper(top_k=config.top_k))
    if config.top_p < 1:
        chosen.append(TopPLogitsWarper(top_p=config.top_p))
    if config.min_p:
        chosen.append(MinPLogitsWarper(min_p=config.min_p))
    return chosen
