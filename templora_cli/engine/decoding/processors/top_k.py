"""`top_k`: only the k most likely tokens (arXiv 1805.04833, section 5.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from templora_cli.engine.decoding.processors.candidates import Candidates
from templora_cli.engine.decoding.processors.processor import TokenFilter


class TopK(TokenFilter):
    """Removes all but the `top_k` most likely tokens; 0 disables it."""

    fields = ("top_k",)

    @property
    def is_active(self) -> bool:
        """See `Processor.is_active`."""
        return self.config.top_k > 0

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        order = scores.sort(descending=True, stable=True).indices
        return scores.index_fill(0, order[self.config.top_k :], -math.inf)

    def apply(self, candidates: Candidates) -> None:
        """See `TokenFilter.apply`."""
        candidates.restrict_to_top(self.config.top_k)

    def covers_result(self, count: int, probability: float, nats: float) -> bool | None:
        """See `TokenFilter.covers_result`."""
        return count >= self.config.top_k
