"""Tokens that never come out, whatever the settings: end of text and the other special tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.processor import ScoreProcessor


class Banned(ScoreProcessor):
    """A tokenizer may have special tokens that the model has no logits for."""

    warps = False

    def __init__(self, config: DecodeConfig, banned: Sequence[int], device: torch.device) -> None:
        super().__init__(config, banned, device)
        self._tokens = torch.tensor(sorted(banned), dtype=torch.long, device=device)
        self._most = max(banned, default=-1)

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.by_definition`."""
        those = [token for token in self.banned if token < len(scores)]
        return scores.index_fill(0, torch.tensor(those, dtype=torch.long), -math.inf)

    def on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.on_device`."""
        tokens = self._tokens if self._most < len(scores) else self._tokens[self._tokens < len(scores)]
        return scores.index_fill_(0, tokens, -math.inf)

    def on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.on_host`."""
        tokens = self._tokens.numpy()
        scores[tokens[tokens < len(scores)]] = -np.inf
        return scores
