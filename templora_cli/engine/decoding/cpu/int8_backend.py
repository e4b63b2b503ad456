"""The fast backend of a CPU: the project's own decoder over an 8-bit copy of base + adapter."""

from __future__ import annotations

from torch import nn

from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.cpu.int8_decoder import Int8Decoder
from templora_cli.engine.decoding.cpu.quantize import rounded


class Int8Backend(CachedBackend):
    """Tokens from the copy, which is made anew when the adapter has changed."""

    decoder: Int8Decoder

    def __init__(self, module: nn.Module) -> None:
        """`module` is a float32 model on the CPU whose configuration `families.has_fast_decoder` allows."""
        super().__init__(module, Int8Decoder(module, rounded))
