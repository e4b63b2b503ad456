"""What decides the memory that a model takes, read from its configuration: no weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from templora_cli.engine.kernels.families import has_plain_head
from templora_cli.engine.models.loading import readable_errors


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
    """(out, in) of every linear layer but the output head: those that get an adapter."""
    norms: int
    """In each layer, over `hidden`."""
    head_norms: bool
    """Are queries and keys normed?"""
    windows: tuple[int | None, ...]
    """How many tokens each layer sees; None for all of them."""
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


def shape_of(folder: Path) -> Shape:
    """The shape of the model in `folder`, of which config.json is enough.

    Raises TemploraError where transformers cannot make a causal language model of it.
    """
    with readable_errors(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return _shape(module, config, folder)


def _shape(module: Any, config: Any, folder: Path) -> Shape:
    text = config.get_text_config()
    hidden, heads = text.hidden_size, getattr(text, "num_attention_heads", None) or 1
    head = module.get_output_embeddings()
    modules = dict(module.named_modules())
    linears = []
    for linear in modules.values():
        if isinstance(linear, nn.Linear) and linear is not head:
            linears.append((linear.out_features, linear.in_features))
        elif isinstance(linear, Conv1D):  # GPT-2's, which is a linear layer on its side
            linears.append((linear.weight.shape[1], linear.weight.shape[0]))
    norms = sum(
        _is_norm(norm) and sum(weight.numel() for weight in norm.parameters()) in (hidden, 2 * hidden)
        for norm in modules.values()
    )
    layers = text.num_hidden_layers
    tokenizer = folder / "tokenizer.json"
    return Shape(
        model_type=config.model_type,
        parameters=module.num_parameters(),
        vocab_size=text.vocab_size,
        hidden_size=hidden,
        intermediate_size=_widest(getattr(text, "intermediate_size", None)) or 4 * hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or hidden // heads,
        linears=tuple(linears),
        norms=norms // layers,
        head_norms=any(name.endswith("q_norm") for name in modules),
        windows=_windows(text),
        plain_head=has_plain_head(config),
        tokenizer_bytes=tokenizer.stat().st_size if tokenizer.is_file() else 0,
        config=config,
    )


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
