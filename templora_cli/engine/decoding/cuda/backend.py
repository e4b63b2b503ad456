"""The fast backend of a GPU: a token is one captured graph, the adapter live in it."""

from __future__ import annotations

from torch import nn

from templora_cli.engine.decoding.base import BLOCK
from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.cuda.captured import CapturedDecoder
from templora_cli.engine.decoding.cuda.fused import FusedToken, can_be_fused


class GraphBackend(CachedBackend):
    """Tokens from a graph, which reads the adapter where training writes it."""

    decoder: CapturedDecoder

    def __init__(self, module: nn.Module, *, block: int = BLOCK) -> None:
        """`module` is a model whose configuration `families.can_be_captured` allows, on any device."""
        on_gpu = next(module.parameters()).is_cuda
        fused = FusedToken(module) if on_gpu and can_be_fused(module) else None
        super().__init__(module, CapturedDecoder(module, fused=fused, block=block))
