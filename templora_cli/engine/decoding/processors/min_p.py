"""`min_p`: no token below this share of the likeliest one's probability (arXiv 2407.01082)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from templora_cli.engine.decoding.processors.candidates import Candidates
from templora_cli.engine.decoding.processors.processor import Cut


class MinP(Cut):
    """0 is off."""

    fields = ("min_p",)

    @property
    def is_on(self) -> bool:
        """See `Processor.is_on`."""
        return self.config.min_p > 0

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.by_definition`."""
        shares = scores.softmax(-1)
        return scores.masked_fill(shares < self.config.min_p * shares.max(), -math.inf)

    def cut(self, candidates: Candidates) -> None:
        """See `Cut.cut`."""
        candidates.keep(candidates.shares >= self.config.min_p * candidates.left.max())

    def are_enough(self, tokens: int, held: float, nats: float) -> bool | None:
        """See `Cut.are_enough`."""
        return True if self.config.min_p >= math.exp(-nats) else None
