"""A model of transformers as a decoder: what the graph backend decodes with.

To launch the kernels of a token one by one takes a CPU longer than a GPU takes to run them. On CUDA those of
a whole token are captured once as a graph, and launched at once from then on; so all that changes between
tokens stands in buffers that stay where they are: the token, the keys and values, how many of them count,
and the adapter, which training writes in place. Elsewhere the same forward pass runs uncaptured.
A prompt is transformers' affair, and so is a token where there is no `fused` one for the model.
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

WARM_UP = 2
"""Tokens before the capture: libraries set themselves up in the first calls."""


class CudaGraphDecoder:
    """The model's logits, token after token; `length` tokens are behind it."""

    def __init__(self, module: nn.Module, *, fused: FusedToken | None, block: int = BLOCK) -> None:
        """`fused` is what a token goes through where there is one for the model; `block` is by how many
        places the buffers of keys and values grow.
        """
        self.module, self.block = module, block
        self.length = 0
        self._fused = fused
        self._layers: list[StaticLayer] = []
        """Keys and values, all with room for as many places, also where a layer sees fewer: one that slides
        moves them about as the text goes on, and no graph can follow."""
        self._counted: int | None = None
        """How many tokens the device has been told of, where that is known. A fused token moves `_place`
        alone, so the layers are told anew before a prompt."""
        device = next(module.parameters()).device
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        """Where it stands."""
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        """And the logits [V] that it leaves."""
        self._adapted = next((part for part in module.modules() if isinstance(part, LoraLayer)), None)
        self._disabled = False
        """Was the adapter disabled when it was captured?"""

    def adapter_changed(self) -> None:
        """Nothing is copied: the adapter is live."""

    def release(self) -> None:
        """See `cached.Decoder.release`."""
        self._layers, self._captured, self._counted, self.length = [], None, None, 0

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """The logits [V] that follow `ids`, which come after the `length` tokens so far."""
        start = self.length
        self.reserve(start + len(ids))
        self.length += len(ids)
        prompt = len(ids) > 1 or not start
        disabled = self._adapted is not None and self._adapted.disable_adapters
        if disabled != self._disabled:
            self._disabled, self._captured, self._counted = disabled, None, None
        if prompt or self._counted != start:
            self._count(start)
        if prompt:
            self._counted = None
            cache = Cache(layers=self._layers)
            return logits_at(self.module, ids, [len(ids) - 1], cache=cache, use_cache=True)[0][0]
        self._counted = self.length
        self._token.fill_(ids[0])
        if not self._token.is_cuda:
            return self._next()
        if self._captured is None:
            self._captured = self._capture(start)
        graph, logits = self._captured
        graph.replay()
        return logits.clone()

    def _next(self) -> Tensor:
        """The logits after the token in its buffer, and one token more is behind it."""
        if self._fused is not None and not self._disabled:
            logits = self._fused(self._token, self._place, self._layers)
            self._place += 1
            return logits
        cache = Cache(layers=self._layers)
        return self.module(input_ids=self._token, past_key_values=cache, use_cache=True).logits[0, -1]  # type: ignore[no-any-return]

    def _capture(self, start: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        beside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._next()
                self._count(start)
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.graph(graph):  # nothing runs in here
            logits = self._next()
        return graph, logits

    def _count(self, tokens: int) -> None:
        self._place.fill_(tokens)
        for layer in self._layers:
            layer.cumulative_length.fill_(tokens)

    def reserve(self, tokens: int) -> None:
        """See `cached.Decoder.reserve`."""
        if self._layers and tokens <= self._layers[0].max_cache_len:
            return
        config: Any = self.module.config
        places = -(-tokens // self.block) * self.block
        old, self._layers = self._layers, [StaticLayer(places) for _ in range(config.num_hidden_layers)]
        self._counted = self._captured = None
        if self._fused is not None:
            self._fused.reserve(places)
        if not self.length:
            return  # a forward pass makes them
        for layer in self._layers:
            before = old.pop(0)  # so that not all are there twice
            layer.lazy_initialization(before.keys, before.values)
            layer.keys[:, :, : self.length] = before.keys[:, :, : self.length]
            layer.values[:, :, : self.length] = before.values[:, :, : self.length]
