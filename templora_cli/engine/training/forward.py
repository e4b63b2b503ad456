"""One forward pass, with logits only where they are wanted."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache

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
    """Logits [places, V] that follow those of `ids`, and what is kept of the tokens so far (None without).

    `cache` holds the `start` tokens that came before `ids`. Architectures that cannot keep back logits
    compute them all, and those that keep nothing of earlier tokens return None for the cache.
    """
    base, device = _base(module), _device(module)
    takes = inspect.signature(base.forward).parameters
    wanted = torch.tensor(list(positions), device=device)
    asked: dict[str, Any] = {"logits_to_keep": wanted} if "logits_to_keep" in takes else {}
    kept = next((name for name in CACHES if name in takes), None)
    if use_cache and kept is not None:
        if cache is None and kept == "past_key_values" and base.config.model_type in SILENT:
            cache = DynamicCache(config=base.config)
        asked[kept] = cache
    if start and "position_ids" in takes:  # some count from 0 each time
        asked["position_ids"] = torch.arange(start, start + len(ids), device=device)[None]
    out = module(
        input_ids=torch.tensor([list(ids)], device=device),
        use_cache=use_cache and kept is not None,
        **asked,
    )
    if use_cache and kept is not None:
        cache = getattr(out, kept, cache)
    return out.logits[0] if "logits_to_keep" in takes else out.logits[0, wanted], cache if use_cache else None


def hidden_at(module: nn.Module, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
    """The last hidden states [places, hidden] of those of `ids`, of a model that has a `frozen_head`."""
    device = _device(module)
    out = _base(module).model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    return out.last_hidden_state[0, torch.tensor(list(positions), device=device)]  # type: ignore[no-any-return]


def frozen_head(module: nn.Module) -> nn.Linear | None:
    """The output head, where the logits are its product with `hidden_at` and it gets no gradient."""
    base = _base(module)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    # Of another type where it is quantised or has an adapter of its own.
    if type(head) is not nn.Linear or not has_plain_head(base.config):
        return None
    return None if torch.is_grad_enabled() and head.weight.requires_grad else head


def _base(module: nn.Module) -> Any:
    return module.get_base_model() if isinstance(module, PeftModel) else module


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
