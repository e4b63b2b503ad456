"""Choose the layers of a model that get an adapter, and attach it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from templora_cli.config import TrainConfig
from templora_cli.engine.training.fused_lora import fuse_lora_layers
from templora_cli.errors import TemploraError

ADAPTER = "default"
"""The adapter's name inside PEFT; left out of the saved tensor names, as PEFT itself does."""
LINEAR = (nn.Linear, Conv1D, Linear4bit, Linear8bitLt)
"""Types of layers that can have an adapter."""
NOT_LINEAR = re.compile("Router|Grouped")
"""Matches the names of subclasses whose output is not just the product with a matrix."""
READ_DIRECTLY: dict[str, tuple[str, ...]] = {
    "mamba": ("x_proj", "dt_proj", "out_proj"),
    "falcon_mamba": ("x_proj", "dt_proj", "out_proj"),
    "jamba": ("dt_proj",),
    **dict.fromkeys(
        ("bamba", "falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h", "zamba2"), ("out_proj",)
    ),
}
"""Linear layers whose weights a kernel reads directly, by `model_type`: an adapter on them would not learn,
and the kernel cannot read 4-bit weights."""
TOWERS = ("embed_tokens_extend",)
"""Vision and audio parts of language models that transformers cannot load without them."""


def adapted_layers(module: Any) -> dict[str, nn.Module]:
    """The layers of a transformers model that get an adapter, by name.

    These are all linear layers of the language part except the output head and `READ_DIRECTLY`. The experts
    of a mixture are one tensor, not layers, and get none.
    """
    head, direct = module.get_output_embeddings(), READ_DIRECTLY.get(module.config.model_type, ())
    prefix = language_prefix(module)
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, LINEAR)
        and layer is not head
        and not NOT_LINEAR.search(type(layer).__name__)
        and name.startswith(prefix)
        and name.rpartition(".")[2] not in direct
        and not any(part in TOWERS for part in name.split("."))
    }


def language_prefix(module: Any) -> str:
    """Prefix of the names of the layers in the language part; "" if that is the whole model."""
    if module.config.get_text_config(decoder=True) is module.config:
        return ""
    decoder = module.get_decoder()
    return next((f"{name}." for name, part in module.named_modules() if part is decoder and name), "")


@contextmanager
def _hidden_model_type(config: Any) -> Iterator[None]:
    """Hide the architecture from PEFT, so that it selects layers by name only.

    In mixtures of experts it would mistake the layers of a shared expert for the experts of transformers 4
    and adapt all experts, with matrices of a billion numbers and products as large as the model.
    """
    model_type = config.model_type
    config.model_type = "unknown"
    try:
        yield
    finally:
        config.model_type = model_type


def with_adapter(module: Any, train: TrainConfig, seed: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Wrap a transformers model in a PEFT model; returns it with its trainable matrices (see `loading.load`).

    Raises TemploraError if no layer can have an adapter.
    """
    layers = list(adapted_layers(module))
    if not layers:
        raise TemploraError(
            f"the architecture {module.config.model_type} has no layer that can have an adapter",
            "add --no-learn to write without an adapter",
        )
    lora = LoraConfig(
        r=train.rank,
        lora_alpha=train.alpha,
        lora_dropout=train.dropout,
        target_modules=layers,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[module.device] if module.device.type == "cuda" else []):
        torch.manual_seed(seed)
        with _hidden_model_type(module.config):
            model = get_peft_model(module, lora, adapter_name=ADAPTER)
    fuse_lora_layers(model)
    if train.gradient_checkpointing == "on":
        # Renamed in transformers 5.23; 6 will remove the old name.
        enable = getattr(module, "activation_checkpointing_enable", None)
        (enable or module.gradient_checkpointing_enable)({"use_reentrant": False})
    parameters = model.named_parameters()
    return model, {name.replace(f".{ADAPTER}", ""): p for name, p in parameters if p.requires_grad}
