"""The subject of `benchmarks.chunk`, and the measurements of one chunk. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]
Checkpointing = Literal["on", "off"]
Synthetic = Literal["135m", "1b", "7b", "14b"]
"""A name in `synthetic.CONFIGS`."""


@dataclass(frozen=True)
class Subject:
    """The model that all sides run, and its settings."""

    device: Device
    folder: Path | None
    """The folder of the model; None if it is synthetic."""
    synthetic: Synthetic | None
    context_tokens: int
    chunk_tokens: int
    checkpointing: Checkpointing = "off"
    """Gradient checkpointing in the sides that run templora."""


@dataclass(frozen=True)
class ChunkCost:
    """The cost of one chunk of one side."""

    seconds: dict[str, float]
    """Seconds of each phase; "prompt" includes preparing the weights for decoding."""
    decoded_tokens: int
    read_bytes: float
    """Bytes of weights, adapter and cache that a decoded token reads: the mean over all but the first."""
    passes: int
    train_flops: int
    """Floating-point operations of all passes (`bounds.step_flops`)."""
    peak_bytes: int
    """Peak of the process so far: resident memory or, on a GPU, memory allocated there by torch."""

    @property
    def total(self) -> float | None:
        """Seconds of the whole chunk; None if nothing was written."""
        return sum(self.seconds.values()) if self.decoded_tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """The speed of decoding after the first token; None if nothing was written."""
        return (self.decoded_tokens - 1) / self.seconds["decode"] if self.decoded_tokens else None

    @property
    def train(self) -> float:
        """Seconds of all passes."""
        return self.seconds["train"]

    @property
    def train_pass(self) -> float:
        """Seconds of one pass."""
        return self.train / self.passes
