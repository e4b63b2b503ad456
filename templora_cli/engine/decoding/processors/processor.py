"""Processors between logits and a token: score processors change scores, filters remove tokens.

Each has a plain reference implementation in float64 and a fast one for decoding.
tests/engine/decoding/test_sampling.py compares the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.candidates import Candidates


class Processor(ABC):
    """A step of sampling: `generate()` of transformers calls them logits processors and warpers."""

    fields: ClassVar[tuple[str, ...]] = ()
    """The fields of `DecodeConfig` that it uses."""
    skipped_if_greedy: ClassVar[bool] = True
    """Is it skipped in greedy decoding?"""

    def __init__(
        self,
        config: DecodeConfig,
        banned: Sequence[int],
        device: torch.device,
        breakers: Collection[int] = (),
    ) -> None:
        """`banned` tokens are never drawn, and `breakers` end a repetition; scores are on `device`."""
        self.config, self.banned, self.device, self.breakers = config, banned, device, frozenset(breakers)

    @property
    def is_active(self) -> bool:
        """Does it have an effect with these settings?"""
        return True

    @abstractmethod
    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """The processed scores [V] of the token that follows `ids`, float64 in and out.

        -inf for a token that may not be drawn.
        """


class ScoreProcessor(Processor):
    """Changes the score of each token independently."""

    @abstractmethod
    def apply_on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """The processed scores [V] of the token that follows `ids`, float32 in and out.

        May modify `scores` in place.
        """

    def apply_on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """The same for a numpy array."""
        return self.apply_on_device(torch.from_numpy(scores), ids).numpy()


class TokenFilter(Processor):
    """Removes tokens, depending on the probabilities of all tokens."""

    @abstractmethod
    def apply(self, candidates: Candidates) -> None:
        """Remove tokens from `candidates` with operations that torch and numpy share (`candidates.xp`).

        At least one token must remain.
        """

    def covers_result(self, count: int, probability: float, nats: float) -> bool | None:
        """Do the `count` most likely tokens include all that can remain after this filter?

        They are the tokens within `nats` of the most likely one, with a total probability of `probability`.
        None: not necessarily, but the filter removes only the least likely tokens, and the same of these
        `count` whether or not the others are present; the next filter decides. False is always correct, and
        costs a sort of the whole vocabulary.
        """
        return False
