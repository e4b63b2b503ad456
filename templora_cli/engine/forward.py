"""One forward pass, with logits only where they are wanted."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn


def last_logits(
    module: nn.Module, ids: Sequence[int], count: int, *, cache: Any = None, use_cache: bool = False
) -> tuple[Tensor, Any]:
    """Logits [count, V] at the last `count` of `ids`, and the key-value cache (None without one).

    `cache` holds what came before `ids`. Architectures that cannot keep back logits compute them all.
    """
    base: Any = module.get_base_model() if isinstance(module, PeftModel) else module
    device = next(module.parameters()).device
    fewer: dict[str, int] = {}
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        fewer["logits_to_keep"] = count
    out = module(
        input_ids=torch.tensor([list(ids)], device=device),
        past_key_values=cache,
        use_cache=use_cache,
        **fewer,
    )
    return out.logits[0, -count:], out.past_key_values if use_cache else None
