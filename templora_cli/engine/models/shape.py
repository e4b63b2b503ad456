"""Sizes of a model that determine its memory, computed from its configuration: no weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from templora_cli.engine.kernels.families import FAMILIES, has_plain_head
from templora_cli.engine.models.adapter import adapted_layers
from templora_cli.engine.models.experts import can_be_packed
from templora_cli.engine.models.loading import empty_model, language_part_in, readable_errors
from templora_cli.engine.models.measured import (
    CacheSize,
    SavedActivations,
    are_experts,
    cache_size,
    expert_activations,
    recurrent_activations,
)
from templora_cli.engine.models.prequantized import QuantizationFormat, format_of
from templora_cli.engine.models.quantizing import quantized_layers
from templora_cli.engine.models.support import read_config, require_support

NO_ACTIVATIONS = SavedActivations(0, 0, 0)


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, in elements rather than bytes unless stated otherwise."""

    model_type: str
    parameters: int
    """Tied weights count once."""
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    """Width of the MLP; the largest if it differs between layers."""
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    linears: tuple[tuple[int, int], ...]
    """(out, in) of every layer that gets an adapter: see `adapter.adapted_layers`."""
    quantized: tuple[tuple[int, int], ...]
    """(out, in) of every layer that quantisation packs into 4 or 8 bits."""
    norms: int
    """Norms over `hidden_size` per layer."""
    head_norms: bool
    """Are queries and keys normalised?"""
    windows: tuple[int | None, ...]
    """Attention window of each layer in tokens; None for full attention."""
    cache: CacheSize
    """Cache of the transformers implementation."""
    recurrent: SavedActivations
    """Activations that the recurrent layers save for their backward passes."""
    experts: SavedActivations
    """Activations that the experts save for their backward passes."""
    expert_weights: int
    """Weights of all experts, included in `parameters`."""
    packed_expert_weights: int
    """Those of them that NF4 packs into 4 bits."""
    quantization_format: QuantizationFormat | None
    """Format of the published weights; None if they are not quantised."""
    has_plain_head: bool
    """Are the logits only a matrix product, so that the loss can be computed in slices?"""
    tokenizer_bytes: int
    """Bytes of tokenizer.json; 0 if it is missing."""
    config: Any = field(repr=False, compare=False)
    """The transformers configuration, which decides the backends."""

    @property
    def linears_each(self) -> int:
        """Linear layers with an adapter per layer of the model."""
        return round(len(self.linears) / self.num_layers)

    @property
    def inputs(self) -> int:
        """Sum of the input widths of these linear layers, per layer of the model."""
        return sum(columns for _, columns in self.linears) // self.num_layers


def shape_of(folder: Path, name: str | None = None) -> Shape:
    """The shape of the model in `folder`; config.json is enough. `name` is the model as the user typed it.

    Raises TemploraError if the model is not supported.
    """
    values, name = read_config(folder), name or str(folder)
    require_support(values, name)
    with readable_errors(folder):
        language = language_part_in(folder)
        shape = _shape(empty_model(language), language.config, folder)
        return replace(shape, quantization_format=format_of(values, name))


def most_tokens(folder: Path) -> int | None:
    """The context length of the model in `folder`, in tokens; None if its configuration does not state it."""
    with readable_errors(folder):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        max_positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return max_positions


def _shape(module: Any, config: Any, folder: Path) -> Shape:
    text = config.get_text_config()
    hidden, heads = text.hidden_size, _value(text, "num_attention_heads") or 1
    modules = dict(module.named_modules())
    norms = sum(
        _is_norm(norm) and sum(weight.numel() for weight in norm.parameters()) in (hidden, 2 * hidden)
        for norm in modules.values()
    )
    layers = text.num_hidden_layers
    kv_heads = _value(text, "num_key_value_heads") or heads
    head_dim = _value(text, "head_dim") or hidden // heads
    tokenizer = folder / "tokenizer.json"
    shape = Shape(
        model_type=config.model_type,
        parameters=module.num_parameters(),
        vocab_size=text.vocab_size,
        hidden_size=hidden,
        intermediate_size=_max_size(_value(text, "intermediate_size")) or 4 * hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        linears=tuple(map(_out_in, adapted_layers(module).values())),
        quantized=tuple(map(_out_in, quantized_layers(module).values())),
        norms=norms // layers,
        head_norms=any(name.endswith("q_norm") for name in modules),
        windows=_windows(text),
        cache=CacheSize((2 * kv_heads * head_dim,) * layers, 0),
        recurrent=NO_ACTIVATIONS,
        experts=NO_ACTIVATIONS,
        expert_weights=sum(map(_expert_weights, filter(are_experts, modules.values()))),
        packed_expert_weights=sum(map(_expert_weights, filter(can_be_packed, modules.values()))),
        quantization_format=None,
        has_plain_head=has_plain_head(config),
        tokenizer_bytes=tokenizer.stat().st_size if tokenizer.is_file() else 0,
        config=config,
    )
    return shape if config.model_type in FAMILIES else _measured(shape, module.to(torch.bfloat16))


def _measured(shape: Shape, module: Any) -> Shape:
    """Replace the sizes that no formula gives by measurements on the model without weights."""
    return replace(
        shape,
        cache=cache_size(module) or shape.cache,
        recurrent=recurrent_activations(module) or NO_ACTIVATIONS,
        experts=expert_activations(module) or NO_ACTIVATIONS,
    )


def _value(text: Any, name: str) -> Any:
    """A value of a configuration; None if it has none, or one per layer."""
    try:
        return getattr(text, name, None)
    except Exception:  # transformers raises its own for a value that differs between layers
        return None


def _expert_weights(block: nn.Module) -> int:
    return sum(weight.numel() for weight in block.parameters(recurse=False) if weight.dim() == 3)


def _out_in(layer: Any) -> tuple[int, int]:
    """(out, in)"""
    if isinstance(layer, Conv1D):  # GPT-2's linear layer, with a transposed weight
        return layer.weight.shape[1], layer.weight.shape[0]
    return layer.out_features, layer.in_features


def _max_size(sizes: int | Sequence[int] | None) -> int | None:
    """The maximum, if there is a size per layer, as in Gemma 3n."""
    return sizes if sizes is None or isinstance(sizes, int) else max(sizes)


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Norm")


def _windows(text: Any) -> tuple[int | None, ...]:
    window: int | None = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    layers: int = text.num_hidden_layers
    return (window if text.model_type == "mistral" else None,) * layers
