"""`top_p`: the likeliest tokens that hold this share of the probability (nucleus; arXiv 1904.09751)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from templora_cli.engine.decoding.processors.candidates import Candidates
from templora_cli.engine.decoding.processors.processor import Cut

MIN_SHARE = 1e-30
"""A float32 below the probability of any likeliest token: that one stays."""


class TopP(Cut):
    """A token is left out where the likelier ones hold the share already."""

    fields = ("top_p",)

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.by_definition`."""
        shares, order = scores.softmax(-1).sort(descending=True, stable=True)
        before = shares.cumsum(-1) - shares
        before[0] = 0
        return scores.index_fill(0, order[before >= max(self.config.top_p, MIN_SHARE)], -math.inf)

    def cut(self, candidates: Candidates) -> None:
        """See `Cut.cut`."""
        candidates.keep(candidates.before < max(self.config.top_p, MIN_SHARE))

    def are_enough(self, tokens: int, held: float, nats: float) -> bool | None:
        """See `Cut.are_enough`."""
        return True if held > self.config.top_p else None
