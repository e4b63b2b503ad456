"""The candidate tokens that filters work on, with torch or with numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIXED_POINT_ONE = 1 << 40
"""The probability 1 as an integer."""


class Candidates(ABC):
    """Tokens [n] and their probabilities [n], the most likely first. Removed tokens are masked."""

    xp: ClassVar[Any]
    """The array library: numpy or torch."""

    tokens: Any
    mask: Any = None
    """Which tokens remain, bool [n]; None while all do."""
    _unmasked_probs: Any = None

    @property
    def unmasked_probs(self) -> Any:
        """The probabilities of all tokens, float32, as if none were masked; their sum is 1."""
        if self._unmasked_probs is None:
            self._unmasked_probs = self._softmax()
        return self._unmasked_probs

    @property
    def masked_probs(self) -> Any:
        """The same with 0 for masked tokens; not normalised."""
        return self.unmasked_probs if self.mask is None else self.unmasked_probs * self.mask

    @property
    def probs(self) -> Any:
        """The probabilities of the remaining tokens; their sum is 1."""
        return self.unmasked_probs if self.mask is None else self.masked_probs / self.masked_probs.sum()

    @property
    def cumulative_before(self) -> Any:
        """For each token the sum of `probs` of more likely ones."""
        return self._exclusive_cumsum(self.probs)

    def restrict_to_top(self, count: int) -> None:
        """Remove all but the `count` most likely remaining tokens."""
        if self.mask is None:
            self._truncate(count)
            self._unmasked_probs = None
        else:
            self.restrict(self.mask.cumsum(0) <= count)

    def restrict(self, mask: Any) -> None:
        """Remove the tokens where `mask` [n] is false."""
        self.mask = mask if self.mask is None else self.mask & mask

    @abstractmethod
    def _softmax(self) -> Any:
        """The probabilities of all tokens."""

    @abstractmethod
    def _truncate(self, count: int) -> None:
        """Drop all tokens after the first `count` from the arrays."""

    @abstractmethod
    def _exclusive_cumsum(self, probs: Any) -> Any:
        """For each element the sum of those before it."""


class DeviceCandidates(Candidates):
    """Candidates on a GPU, without synchronisation."""

    xp: ClassVar[Any] = torch

    def __init__(self, scores: Tensor) -> None:
        """All tokens, by their scores [V]."""
        self._scores, self.tokens = scores.sort(descending=True, stable=True)

    def _softmax(self) -> Tensor:
        return self._scores.softmax(-1)

    def _truncate(self, count: int) -> None:
        self._scores, self.tokens = self._scores[:count], self.tokens[:count]

    def _exclusive_cumsum(self, probs: Tensor) -> Tensor:
        # In integers: a GPU sums floats in a different order each time.
        counts = (probs * FIXED_POINT_ONE).long()
        return (counts.cumsum(-1) - counts) / FIXED_POINT_ONE


class HostCandidates(Candidates):
    """Candidates on a CPU, which may be only the most likely tokens."""

    xp: ClassVar[Any] = np

    def __init__(
        self, tokens: NDArray[np.int64], weights: NDArray[np.float32], total: np.floating[Any]
    ) -> None:
        """Tokens [n], the most likely first, with unnormalised probabilities `weights` [n].

        `total` is the sum of the weights of the whole vocabulary.
        """
        self.tokens, self._weights, self._total = tokens, weights, total

    def _softmax(self) -> NDArray[np.float32]:
        probs: NDArray[np.float32] = self._weights / self._total
        return probs

    def _truncate(self, count: int) -> None:
        self.tokens, self._weights = self.tokens[:count], self._weights[:count]
        self._total = self._weights.sum()

    def _exclusive_cumsum(self, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        return probs.cumsum() - probs
