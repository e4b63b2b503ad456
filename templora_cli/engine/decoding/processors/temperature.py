"""`temperature`: how freely tokens are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.engine.decoding.processors.processor import ScoreProcessor


class Temperature(ScoreProcessor):
    """What scores are divided by."""

    fields = ("temperature",)

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.by_definition`."""
        return scores / self.config.temperature

    def on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.on_device`."""
        return scores.div_(self.config.temperature)

    def on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.on_host`."""
        scores /= np.float32(self.config.temperature)
        return scores
