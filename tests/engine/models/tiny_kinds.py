"""Tiny random models of architectures beside Llama's family, in folders as `--model` takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig

from benchmarks.tiny_model import byte_tokenizer

TOKENS = {"vocab_size": 264, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257}
SMALL = {**TOKENS, "hidden_size": 64, "num_hidden_layers": 2}
HEADS = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 64}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _mamba2() -> PreTrainedConfig:
    return transformers.Mamba2Config(**SMALL, num_heads=8, head_dim=16, n_groups=1, state_size=8)


def _jamba() -> PreTrainedConfig:
    every = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "num_experts": 2}
    sizes = {key: value for key, value in HEADS.items() if key != "head_dim"}
    return transformers.JambaConfig(**sizes, **every, mamba_d_state=8, mamba_dt_rank=4)


def _bamba() -> PreTrainedConfig:
    mamba = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
    sizes = {key: value for key, value in HEADS.items() if key != "head_dim"}
    return transformers.BambaConfig(**sizes, **mamba, attn_layer_indices=[1])


def _recurrent_gemma() -> PreTrainedConfig:
    sizes = {**HEADS, "num_hidden_layers": 3, "lru_width": 64, "attention_window_size": 16}
    return transformers.RecurrentGemmaConfig(**sizes)


KINDS: dict[str, Callable[[], PreTrainedConfig]] = {
    "mamba": lambda: transformers.MambaConfig(**SMALL, state_size=8),
    "falcon_mamba": lambda: transformers.FalconMambaConfig(**SMALL, state_size=8),
    "mamba2": _mamba2,
    "jamba": _jamba,
    "bamba": _bamba,
    "recurrent_gemma": _recurrent_gemma,
    "rwkv": lambda: transformers.RwkvConfig(**SMALL, attention_hidden_size=64),
    "falcon": lambda: transformers.FalconConfig(**SMALL, num_attention_heads=4),
    "openai-gpt": lambda: transformers.OpenAIGPTConfig(
        **TOKENS, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
    "llama4_text": lambda: transformers.Llama4TextConfig(
        **HEADS, num_experts_per_tok=1, num_local_experts=4, intermediate_size_mlp=64
    ),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(**HEADS, **EXPERTS, num_experts=4),
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
        **{key: value for key, value in HEADS.items() if key != "head_dim"},
        **EXPERTS,
        num_experts=4,
        shared_expert_intermediate_size=32,
    ),
    "gpt_oss": lambda: transformers.GptOssConfig(**HEADS, num_local_experts=4, num_experts_per_tok=2),
}


def gemma3(layers: int = 3) -> PreTrainedConfig:
    """One with a part that sees."""
    sizes = {**HEADS, "num_hidden_layers": layers, "sliding_window": 24}
    ids = {"boi_token_index": 258, "eoi_token_index": 259, "image_token_index": 260}
    return transformers.Gemma3Config(text_config=sizes, vision_config=VISION, mm_tokens_per_image=4, **ids)


def qwen2_5_vl() -> PreTrainedConfig:
    """One with a part that sees, and no class for its language part alone."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    sizes = {key: value for key, value in HEADS.items() if key != "head_dim"}
    sizes = {**sizes, "rope_parameters": rope}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    return transformers.Qwen2_5_VLConfig(
        text_config=sizes, vision_config={**vision, "fullatt_block_indexes": [0]}, image_token_id=260
    )


def save_tiny(
    folder: Path, config: PreTrainedConfig, auto: Any = transformers.AutoModelForCausalLM, *, seed: int = 0
) -> Any:
    """Save a random model with this configuration and a tokenizer of bytes; the model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(config).float()
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return model.eval()
