"""Models with the shapes of well-known ones and random weights, for machines without downloads."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config

from benchmarks.subject import Synthetic

MAX_POSITIONS = 32_768


def llama(
    hidden_size: int,
    intermediate_size: int,
    num_layers: int,
    heads: tuple[int, int],
    vocab_size: int,
    *,
    tied: bool,
) -> Any:
    """The configuration of a Llama; `heads` are the number of query heads and of key-value heads."""
    return LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        vocab_size=vocab_size,
        tie_word_embeddings=tied,
        max_position_embeddings=MAX_POSITIONS,
    )


CONFIGS: dict[Synthetic, PretrainedConfig] = {
    "135m": llama(576, 1536, 30, (9, 3), 49_152, tied=True),  # SmolLM2-135M
    "1b": llama(2048, 8192, 16, (32, 8), 128_256, tied=True),  # Llama 3.2 1B
    "7b": llama(4096, 11_008, 32, (32, 32), 32_000, tied=False),  # Llama 2 7B, the paper's
    "14b": Qwen2Config(  # Qwen2.5 14B
        hidden_size=5120,
        intermediate_size=13_824,
        num_hidden_layers=48,
        num_attention_heads=40,
        num_key_value_heads=8,
        vocab_size=152_064,
        tie_word_embeddings=False,
        max_position_embeddings=MAX_POSITIONS,
    ),
}


def load(config: PretrainedConfig, device: torch.device) -> Any:
    """Build a model in the precision of templora's base: float32 on the CPU, NF4 over bfloat16 on a GPU."""
    gpu = device.type == "cuda"
    return build(config, device, torch.bfloat16 if gpu else torch.float32, nf4=gpu)


def build(config: PretrainedConfig, device: torch.device, dtype: torch.dtype, *, nf4: bool) -> Any:
    """Build a model with the initial weights of transformers. `nf4` quantises all linear layers but the head.

    Each layer is drawn and quantised on the device, so the whole model never exists in `dtype`.
    """
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    head = model.get_output_embeddings()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)  # the same model in every process
        for name, module in list(model.named_modules()):
            module.to_empty(device=device, recurse=False)
            model._init_weights(module)
            if nf4 and isinstance(module, nn.Linear) and module is not head:
                model.set_submodule(name, _quantised(module, dtype))
    model.tie_weights()
    model.is_loaded_in_4bit = nf4  # PEFT reads it
    return model.requires_grad_(False).eval()


def _quantised(linear: nn.Linear, dtype: torch.dtype) -> Linear4bit:
    quantised = Linear4bit(
        *(linear.in_features, linear.out_features, linear.bias is not None),
        compute_dtype=dtype,
        quant_type="nf4",
        device="meta",
    )
    weight = Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", module=quantised)
    quantised.weight = weight.to(linear.weight.device)
    quantised.bias = linear.bias
    return quantised
