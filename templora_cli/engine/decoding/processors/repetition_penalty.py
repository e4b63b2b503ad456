"""`repetition_penalty`: lowers the scores of tokens in the context (arXiv 1909.05858, section 4.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.processor import ScoreProcessor


class RepetitionPenalty(ScoreProcessor):
    """Divides positive scores by the penalty and multiplies negative ones."""

    fields = ("repetition_penalty",)
    skipped_if_greedy = False

    def __init__(
        self,
        config: DecodeConfig,
        banned: Sequence[int],
        device: torch.device,
        breakers: Collection[int] = (),
    ) -> None:
        super().__init__(config, banned, device, breakers)
        self.penalty = config.repetition_penalty
        self._ids: list[int] = []
        self._penalties = torch.empty(0)
        """[V]: the penalty for tokens in `_ids`, 1 for others."""

    @property
    def is_active(self) -> bool:
        """See `Processor.is_active`."""
        return self.penalty != 1

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        scores = scores.clone()
        for token in set(ids):
            scores[token] *= self.penalty if scores[token] < 0 else 1 / self.penalty
        return scores

    def apply_on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.apply_on_device`."""
        penalties = self._penalties_for(ids, scores)
        return torch.where(scores < 0, scores * penalties, scores / penalties)

    def apply_on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.apply_on_host`."""
        indices, penalty = np.array(ids, np.int64), np.float32(self.penalty)
        selected = scores[indices]
        scores[indices] = np.where(selected < 0, selected * penalty, selected / penalty)
        return scores

    def _penalties_for(self, ids: Sequence[int], scores: Tensor) -> Tensor:
        """The penalties [V] for `ids`. Only new tokens are written, without waiting for a GPU."""
        previous = len(self._ids)
        if len(self._penalties) != len(scores) or list(ids[:previous]) != self._ids:
            self._penalties, self._ids, previous = torch.ones_like(scores), [], 0
        new_ids = list(ids[previous:])
        if len(new_ids) == 1:  # a Python integer needs no copy to the device
            self._penalties[new_ids[0]] = self.penalty
        elif new_ids:
            self._penalties[torch.tensor(new_ids, device=scores.device)] = self.penalty
        self._ids += new_ids
        return self._penalties
