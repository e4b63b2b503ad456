"""The decoder of the graph backend: a transformers model whose forward pass of a token is a CUDA graph.

Launching the kernels of a token one by one takes a CPU longer than running them takes a GPU. On CUDA the
kernels of a token are captured once as a graph and then launched together. All that changes between tokens is
therefore in buffers with fixed addresses: the token, keys and values, their number, and the adapter, which
training changes in place. On other devices the same forward pass runs without a graph.
Prompts use the forward pass of transformers, and so do tokens of a model that `fused_token` does not support.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.cache_utils import Cache, StaticLayer

from templora_cli.engine.decoding.cuda.fused_token import FusedToken
from templora_cli.engine.decoding.protocols import BLOCK
from templora_cli.engine.training.forward import logits_at

WARM_UP_TOKENS = 2
"""Tokens computed before the capture, because libraries initialise themselves in the first calls."""


class CudaGraphDecoder:
    """A `CachedDecoder` that computes single tokens with a CUDA graph."""

    def __init__(self, module: nn.Module, *, fused: FusedToken | None, block: int = BLOCK) -> None:
        """`fused` computes single tokens if the model supports it.

        `block` is the number of positions by which the key-value cache grows.
        """
        self.module, self.block = module, block
        self.length = 0
        self._fused = fused
        self._layers: list[StaticLayer] = []
        """The key-value cache. All layers have the same number of positions, even those with a window: a
        sliding cache moves its contents, which a graph cannot do."""
        self._device_length: int | None = None
        """The length that is set on the device, if known. A fused token updates only `_position`, so the
        lengths of the layers are set again before a prompt."""
        device = next(module.parameters()).device
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(1, dtype=torch.long, device=device)
        """The position of `_token`."""
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        """The graph and the logits [V] that it writes."""
        self._lora_layer = next((part for part in module.modules() if isinstance(part, LoraLayer)), None)
        self._disabled = False
        """Was the adapter disabled at the last capture?"""

    def adapter_changed(self) -> None:
        """Do nothing: the forward pass reads the adapter itself."""

    def release(self) -> None:
        """See `CachedDecoder.release`."""
        self._layers, self._captured, self._device_length, self.length = [], None, None, 0

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """See `CachedDecoder.logits_after`."""
        start = self.length
        self.reserve(start + len(ids))
        self.length += len(ids)
        is_prompt = len(ids) > 1 or not start
        disabled = self._lora_layer is not None and self._lora_layer.disable_adapters
        if disabled != self._disabled:
            self._disabled, self._captured, self._device_length = disabled, None, None
        if is_prompt or self._device_length != start:
            self._set_device_length(start)
        if is_prompt:
            self._device_length = None
            cache = Cache(layers=self._layers)
            return logits_at(self.module, ids, [len(ids) - 1], cache=cache, use_cache=True)[0][0]
        self._device_length = self.length
        self._token.fill_(ids[0])
        if not self._token.is_cuda:
            return self._compute_token()
        if self._captured is None:
            self._captured = self._capture(start)
        graph, logits = self._captured
        graph.replay()
        return logits.clone()

    def _compute_token(self) -> Tensor:
        """Compute the logits after the token in `_token`, and advance the position."""
        if self._fused is not None and not self._disabled:
            logits = self._fused(self._token, self._position, self._layers)
            self._position += 1
            return logits
        cache = Cache(layers=self._layers)
        return self.module(input_ids=self._token, past_key_values=cache, use_cache=True).logits[0, -1]  # type: ignore[no-any-return]

    def _capture(self, start: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        side_stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(WARM_UP_TOKENS):
                self._compute_token()
                self._set_device_length(start)
        torch.cuda.current_stream().wait_stream(side_stream)
        with torch.cuda.graph(graph):  # records, and does not run
            logits = self._compute_token()
        return graph, logits

    def _set_device_length(self, tokens: int) -> None:
        self._position.fill_(tokens)
        for layer in self._layers:
            layer.cumulative_length.fill_(tokens)

    def reserve(self, tokens: int) -> None:
        """See `CachedDecoder.reserve`."""
        if self._layers and tokens <= self._layers[0].max_cache_len:
            return
        config: Any = self.module.config
        num_positions = -(-tokens // self.block) * self.block
        old = self._layers
        self._layers = [StaticLayer(num_positions) for _ in range(config.num_hidden_layers)]
        self._device_length = self._captured = None
        if self._fused is not None:
            self._fused.reserve(num_positions)
        if not self.length:
            return  # the first forward pass allocates them
        for layer in self._layers:
            previous = old.pop(0)  # freed layer by layer, so that only one is in memory twice
            layer.lazy_initialization(previous.keys, previous.values)
            layer.keys[:, :, : self.length] = previous.keys[:, :, : self.length]
            layer.values[:, :, : self.length] = previous.values[:, :, : self.length]
