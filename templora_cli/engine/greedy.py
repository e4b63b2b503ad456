"""Greedy decoding of several prompts at once, by transformers' own `generate`: for evaluations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

NEUTRAL: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
}
"""What is not said here, `generate` takes from the settings that come with a model."""


def greedy(
    module: Any, prompts: Sequence[Sequence[int]], *, max_tokens: int, ends: Collection[int]
) -> list[list[int]]:
    """The likeliest continuation of each prompt, at most `max_tokens`, to the first of `ends` with it.

    Padded on the left to one batch: the sums are made in another order than for each prompt alone.
    """
    module.eval()
    stops = sorted(ends)
    longest = max(map(len, prompts))
    ids = torch.tensor([[stops[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    seen = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    config = GenerationConfig(max_new_tokens=max_tokens, eos_token_id=stops, pad_token_id=stops[0], **NEUTRAL)
    with torch.no_grad():
        out = module.generate(
            input_ids=ids.to(module.device),
            attention_mask=seen.to(module.device),
            generation_config=config,
        )
    known = frozenset(stops)
    return [_until(row[longest:].tolist(), known) for row in out]


def _until(tokens: list[int], ends: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: end + 1]
