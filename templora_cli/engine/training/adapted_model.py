"""The model as the algorithm sees it: a frozen base with the temporary adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn


class AdaptedModel(Protocol):
    """A frozen base model with the temporary LoRA adapter."""

    module: nn.Module
    adapter: dict[str, nn.Parameter]
    """The LoRA matrices by their PEFT names, float32; empty without learning."""

    @property
    def banned_tokens(self) -> Sequence[int]:
        """Tokens that are never generated: end of text and other special tokens."""

    def tokens_with(self, texts: Sequence[str]) -> frozenset[int]:
        """Tokens whose text contains one of `texts`; for a text that no token contains, its last token."""

    @property
    def device(self) -> torch.device:
        """The device of the weights and of the random generators."""

    def without_adapter(self) -> AbstractContextManager[object]:
        """A context in which the adapter is disabled."""
