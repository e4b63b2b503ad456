"""All state that changes while a book is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from templora_cli.config import Config
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.optimizers import OPTIMIZERS
from templora_cli.engine.training.replay import Samples


@dataclass
class WritingState:
    """The whole content of a checkpoint."""

    tokens: list[int]
    """The book as token ids. It is never re-encoded from the text, which could give other tokens."""
    chunks: int
    adapter: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer | None
    """Holds the optimizer's moments; None without learning."""
    seed: int
    take: int
    """How many times the book was rewound. Chunks that are written again get new random numbers."""
    dropout_rng_state: Tensor
    """State of the random generator for dropout on the model's device, uint8."""
    generated_nlls: list[float] = field(default_factory=list)
    """NLL of each generated chunk under the base, nats/token, for the gate."""
    records: list[Any] = field(default_factory=list)
    """What the task stored with each chunk, a JSON value each."""
    primed_chunks: int = 0
    """Chunks that were learnt before the book: the warm-up ends in them."""
    samples: Samples | None = None
    """Samples of the model from before it learnt its own text; None until it does, or without replay."""

    @classmethod
    def begin(cls, model: AdaptedModel, config: Config, *, take: int = 0) -> WritingState:
        """The state before the first chunk; all randomness follows from `config.seed` and `take`."""
        device = model.device
        optimizer = None
        if model.adapter:  # each chunk sets its learning rate
            make = OPTIMIZERS[config.train.optimizer].make
            optimizer = make(model.adapter.values(), config.train.weight_decay)
        # Never the same stream as the sampler's, whatever the seed.
        dropout_rng_state = torch.Generator(device).manual_seed(config.seed ^ 0x5DEECE66D).get_state()
        return cls([], 0, model.adapter, optimizer, config.seed, take, dropout_rng_state)

    def generator(self, candidate: int, device: torch.device) -> torch.Generator:
        """The random generator of a candidate for the next chunk. It does not depend on earlier draws."""
        return seeded_generator(device, self.seed, self.chunks, self.take, candidate)

    def seed_of(self, *purpose: int | str) -> int:
        """The seed of the random numbers for a purpose; the seed of the book alone decides the rest."""
        return seed_of(self.seed, *purpose)


def seed_of(seed: int, *purpose: int | str) -> int:
    """The seed of the random numbers for a purpose, from the seed of a book."""
    key = " ".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(key.encode("ascii")).digest()[:8], "big") >> 1


def seeded_generator(device: torch.device, seed: int, *purpose: int | str) -> torch.Generator:
    """The random generator for a purpose, from the seed of a book."""
    return torch.Generator(device).manual_seed(seed_of(seed, *purpose))
