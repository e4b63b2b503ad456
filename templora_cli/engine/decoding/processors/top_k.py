"""`top_k`: so many of the likeliest tokens (arXiv 1805.04833, section 5.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from templora_cli.engine.decoding.processors.candidates import Candidates
from templora_cli.engine.decoding.processors.processor import Cut


class TopK(Cut):
    """0 is off."""

    fields = ("top_k",)

    @property
    def is_on(self) -> bool:
        """See `Processor.is_on`."""
        return self.config.top_k > 0

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.by_definition`."""
        order = scores.sort(descending=True, stable=True).indices
        return scores.index_fill(0, order[self.config.top_k :], -math.inf)

    def cut(self, candidates: Candidates) -> None:
        """See `Cut.cut`."""
        candidates.first(self.config.top_k)

    def are_enough(self, tokens: int, held: float, nats: float) -> bool | None:
        """See `Cut.are_enough`."""
        return tokens >= self.config.top_k
