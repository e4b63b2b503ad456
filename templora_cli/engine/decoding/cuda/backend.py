"""The fast backend of a GPU: a token is one captured graph, the adapter live in it."""

from __future__ import annotations

from torch import nn

from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.cuda.captured import CapturedDecoder
from templora_cli.engine.decoding.cuda.fused import can_be_fused


class GraphBackend(CachedBackend):
    """Tokens from a graph, which reads the adapter where training writes it."""

    decoder: CapturedDecoder

    def __init__(self, module: nn.Module) -> None:
        """`module` is a model whose configuration `families.can_be_captured` allows, on any device."""
        on_gpu = next(module.parameters()).is_cuda
        super().__init__(module, CapturedDecoder(module, fused=on_gpu and can_be_fused(module)))
