"""What the blocks of Llama and its relatives (`families`) consist of, read from transformers' modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Linears = TypeVar("Linears")


class Norm:
    """The weights of an RMSNorm."""

    def __init__(self, norm: Any) -> None:
        gemma = type(norm).__name__.startswith("Gemma")  # its weights are kept around 0
        self.weight: Tensor = norm.weight.detach().float() + 1 if gemma else norm.weight.detach()
        self.eps: float = norm.eps if gemma else norm.variance_epsilon


class TransformerBlock(Generic[Linears]):
    """Attention and MLP, each between norms, added to what came in."""

    def __init__(
        self, layer: Any, config: Any, window: int | None, linears: Callable[[Sequence[Any]], Linears]
    ) -> None:
        """`linears` makes one thing of linear layers that share an input."""
        attention, mlp = layer.self_attn, layer.mlp
        self.window = window
        """How many tokens it sees; None for all of them."""
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size, self.scaling = attention.head_dim, attention.scaling
        self.qkv = linears([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = linears([attention.o_proj])
        self.gate_up = linears([mlp.gate_proj, mlp.up_proj])
        self.down = linears([mlp.down_proj])
        self.q_norm, self.k_norm = (
            Norm(getattr(attention, name)) if hasattr(attention, name) else None
            for name in ("q_norm", "k_norm")
        )
        self.before_attention = Norm(layer.input_layernorm)
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma has a norm behind each half too
            self.after_attention: Norm | None = Norm(layer.post_attention_layernorm)
            self.before_mlp = Norm(layer.pre_feedforward_layernorm)
            self.after_mlp: Norm | None = Norm(layer.post_feedforward_layernorm)
        else:
            self.before_mlp = Norm(layer.post_attention_layernorm)
            self.after_attention = self.after_mlp = None


def layers_of(model: Any) -> Iterator[tuple[Any, str, int | None]]:
    """Each layer of a causal language model, of what kind it is, and how many tokens it sees (None: all)."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    # Mistral has one kind of layer, and its window is that of all.
    windows = {"sliding_attention": config.sliding_window} if "sliding_attention" in kinds else {}
    if config.model_type == "mistral":
        windows["full_attention"] = config.sliding_window
    for layer, kind in zip(model.model.layers, kinds, strict=True):
        yield layer, kind, windows.get(kind)


def rotary_cos_sin(model: Any, kind: str, places: int) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding of layers of that kind, [places, head_dim], float32."""
    rotary, device = model.model.rotary_emb, model.model.embed_tokens.weight.device
    by_kind = [kind] if "layer_type" in inspect.signature(rotary.forward).parameters else []
    where = torch.arange(places, device=device)[None]
    cos, sin = rotary(torch.empty(0, device=device), where, *by_kind)
    return cos[0], sin[0]
