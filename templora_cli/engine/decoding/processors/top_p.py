"""`top_p`: the fewest most likely tokens with this total probability (nucleus sampling, arXiv 1904.09751)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from templora_cli.engine.decoding.processors.candidates import Candidates
from templora_cli.engine.decoding.processors.processor import TokenFilter

MIN_TOP_P = 1e-30
"""Lower bound of `top_p`, positive in float32: the most likely token always remains."""


class TopP(TokenFilter):
    """Removes a token if the more likely ones already have the total probability."""

    fields = ("top_p",)

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        probs, order = scores.softmax(-1).sort(descending=True, stable=True)
        before = probs.cumsum(-1) - probs
        before[0] = 0
        return scores.index_fill(0, order[before >= max(self.config.top_p, MIN_TOP_P)], -math.inf)

    def apply(self, candidates: Candidates) -> None:
        """See `TokenFilter.apply`."""
        candidates.restrict(candidates.cumulative_before < max(self.config.top_p, MIN_TOP_P))

    def covers_result(self, count: int, probability: float, nats: float) -> bool | None:
        """See `TokenFilter.covers_result`."""
        return True if probability > self.config.top_p else None
