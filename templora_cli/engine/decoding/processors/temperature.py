"""`temperature`: flattens (above 1) or sharpens (below 1) the distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.engine.decoding.processors.processor import ScoreProcessor


class Temperature(ScoreProcessor):
    """Divides scores by the temperature."""

    fields = ("temperature",)

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        return scores / self.config.temperature

    def apply_on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.apply_on_device`."""
        return scores.div_(self.config.temperature)

    def apply_on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.apply_on_host`."""
        scores /= np.float32(self.config.temperature)
        return scores
