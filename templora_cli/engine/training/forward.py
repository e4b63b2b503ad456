"""One forward pass, with logits only where they are wanted."""

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
    """Logits [places, V] that follow those of `ids`, and the key-value cache (None without one).

    `cache` holds what came before `ids`. Architectures that cannot keep back logits compute them all.
    """
    wanted = torch.tensor(list(positions), device=_device(module))
    keeps = "logits_to_keep" in inspect.signature(_base(module).forward).parameters
    out = module(
        input_ids=torch.tensor([list(ids)], device=_device(module)),
        past_key_values=cache,
        use_cache=use_cache,
        **({"logits_to_keep": wanted} if keeps else {}),
    )
    return out.logits[0] if keeps else out.logits[0, wanted], out.past_key_values if use_cache else None


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
