"""`repetition_penalty`: tokens of the window become less likely (arXiv 1909.05858, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.processor import ScoreProcessor


class RepetitionPenalty(ScoreProcessor):
    """Divides positive scores by it, and multiplies negative ones."""

    fields = ("repetition_penalty",)
    warps = False

    def __init__(self, config: DecodeConfig, banned: Sequence[int], device: torch.device) -> None:
        super().__init__(config, banned, device)
        self.penalty = config.repetition_penalty
        self._ids: list[int] = []
        self._penalties = torch.empty(0)
        """[V] the penalty where a token is among `_ids`, else 1."""

    @property
    def is_on(self) -> bool:
        """See `Processor.is_on`."""
        return self.penalty != 1

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.by_definition`."""
        scores = scores.clone()
        for token in set(ids):
            scores[token] *= self.penalty if scores[token] < 0 else 1 / self.penalty
        return scores

    def on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.on_device`."""
        penalties = self._renewed(ids, scores)
        return torch.where(scores < 0, scores * penalties, scores / penalties)

    def on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.on_host`."""
        seen, penalty = np.array(ids, np.int64), np.float32(self.penalty)
        those = scores[seen]
        scores[seen] = np.where(those < 0, those * penalty, those / penalty)
        return scores

    def _renewed(self, ids: Sequence[int], scores: Tensor) -> Tensor:
        """The penalties, in which only what is new is written: a GPU need not be waited for."""
        known = len(self._ids)
        if len(self._penalties) != len(scores) or list(ids[:known]) != self._ids:
            self._penalties, self._ids, known = torch.ones_like(scores), [], 0
        fresh = list(ids[known:])
        if len(fresh) == 1:  # a number needs no copying to the device
            self._penalties[fresh[0]] = self.penalty
        elif fresh:
            self._penalties[torch.tensor(fresh, device=scores.device)] = self.penalty
        self._ids += fresh
        return self._penalties
