"""What `benchmarks.chunk` measures, and what it finds of one chunk. Nothing heavy is imported here."""

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
    """The model that all sides run, and how."""

    device: Device
    folder: Path | None
    """Of the model; None where it is synthetic."""
    synthetic: Synthetic | None
    context_tokens: int
    chunk_tokens: int
    checkpointing: Checkpointing = "off"
    """Of gradients, in templora's sides."""


@dataclass(frozen=True)
class Cost:
    """Of one chunk on one side."""

    seconds: dict[str, float]
    """By phase; what makes the weights ready for decoding is in "prompt"."""
    decoded_tokens: int
    read_bytes: float
    """Of weights, adapter and cache for a decoded token, the mean over all but the first."""
    passes: int
    train_flops: int
    """That the passes together need (`bounds.step_flops`)."""
    peak_bytes: int
    """Of the process so far: its resident memory or, on a GPU, torch's allocations there."""

    @property
    def total(self) -> float | None:
        """Seconds of the whole chunk; None where nothing was written."""
        return sum(self.seconds.values()) if self.decoded_tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """Of decoding after the first token."""
        return (self.decoded_tokens - 1) / self.seconds["decode"] if self.decoded_tokens else None

    @property
    def train(self) -> float:
        """Seconds of all passes."""
        return self.seconds["train"]

    @property
    def train_pass(self) -> float:
        """Seconds of one."""
        return self.train / self.passes
