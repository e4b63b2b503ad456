"""What stands between logits and a token: processors of scores, and cuts of what may come out.

Each says what it does twice: by definition, plainly and in float64, and as it is done while a book is
written. tests/engine/decoding/test_sampling.py holds the second against the first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.processors.candidates import Candidates


class Processor(ABC):
    """One of those that `generate()` of transformers calls processors and warpers."""

    fields: ClassVar[tuple[str, ...]] = ()
    """Of `DecodeConfig`: what it goes by."""
    warps: ClassVar[bool] = True
    """Is it left out where the likeliest token is taken?"""

    def __init__(self, config: DecodeConfig, banned: Sequence[int], device: torch.device) -> None:
        """`banned` tokens may not come out; scores are on `device`."""
        self.config, self.banned, self.device = config, banned, device

    @property
    def is_on(self) -> bool:
        """Does it do anything with these settings?"""
        return True

    @abstractmethod
    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """Scores [V] of the token that follows `ids`, float64 in and out; -inf where it may not come out."""


class ScoreProcessor(Processor):
    """Changes the scores of tokens, each by itself."""

    @abstractmethod
    def on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        """Scores [V] of the token that follows `ids`, float32 in and out; it may write into them."""

    def on_host(self, scores: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
        """The same for an array on the CPU."""
        return self.on_device(torch.from_numpy(scores), ids).numpy()


class Cut(Processor):
    """Takes some of the tokens out, by how likely all are."""

    @abstractmethod
    def cut(self, candidates: Candidates) -> None:
        """Take them out, by array operations that torch and numpy have both (`candidates.xp`).

        At least one has to stay.
        """

    def are_enough(self, tokens: int, held: float, nats: float) -> bool | None:
        """Are the likeliest `tokens`, those within `nats` of the likeliest, all that may be left after it?

        They hold the share `held`. None says that it leaves the same of them whether or not the others are
        there, and takes out the least likely ones: then those behind it are asked.
        """
        return False
