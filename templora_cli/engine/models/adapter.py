"""Which layers of a model get an adapter, and putting it on."""

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
"""Types of layers that an adapter goes on."""
NO_MATRIX = re.compile("Router|Grouped")
"""In the names of classes that are derived from them, and do not put out the product of a matrix alone."""
READ_DIRECTLY: dict[str, tuple[str, ...]] = {
    "mamba": ("x_proj", "dt_proj", "out_proj"),
    "falcon_mamba": ("x_proj", "dt_proj", "out_proj"),
    "jamba": ("dt_proj",),
    **dict.fromkeys(
        ("bamba", "falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h", "zamba2"), ("out_proj",)
    ),
}
"""Linear layers whose weights kernels read past the layer, by `model_type`: no adapter there would learn, and
in 4 bits they would make no sense."""
TOWERS = ("embed_tokens_extend",)
"""Parts of a language model that see or hear, where no class of transformers goes without."""


def adapted_layers(module: Any) -> dict[str, nn.Module]:
    """The layers of a transformers model that get an adapter, by their names.

    All linear ones of its language part but the output head and those that are read past the layer. Experts
    of a mixture are no layers but one tensor, and get none.
    """
    head, direct = module.get_output_embeddings(), READ_DIRECTLY.get(module.config.model_type, ())
    inside = language_part(module)
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, LINEAR)
        and layer is not head
        and not NO_MATRIX.search(type(layer).__name__)
        and name.startswith(inside)
        and name.rpartition(".")[2] not in direct
        and not any(part in TOWERS for part in name.split("."))
    }


def language_part(module: Any) -> str:
    """What the names begin with of the layers of the language part; "" where a model is no more than that."""
    if module.config.get_text_config(decoder=True) is module.config:
        return ""
    decoder = module.get_decoder()
    return next((f"{name}." for name, part in module.named_modules() if part is decoder and name), "")


@contextmanager
def _of_no_kind(config: Any) -> Iterator[None]:
    """Inside it PEFT knows the layers by their names alone.

    In mixtures of experts it would take those of a shared expert for the experts of transformers 4, and adapt
    all of them: with matrices of a billion numbers, and products as large as the model.
    """
    kind = config.model_type
    config.model_type = "unknown"
    try:
        yield
    finally:
        config.model_type = kind


def with_adapter(module: Any, train: TrainConfig, seed: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A transformers model inside a PEFT model, and the matrices that learn (see `loading.load`).

    Raises TemploraError where there is no layer that could have an adapter.
    """
    layers = list(adapted_layers(module))
    if not layers:
        raise TemploraError(
            f"the architecture {module.config.model_type} has no layer that an adapter can be put on",
            "--no-learn writes without one",
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
        with _of_no_kind(module.config):
            model = get_peft_model(module, lora, adapter_name=ADAPTER)
    fuse_lora_layers(model)
    if train.gradient_checkpointing == "on":
        # Renamed in transformers 5.23; the old name goes in 6.
        enable = getattr(module, "activation_checkpointing_enable", None)
        (enable or module.gradient_checkpointing_enable)({"use_reentrant": False})
    named = model.named_parameters()
    return model, {name.replace(f".{ADAPTER}", ""): p for name, p in named if p.requires_grad}
