"""What architectures keep that no formula here knows, measured on a model without weights, so in no memory.

Recurrent layers keep a state in the place of keys and values, and their scans keep far more for a backward
pass than attention does; experts keep what was routed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from templora_cli.engine.training.forward import logits_at

SHORT = (8, 16)
"""Tokens that a cache is measured with: fewer than any window."""
LONG = (256, 512)
"""Tokens that a block is measured with: scans go in chunks of up to 256."""


@dataclass(frozen=True)
class Cache:
    """What is kept of the tokens so far, in numbers."""

    each: tuple[int, ...]
    """For each token, by layers."""
    state: int
    """However many tokens there are."""


@dataclass(frozen=True)
class MeasurementCache:
    """What the blocks of a kind keep for their backward passes, beside what an adapter keeps."""

    layers: int
    """How many blocks there are."""
    numbers: int
    """For each token, of those that are computed with."""
    exact: int
    """Bytes for each token of numbers that are always as precise."""


class _Enough(Exception):
    """What was to be measured has been."""


def cache_of(module: Any) -> Cache | None:
    """What an empty model keeps of the tokens so far; None where it cannot be run without weights."""
    try:
        with torch.no_grad():
            sizes = [_sizes(logits_at(module, [0] * n, [n - 1], use_cache=True)[1]) for n in SHORT]
    except Exception:  # some look at values
        return None
    (few, some), gap = sizes, SHORT[1] - SHORT[0]
    if len(few) != len(some):
        return None
    each = tuple((b - a) // gap for a, b in zip(few, some, strict=True))
    return Cache(each, sum(few) - SHORT[0] * sum(each))


def recurrent_kept(module: Any) -> MeasurementCache | None:
    """What the recurrent layers of an empty model keep; None where it has none, or none that can be run."""
    return _kept(module, lambda block: any(isinstance(part, nn.Conv1d) for part in block.children()))


def experts_kept(module: Any) -> MeasurementCache | None:
    """What the experts of an empty model keep; None where it has none, or none that can be run."""
    return _kept(module, are_experts)


def are_experts(block: nn.Module) -> bool:
    """Does the block hold the weights of many experts, each kind of them in one tensor?"""
    return sum(weight.dim() == 3 for weight in block.parameters(recurse=False)) > 1


def _kept(module: Any, wanted: Callable[[nn.Module], bool]) -> MeasurementCache | None:
    blocks = [block for block in module.modules() if wanted(block)]
    if not blocks:
        return None
    try:
        few, many = (_saved(module, blocks[0], tokens, use_cache=False) for tokens in LONG)
    except Exception:  # masks look at values, where there is no cache
        try:
            few, many = (_saved(module, blocks[0], tokens, use_cache=True) for tokens in LONG)
        except Exception:
            return None
    gap = LONG[1] - LONG[0]
    numbers, exact = (max(0, b - a) // gap for a, b in zip(few, many, strict=True))
    return MeasurementCache(len(blocks), numbers, exact)


def _saved(module: Any, block: nn.Module, tokens: int, *, use_cache: bool) -> tuple[int, int]:
    """What autograd keeps of `block`: numbers that are computed with, and bytes of others."""
    weights = {weight.untyped_storage()._cdata for weight in module.parameters()}
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()._cdata
        if place not in weights:
            found[place] = tensor  # whole, so that no other takes its place
        return tensor

    with _until(block, keep), _one_that_learns(module):
        logits_at(module, [0] * tokens, [tokens - 1], use_cache=use_cache)
    sizes = [(tensor.untyped_storage().nbytes(), tensor.dtype == module.dtype) for tensor in found.values()]
    numbers = sum(size for size, computed in sizes if computed) // module.dtype.itemsize
    return numbers, sum(size for size, computed in sizes if not computed)


@contextmanager
def _until(block: nn.Module, keep: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Run to the end of `block`, and let `keep` see what autograd keeps of it."""

    def begin(*_: object) -> None:
        inside.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))

    def end(*_: object) -> None:
        raise _Enough

    with ExitStack() as inside, suppress(_Enough):
        for hook in (block.register_forward_pre_hook(begin), block.register_forward_hook(end)):
            inside.callback(hook.remove)
        yield


@contextmanager
def _one_that_learns(module: Any) -> Iterator[None]:
    """Let gradients flow through all of the model."""
    module.requires_grad_(False)
    module.get_input_embeddings().weight.requires_grad_(True)
    yield


def _sizes(kept: Any) -> list[int]:
    """Numbers that each layer keeps."""
    layers = getattr(kept, "layers", None) or kept or []
    return [
        sum(tensor.numel() for tensor in {id(t): t for t in _tensors(layer)}.values()) for layer in layers
    ]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif hasattr(value, "__dict__") and not isinstance(value, nn.Module):
        yield from _tensors([part for part in vars(value).values() if not hasattr(part, "model_type")])
