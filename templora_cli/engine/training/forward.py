"""Forward passes that compute logits at selected positions only."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from templora_cli.engine.kernels.families import has_plain_head


def logits_at(
    module: nn.Module,
    ids: Sequence[int],
    positions: Sequence[int],
    *,
    cache: Any = None,
    use_cache: bool = False,
) -> tuple[Tensor, Any]:
    """Logits [positions, V] at `positions` of `ids`, and the key-value cache (None without `use_cache`).

    `cache` holds keys and values of the tokens before `ids`. Models without `logits_to_keep` compute all
    logits.
    """
    index = torch.tensor(list(positions), device=_device(module))
    can_select = "logits_to_keep" in inspect.signature(_base(module).forward).parameters
    out = module(
        input_ids=torch.tensor([list(ids)], device=_device(module)),
        past_key_values=cache,
        use_cache=use_cache,
        **({"logits_to_keep": index} if can_select else {}),
    )
    logits = out.logits[0] if can_select else out.logits[0, index]
    return logits, out.past_key_values if use_cache else None


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
