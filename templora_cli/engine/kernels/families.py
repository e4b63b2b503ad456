"""The architectures that the engine computes itself, recognised by their transformers configuration.

For Llama and similar models `int8_decoder` and `fused_token` implement the forward pass, and `loss` the
output head. All other models run with the forward pass of transformers.
"""

from __future__ import annotations

from typing import Any

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
"""Values of `model_type` in transformers."""
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose cos and sin do not depend on the length of the text."""
ACTIVATIONS = {"silu": 0, "gelu_pytorch_tanh": 1, "gelu": 2}
"""Activations of the MLP by their transformers names, with their numbers in the kernels."""


def has_plain_head(config: Any) -> bool:
    """Are the logits only the product of the output head with the last hidden states?"""
    return config.model_type in FAMILIES and not getattr(config, "final_logit_softcapping", None)


def has_fast_decoder(config: Any) -> bool:
    """Can `int8_decoder` and `fused_token` compute a model with this configuration?"""
    unsupported = ("attn_logit_softcapping", "use_bidirectional_attention")
    return (
        has_plain_head(config)
        and has_static_rope(config)
        and activation_name(config) in ACTIVATIONS
        and not any(getattr(config, name, None) for name in unsupported)
    )


def can_use_cuda_graph(config: Any) -> bool:
    """Are the operations for a token the same after any text, so that a graph can capture them?"""
    return config.model_type in FAMILIES and has_static_rope(config)


def has_static_rope(config: Any) -> bool:
    """Are cos and sin of the rotary embedding fixed for each position?"""
    parameters = config.rope_parameters
    ropes = [parameters] if "rope_type" in parameters else [rope for rope in parameters.values() if rope]
    return all(rope["rope_type"] in STATIC_ROPE for rope in ropes)


def activation_name(config: Any) -> str:
    """The activation of the MLP. Gemma's configuration has another field for it."""
    return getattr(config, "hidden_activation", None) or config.hidden_act  # type: ignore[no-any-return]
