"""Forward passes that compute logits at selected positions only."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from templora_cli.engine.kernels.families import has_plain_head

SILENT = ("recurrent_gemma",)
"""Architectures that fill a cache which they are given, and return none."""
CACHES = ("past_key_values", "cache_params", "state")
"""What forward passes of transformers call that which is kept of earlier tokens, the usual one first."""


def logits_at(
    module: nn.Module,
    ids: Sequence[int],
    positions: Sequence[int],
    *,
    cache: Any = None,
    use_cache: bool = False,
    start: int = 0,
) -> tuple[Tensor, Any]:
    """Logits [positions, V] at `positions` of `ids`, and the cache of the tokens so far (None without one).

    `cache` holds the `start` tokens before `ids`. Models without `logits_to_keep` compute all logits; models
    that cache nothing of earlier tokens return None for the cache.
    """
    base, device = _base(module), _device(module)
    parameters = inspect.signature(base.forward).parameters
    can_select = "logits_to_keep" in parameters
    index = torch.tensor(list(positions), device=device)
    arguments: dict[str, Any] = {"logits_to_keep": index} if can_select else {}
    cache_name = next((name for name in CACHES if name in parameters), None)
    if use_cache and cache_name is not None:
        if cache is None and cache_name == "past_key_values" and base.config.model_type in SILENT:
            cache = DynamicCache(config=base.config)
        arguments[cache_name] = cache
    if start and "position_ids" in parameters:  # some models count from 0 each time
        arguments["position_ids"] = torch.arange(start, start + len(ids), device=device)[None]
    out = module(
        input_ids=torch.tensor([list(ids)], device=device),
        use_cache=use_cache and cache_name is not None,
        **arguments,
    )
    if use_cache and cache_name is not None:
        cache = getattr(out, cache_name, cache)
    logits = out.logits[0] if can_select else out.logits[0, index]
    return logits, cache if use_cache else None


def shorten_cache(cache: Any, tokens: int) -> bool:
    """Remove the last `tokens` tokens from a cache; returns whether that was possible.

    It is for caches of keys and values that hold all tokens: a window that is full has dropped those before
    it, and a recurrent state cannot be taken back. Then the cache does not change.
    """
    if not tokens:
        return True
    if type(cache) is not DynamicCache or not all(map(_holds_all, cache.layers)):
        return False
    cache.crop(-tokens)
    return True


def _holds_all(layer: Any) -> bool:
    if type(layer) is DynamicLayer:
        return True
    is_window = type(layer) is DynamicSlidingWindowLayer and layer.is_initialized
    return is_window and bool(layer.get_seq_length() < layer.sliding_window)


def hidden_at(module: nn.Module, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Last hidden states [positions, hidden_size] at `positions` of `ids`; needs a `frozen_head`."""
    device = _device(module)
    out = _base(module).model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    return out.last_hidden_state[0, torch.tensor(list(positions), device=device)]  # type: ignore[no-any-return]


def frozen_head(module: nn.Module) -> nn.Linear | None:
    """The output head, if the logits are its plain product with `hidden_at` and it gets no gradient."""
    base = _base(module)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    # A quantised head, or one with an adapter, has another type.
    if type(head) is not nn.Linear or not has_plain_head(base.config):
        return None
    return None if torch.is_grad_enabled() and head.weight.requires_grad else head


def _base(module: nn.Module) -> Any:
    return module.get_base_model() if isinstance(module, PeftModel) else module


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
