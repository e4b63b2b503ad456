"""Which architectures the engine knows by heart, told from a transformers configuration alone.

Llama and its relatives: `decoder` and `fused` compute them themselves, and `loss` takes their output head
apart. What transformers loads beside them runs as transformers computes it.
"""

from __future__ import annotations

from typing import Any

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
"""By transformers' `model_type`."""
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose angles do not hang on how long the text has become."""
ACTIVATIONS = {"silu": 0, "gelu_pytorch_tanh": 1, "gelu": 2}
"""Of the MLP, by transformers' names; the numbers are what `kernels` calls them."""


def has_plain_head(config: Any) -> bool:
    """Are the logits the output head's product with the last hidden states, and nothing else?"""
    return config.model_type in FAMILIES and not getattr(config, "final_logit_softcapping", None)


def has_fast_decoder(config: Any) -> bool:
    """Can a model with this configuration be computed by `decoder` and `fused`?"""
    odd = ("attn_logit_softcapping", "use_bidirectional_attention")
    return (
        has_plain_head(config)
        and has_static_rope(config)
        and activation_of(config) in ACTIVATIONS
        and not any(getattr(config, name, None) for name in odd)
    )


def can_use_cuda_graph(config: Any) -> bool:
    """Does a token of a model with this configuration go the same way whatever stands before it?"""
    return config.model_type in FAMILIES and has_static_rope(config)


def has_static_rope(config: Any) -> bool:
    """Are its angles known for every place beforehand?"""
    ropes = config.rope_parameters
    kinds = [ropes] if "rope_type" in ropes else [rope for rope in ropes.values() if rope]
    return all(rope["rope_type"] in STATIC_ROPE for rope in kinds)


def activation_of(config: Any) -> str:
    """The MLP's, which Gemma calls by another name."""
    return getattr(config, "hidden_activation", None) or config.hidden_act  # type: ignore[no-any-return]
