"""Tokens that are never drawn: end of text and other special tokens."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.processor import ScoreProcessor


class BannedTokens(ScoreProcessor):
    """Gives them the score -inf. A tokenizer may have special tokens beyond the model's vocabulary."""

    skipped_if_greedy = False

    def __init__(
        self,
        config: DecodeConfig,
        banned: Sequence[int],
        device: torch.device,
        breakers: Collection[int] = (),
    ) -> None:
        super().__init__(config, banned, device, breakers)
        self._tokens = torch.tensor(sorted(banned), dtype=torch.long, device=device)
        self._max_token = max(banned, default=-1)

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `Processor.reference`."""
        tokens = [token for token in self.banned if token < len(scores)]
        return scores.index_fill(0, torch.tensor(tokens, dtype=torch.long), -math.inf)

    def apply_on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """See `ScoreProcessor.apply_on_device`."""
        tokens = self._tokens if self._max_token < len(scores) else self._tokens[self._tokens < len(scores)]
        return scores.index_fill_(0, tokens, -math.inf)

    def apply_on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """See `ScoreProcessor.apply_on_host`."""
        tokens = self._tokens.numpy()
        scores[tokens[tokens < len(scores)]] = -np.inf
        return scores
