"""`min_p`: the least probability of a token, relative to the most likely one (arXiv 2407.01082)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from templora_cli.engine.decoding.processors.candidates import Candidates
from templora_cli.engine.decoding.processors.processor import TokenFilter


class MinP(TokenFilter):
    """Removes tokens below `min_p` times the highest probability; 0 disables it."""

    fields = ("min_p",)

    @property
    def is_active(self) -> bool:
        """See `Processor.is_active`."""
        return self.config.min_p > 0

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        probs = scores.softmax(-1)
        return scores.masked_fill(probs < self.config.min_p * probs.max(), -math.inf)

    def apply(self, candidates: Candidates) -> None:
        """See `TokenFilter.apply`."""
        threshold = self.config.min_p * candidates.masked_probs.max()
        candidates.restrict(candidates.unmasked_probs >= threshold)

    def covers_result(self, count: int, probability: float, nats: float) -> bool | None:
        """See `TokenFilter.covers_result`."""
        return True if self.config.min_p >= math.exp(-nats) else None
