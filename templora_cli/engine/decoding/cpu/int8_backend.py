"""The int8 backend for CPUs: decodes from an 8-bit copy of base and adapter."""

from __future__ import annotations

from torch import nn

from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.cpu.int8_decoder import Int8Decoder
from templora_cli.engine.decoding.cpu.quantize import quantize_rows


class Int8Backend(CachedBackend):
    """Decodes from an 8-bit copy of the model, which is made again after the adapter has changed."""

    decoder: Int8Decoder

    def __init__(self, module: nn.Module) -> None:
        """`module` is a float32 model on the CPU for which `families.has_fast_decoder` is true."""
        super().__init__(module, Int8Decoder(module, quantize_rows))
