"""The fast backend of a GPU: a token is one captured graph, the adapter live in it."""

from __future__ import annotations

from torch import nn

from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.cuda.cuda_graph import CudaGraphDecoder
from templora_cli.engine.decoding.cuda.fused_token import FusedToken, can_be_fused
from templora_cli.engine.decoding.protocols import BLOCK


class GraphBackend(CachedBackend):
    """Tokens from a graph, which reads the adapter where training writes it."""

    decoder: CudaGraphDecoder

    def __init__(self, module: nn.Module, *, block: int = BLOCK) -> None:
        """`module` is a model whose configuration `families.can_use_cuda_graph` allows, on any device."""
        on_gpu = next(module.parameters()).is_cuda
        fused = FusedToken(module) if on_gpu and can_be_fused(module) else None
        super().__init__(module, CudaGraphDecoder(module, fused=fused, block=block))
