"""Models of common sizes, to suggest one that fits when the requested model is too large."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from templora_cli.engine.models.shape import Shape, shape_of


@dataclass(frozen=True)
class UsualSize:
    """A public model that represents its size."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    tied: bool

    @cache  # noqa: B019  (six instances, all of them global)
    def shape(self) -> Shape:
        """The shape of the model, from its configuration."""
        config = {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": self.tied,
            "vocab_size": 151_936,
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
            return shape_of(Path(folder))


USUAL_SIZES = (
    UsualSize("Qwen/Qwen3-32B", 5120, 25_600, 64, 64, False),
    UsualSize("Qwen/Qwen3-14B", 5120, 17_408, 40, 40, False),
    UsualSize("Qwen/Qwen3-8B", 4096, 12_288, 36, 32, False),
    UsualSize("Qwen/Qwen3-4B", 2560, 9_728, 36, 32, True),
    UsualSize("Qwen/Qwen3-1.7B", 2048, 6_144, 28, 16, True),
    UsualSize("Qwen/Qwen3-0.6B", 1024, 3_072, 28, 16, True),
)
"""Published sizes, largest first."""


def largest_below(parameters: int, fits: Callable[[Shape], bool]) -> tuple[str, int] | None:
    """Name and parameters of the largest such model that `fits` and has fewer than `parameters`."""
    for size in USUAL_SIZES:
        shape = size.shape()
        if shape.parameters < parameters and fits(shape):
            return size.name, shape.parameters
    return None
