"""A model as the algorithm sees it: a frozen base with the temporary adapter on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn


class AdaptedModel(Protocol):
    """The base model with the temporary adapter on it."""

    module: nn.Module
    adapter: dict[str, nn.Parameter]
    """The LoRA matrices by their PEFT names, float32; empty where nothing is to be learnt."""

    @property
    def banned_tokens(self) -> Sequence[int]:
        """Tokens that prose never holds: end of text and the other special ones."""

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where random numbers are drawn."""

    def without_adapter(self) -> AbstractContextManager[object]:
        """Inside it the plain base model answers."""
