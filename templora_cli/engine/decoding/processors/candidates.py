"""Tokens that may come out, the likeliest first, as cuts see them: with torch or with numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ONE = 1 << 40
"""The share 1 as a whole number."""


class Candidates(ABC):
    """Arrays [n] of tokens and their shares; what is taken out is marked, and the arrays stay."""

    xp: ClassVar[Any]
    """The array library: numpy or torch."""

    tokens: Any
    kept: Any = None
    """Which of them may still come out; None while all may."""
    _shares: Any = None

    @property
    def shares(self) -> Any:
        """What each is as likely as, float32; their sum was 1 before any was taken out."""
        if self._shares is None:
            self._shares = self._normalised()
        return self._shares

    @property
    def left(self) -> Any:
        """The shares, 0 where a token was taken out."""
        return self.shares if self.kept is None else self.shares * self.kept

    @property
    def probabilities(self) -> Any:
        """What is left so that its sum is 1."""
        return self.shares if self.kept is None else self.left / self.left.sum()

    @property
    def before(self) -> Any:
        """What the likelier ones hold of the probability."""
        return self._before(self.probabilities)

    def first(self, count: int) -> None:
        """Keep the likeliest ones only, so many."""
        if self.kept is None:
            self._truncate(count)
            self._shares = None
        else:
            self.keep(self.kept.cumsum(0) <= count)

    def keep(self, mask: Any) -> None:
        """Keep those only that `mask` [n] names."""
        self.kept = mask if self.kept is None else self.kept & mask

    @abstractmethod
    def _normalised(self) -> Any:
        """The shares of all."""

    @abstractmethod
    def _truncate(self, count: int) -> None:
        """Drop all but the first."""

    @abstractmethod
    def _before(self, probabilities: Any) -> Any:
        """For each the sum of those before it."""


class DeviceCandidates(Candidates):
    """Of a GPU, which is never waited for."""

    xp: ClassVar[Any] = torch

    def __init__(self, scores: Tensor) -> None:
        """Of all scores [V]."""
        self._scores, self.tokens = scores.sort(descending=True, stable=True)

    def _normalised(self) -> Tensor:
        return self._scores.softmax(-1)

    def _truncate(self, count: int) -> None:
        self._scores, self.tokens = self._scores[:count], self.tokens[:count]

    def _before(self, probabilities: Tensor) -> Tensor:
        # In whole numbers: a GPU adds up floats in another order each time.
        counts = (probabilities * ONE).long()
        return (counts.cumsum(-1) - counts) / ONE


class HostCandidates(Candidates):
    """Of a CPU, which may be asked for some of the tokens."""

    xp: ClassVar[Any] = np

    def __init__(
        self, tokens: NDArray[np.int64], weights: NDArray[np.float32], total: np.floating[Any]
    ) -> None:
        """Tokens [n], the likeliest first, with what they weigh; all there are weigh `total`."""
        self.tokens, self._weights, self._total = tokens, weights, total

    def _normalised(self) -> NDArray[np.float32]:
        shares: NDArray[np.float32] = self._weights / self._total
        return shares

    def _truncate(self, count: int) -> None:
        self.tokens, self._weights = self.tokens[:count], self._weights[:count]
        self._total = self._weights.sum()

    def _before(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        return probabilities.cumsum() - probabilities
