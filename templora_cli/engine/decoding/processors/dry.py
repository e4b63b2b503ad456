"""`dry_*`: DRY ("don't repeat yourself") makes tokens less likely that would extend a repetition.

By p-e-w: https://github.com/oobabooga/text-generation-webui/pull/5677; llama.cpp has it as
`llama_sampler_init_dry`. If the text ends with n tokens that occur earlier, the token after that earlier
occurrence would extend the repetition. From n = `dry_allowed_length` on, its score is lowered by

    dry_multiplier * dry_base ** (n - dry_allowed_length)

Matches are searched in the last `dry_range` tokens. They do not reach across sequence breakers, and a breaker
itself is never made less likely. A token is a breaker if its text contains one of `dry_breakers`, as in
llama.cpp.

The penalty comes after `repetition_penalty`, as in both sources, and adds to it. That penalty hits each token
of the context, so it also makes "the" and the names less likely; DRY hits only continuations. With DRY on,
`repetition_penalty` can be 1.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.processor import ScoreProcessor

MAX_MATCH = 50
"""A longer match counts as one of this length, as in text-generation-webui."""
MAX_PENALTY = 1000.0
"""A token with this penalty is never drawn; a larger one would round the scores of float32."""


class Dry(ScoreProcessor):
    """Subtracts a penalty from the scores of tokens that would extend a repetition."""

    fields = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_range", "dry_breakers")
    skipped_if_greedy = False

    def __init__(
        self,
        config: DecodeConfig,
        banned: Sequence[int],
        device: torch.device,
        breakers: Collection[int] = (),
    ) -> None:
        super().__init__(config, banned, device, breakers)
        self._ids: list[int] = []
        self._positions: dict[int, list[int]] = {}
        """The positions of each token in `_ids`."""
        self._matches: dict[int, int] = {}
        """By the position at which it ends: the length of a match with the end of `_ids`."""

    @property
    def is_active(self) -> bool:
        """See `Processor.is_active`."""
        return self.config.dry_multiplier > 0

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        recent, lengths = list(ids)[-self.config.dry_range :], dict[int, int]()
        for end, token in enumerate(recent[1:]):
            length = 0
            while (
                length < min(MAX_MATCH, end + 1)
                and recent[end - length] == recent[-1 - length]
                and recent[end - length] not in self.breakers
            ):
                length += 1
            lengths[token] = max(length, lengths.get(token, 0))
        scores = scores.clone()
        for token, length in lengths.items():
            if length >= self.config.dry_allowed_length and token not in self.breakers:
                scores[token] -= self._penalty(length)
        return scores

    def apply_on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.apply_on_device`."""
        if not (penalties := self._penalties(ids)):
            return scores
        tokens = _on_device(torch.tensor(list(penalties)), scores.device)
        values = _on_device(torch.tensor(list(penalties.values()), dtype=torch.float32), scores.device)
        scores[tokens] -= values
        return scores

    def apply_on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.apply_on_host`."""
        if penalties := self._penalties(ids):
            scores[list(penalties)] -= np.array(list(penalties.values()), np.float32)
        return scores

    def _penalties(self, ids: Sequence[int]) -> dict[int, float]:
        """The penalties of the tokens that would extend a repetition at the end of `ids`."""
        self._read(ids)
        start = max(0, len(ids) - self.config.dry_range) if self.config.dry_range else 0
        lengths: dict[int, int] = {}
        for end, match in self._matches.items():
            length, token = min(match, end + 1 - start), ids[end + 1]
            if length >= self.config.dry_allowed_length and token not in self.breakers:
                lengths[token] = max(length, lengths.get(token, 0))
        return {token: self._penalty(length) for token, length in lengths.items()}

    def _penalty(self, length: int) -> float:
        extra = min(length, MAX_MATCH) - self.config.dry_allowed_length
        return min(MAX_PENALTY, self.config.dry_multiplier * self.config.dry_base ** max(0, extra))

    def _read(self, ids: Sequence[int]) -> None:
        """Bring the matches up to date with `ids`.

        A token takes a time proportional to its number of occurrences. Tokens that come at once, as a prompt
        does, need matches for the last ones only.
        """
        previous = len(self._ids)
        if list(ids[:previous]) != self._ids:  # after a rewind
            self._ids, self._positions, self._matches, previous = [], {}, {}, 0
        for position in range(previous, len(ids)):
            token = ids[position]
            positions = self._positions.setdefault(token, [])
            if token in self.breakers or position < len(ids) - MAX_MATCH:
                self._matches = {}
            else:
                self._matches = {end: self._matches.get(end - 1, 0) + 1 for end in positions}
            positions.append(position)
        self._ids += ids[previous:]


def _on_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy on `device`, without waiting for a GPU."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values
