"""Everything that changes while a book is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from templora_cli.config import Config
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.optimizers import OPTIMIZERS


@dataclass
class WritingState:
    """A checkpoint is this, and nothing else is."""

    tokens: list[int]
    """The book: token ids, never re-tokenised text."""
    chunks: int
    adapter: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer | None
    """Its moments; None where nothing is learnt."""
    seed: int
    take: int
    """How often the book was taken back: what is written anew is drawn anew."""
    dropout: Tensor
    """State of the model device's random generator for dropout, uint8."""
    generated_nlls: list[float] = field(default_factory=list)
    """NLL under the base of each own chunk, nats/token; the gate compares with it."""
    records: list[Any] = field(default_factory=list)
    """What the task keeps of each chunk."""

    @classmethod
    def begin(cls, model: AdaptedModel, config: Config, *, take: int = 0) -> WritingState:
        """The state before the first chunk; all randomness follows from `config.seed` and `take`."""
        device = model.device
        optimizer = None
        if model.adapter:  # each chunk sets its learning rate
            make = OPTIMIZERS[config.train.optimizer].make
            optimizer = make(model.adapter.values(), config.train.weight_decay)
        # Another stream than the sampler's, whatever the seed.
        dropout = torch.Generator(device).manual_seed(config.seed ^ 0x5DEECE66D).get_state()
        return cls([], 0, model.adapter, optimizer, config.seed, take, dropout)

    def generator(self, candidate: int, device: torch.device) -> torch.Generator:
        """The random numbers of a candidate for the next chunk: they hang on nothing drawn before."""
        key = f"{self.seed} {self.chunks} {self.take} {candidate}"
        number = int.from_bytes(hashlib.sha256(key.encode("ascii")).digest()[:8], "big") >> 1
        return torch.Generator(device).manual_seed(number)
