"""What decides the memory that a model takes, read from its configuration: no weights are loaded."""

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
from templora_cli.engine.models.loading import language_in, made_empty, readable_errors
from templora_cli.engine.models.measured import (
    Cache,
    MeasurementCache,
    are_experts,
    cache_of,
    experts_kept,
    recurrent_kept,
)
from templora_cli.engine.models.prequantized import Format, format_of
from templora_cli.engine.models.quantizing import quantized_layers
from templora_cli.engine.models.support import read_config, require_support

NOTHING = MeasurementCache(0, 0, 0)


@dataclass(frozen=True)
class Shape:
    """A model's sizes, in numbers (not bytes) where nothing else is said."""

    model_type: str
    parameters: int
    """Tied ones once."""
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    """Width of the MLP."""
    num_layers: int
    num_heads: int
    num_kv_heads: int
    """Heads of keys and values."""
    head_dim: int
    linears: tuple[tuple[int, int], ...]
    """(out, in) of every layer that gets an adapter: the linear ones but the output head."""
    quantized: tuple[tuple[int, int], ...]
    """(out, in) of every layer whose weights are in 4 or 8 bits where the model is quantised."""
    norms: int
    """In each layer, over `hidden`."""
    head_norms: bool
    """Are queries and keys normed?"""
    windows: tuple[int | None, ...]
    """How many tokens each layer sees; None for all of them."""
    cache: Cache
    """What it keeps of the tokens so far where transformers computes it."""
    recurrent: MeasurementCache
    """What its recurrent layers keep for their backward passes."""
    experts: MeasurementCache
    """What its experts do."""
    expert_weights: int
    """How many weights its experts have, among `parameters`."""
    packed_experts: int
    """How many of them are in 4 bits where the model is."""
    comes: Format | None
    """How its weights come quantised."""
    plain_head: bool
    """Can the loss be taken in slices of the logits?"""
    tokenizer_bytes: int
    """Of its file."""
    config: Any = field(repr=False, compare=False)
    """transformers', which backends are chosen by."""

    @property
    def linears_each(self) -> int:
        """Linear layers in each layer."""
        return round(len(self.linears) / self.num_layers)

    @property
    def inputs(self) -> int:
        """Inputs of all linear layers of one layer."""
        return sum(columns for _, columns in self.linears) // self.num_layers


def shape_of(folder: Path, name: str | None = None) -> Shape:
    """The shape of the model in `folder`, of which config.json is enough; `name` is what the user calls it.

    Raises TemploraError where it cannot be written with.
    """
    said, name = read_config(folder), name or str(folder)
    require_support(said, name)
    with readable_errors(folder):
        language = language_in(folder)
        shape = _shape(made_empty(language), language.config, folder)
        return replace(shape, comes=format_of(said, name))


def most_tokens(folder: Path) -> int | None:
    """The longest sequence that the model in `folder` was made for, in tokens; None where it does not say."""
    with readable_errors(folder):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        most: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return most


def _shape(module: Any, config: Any, folder: Path) -> Shape:
    text = config.get_text_config()
    hidden, heads = text.hidden_size, _said(text, "num_attention_heads") or 1
    modules = dict(module.named_modules())
    norms = sum(
        _is_norm(norm) and sum(weight.numel() for weight in norm.parameters()) in (hidden, 2 * hidden)
        for norm in modules.values()
    )
    layers = text.num_hidden_layers
    groups = _said(text, "num_key_value_heads") or heads
    head_size = _said(text, "head_dim") or hidden // heads
    tokenizer = folder / "tokenizer.json"
    shape = Shape(
        model_type=config.model_type,
        parameters=module.num_parameters(),
        vocab_size=text.vocab_size,
        hidden_size=hidden,
        intermediate_size=_widest(_said(text, "intermediate_size")) or 4 * hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=groups,
        head_dim=head_size,
        linears=tuple(map(_size, adapted_layers(module).values())),
        quantized=tuple(map(_size, quantized_layers(module).values())),
        norms=norms // layers,
        head_norms=any(name.endswith("q_norm") for name in modules),
        windows=_windows(text),
        cache=Cache((2 * groups * head_size,) * layers, 0),
        recurrent=NOTHING,
        experts=NOTHING,
        expert_weights=sum(map(_weights, filter(are_experts, modules.values()))),
        packed_experts=sum(map(_weights, filter(can_be_packed, modules.values()))),
        comes=None,
        plain_head=has_plain_head(config),
        tokenizer_bytes=tokenizer.stat().st_size if tokenizer.is_file() else 0,
        config=config,
    )
    return shape if config.model_type in FAMILIES else _measured(shape, module.to(torch.bfloat16))


def _measured(shape: Shape, module: Any) -> Shape:
    """With what is not known of an architecture, but can be measured of an empty model of it."""
    return replace(
        shape,
        cache=cache_of(module) or shape.cache,
        recurrent=recurrent_kept(module) or NOTHING,
        experts=experts_kept(module) or NOTHING,
    )


def _said(text: Any, name: str) -> Any:
    """What a configuration says; None where it says nothing, or another thing for each layer."""
    try:
        return getattr(text, name, None)
    except Exception:  # transformers' own, for what differs from layer to layer
        return None


def _weights(block: nn.Module) -> int:
    return sum(weight.numel() for weight in block.parameters(recurse=False) if weight.dim() == 3)


def _size(layer: Any) -> tuple[int, int]:
    """(out, in)"""
    if isinstance(layer, Conv1D):  # GPT-2's, which is a linear layer on its side
        return layer.weight.shape[1], layer.weight.shape[0]
    return layer.out_features, layer.in_features


def _widest(sizes: int | Sequence[int] | None) -> int | None:
    """Gemma 3n says it for each layer."""
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
