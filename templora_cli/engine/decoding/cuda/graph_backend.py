"""The graph backend for GPUs: a token is one captured CUDA graph, with the live adapter."""

from __future__ import annotations

from torch import nn

from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.cuda.cuda_graph import CudaGraphDecoder
from templora_cli.engine.decoding.cuda.fused_token import FusedToken, can_be_fused
from templora_cli.engine.decoding.protocols import BLOCK


class GraphBackend(CachedBackend):
    """Decodes with a graph that reads the adapter's parameters, which training changes in place."""

    decoder: CudaGraphDecoder

    def __init__(self, module: nn.Module, *, block: int = BLOCK) -> None:
        """`module` is a model on any device for which `families.can_use_cuda_graph` is true."""
        on_gpu = next(module.parameters()).is_cuda
        fused = FusedToken(module) if on_gpu and can_be_fused(module) else None
        super().__init__(module, CudaGraphDecoder(module, fused=fused, block=block))
