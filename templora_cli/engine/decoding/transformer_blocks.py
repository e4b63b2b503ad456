"""The parts of a transformer block of Llama and similar models (`families`), from transformers' modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Linears = TypeVar("Linears")


class RMSNormWeights:
    """Weight and epsilon of an RMSNorm of transformers."""

    def __init__(self, norm: Any) -> None:
        gemma = type(norm).__name__.startswith("Gemma")  # its weights are stored minus 1
        self.weight: Tensor = norm.weight.detach().float() + 1 if gemma else norm.weight.detach()
        self.eps: float = norm.eps if gemma else norm.variance_epsilon


class TransformerBlock(Generic[Linears]):
    """Attention and MLP with their norms; each adds to its input."""

    def __init__(
        self, layer: Any, config: Any, window: int | None, linears: Callable[[Sequence[Any]], Linears]
    ) -> None:
        """`linears` combines linear layers that share an input."""
        attention, mlp = layer.self_attn, layer.mlp
        self.window = window
        """The number of tokens that it attends to; None for all."""
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.scaling = attention.head_dim, attention.scaling
        self.qkv = linears([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = linears([attention.o_proj])
        self.gate_up = linears([mlp.gate_proj, mlp.up_proj])
        self.down = linears([mlp.down_proj])
        self.q_norm, self.k_norm = (
            RMSNormWeights(getattr(attention, name)) if hasattr(attention, name) else None
            for name in ("q_norm", "k_norm")
        )
        self.before_attention = RMSNormWeights(layer.input_layernorm)
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma has norms after attention and MLP too
            self.after_attention: RMSNormWeights | None = RMSNormWeights(layer.post_attention_layernorm)
            self.before_mlp = RMSNormWeights(layer.pre_feedforward_layernorm)
            self.after_mlp: RMSNormWeights | None = RMSNormWeights(layer.post_feedforward_layernorm)
        else:
            self.before_mlp = RMSNormWeights(layer.post_attention_layernorm)
            self.after_attention = self.after_mlp = None


def layers_of(model: Any) -> Iterator[tuple[Any, str, int | None]]:
    """Yield each layer of a causal language model with its type and window in tokens (None: no window)."""
    config = model.config
    types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    # Mistral has a single type of layer, with a window.
    windows = {"sliding_attention": config.sliding_window} if "sliding_attention" in types else {}
    if config.model_type == "mistral":
        windows["full_attention"] = config.sliding_window
    for layer, layer_type in zip(model.model.layers, types, strict=True):
        yield layer, layer_type, windows.get(layer_type)


def rotary_cos_sin(model: Any, layer_type: str, num_positions: int) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding of layers of a type, [num_positions, head_dim], float32."""
    rotary, device = model.model.rotary_emb, model.model.embed_tokens.weight.device
    by_type = [layer_type] if "layer_type" in inspect.signature(rotary.forward).parameters else []
    positions = torch.arange(num_positions, device=device)[None]
    cos, sin = rotary(torch.empty(0, device=device), positions, *by_type)
    return cos[0], sin[0]
