"""Cache and activation sizes of architectures without a formula, measured on a model on the meta device.

Recurrent layers cache a state instead of keys and values, and their scans save far more activations for the
backward pass than attention does. Experts save the inputs that were routed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from templora_cli.engine.training.forward import logits_at

CACHE_TOKENS = (8, 16)
"""Lengths for measuring a cache: shorter than any window."""
BLOCK_TOKENS = (256, 512)
"""Lengths for measuring a block: scans work in chunks of up to 256 tokens."""


@dataclass(frozen=True)
class CacheSize:
    """Size of a model's cache, in elements."""

    each: tuple[int, ...]
    """Per token, by layer."""
    state: int
    """Independent of the number of tokens."""


@dataclass(frozen=True)
class SavedActivations:
    """Activations that blocks of one kind save for their backward passes, without those of an adapter."""

    blocks: int
    """Number of blocks of this kind."""
    elements: int
    """Elements per token and block in the compute dtype."""
    other_bytes: int
    """Bytes per token and block in other dtypes."""


class _EndOfBlock(Exception):
    """Ends the forward pass after the measured block."""


def cache_size(module: Any) -> CacheSize | None:
    """Size of the cache of a model on the meta device; None if it cannot run without weights."""
    try:
        with torch.no_grad():
            short, long = (
                _layer_sizes(logits_at(module, [0] * n, [n - 1], use_cache=True)[1]) for n in CACHE_TOKENS
            )
    except Exception:  # the code of some models reads values
        return None
    if len(short) != len(long):
        return None
    more_tokens = CACHE_TOKENS[1] - CACHE_TOKENS[0]
    each = tuple((b - a) // more_tokens for a, b in zip(short, long, strict=True))
    return CacheSize(each, sum(short) - CACHE_TOKENS[0] * sum(each))


def recurrent_activations(module: Any) -> SavedActivations | None:
    """Saved activations of the recurrent layers of a model on the meta device; None if not measurable."""
    return _measure(module, lambda block: any(isinstance(part, nn.Conv1d) for part in block.children()))


def expert_activations(module: Any) -> SavedActivations | None:
    """Saved activations of the experts of a model on the meta device; None if not measurable."""
    return _measure(module, are_experts)


def are_experts(block: nn.Module) -> bool:
    """Does the block hold stacked weights of many experts?"""
    return sum(weight.dim() == 3 for weight in block.parameters(recurse=False)) > 1


def _measure(module: Any, is_of_kind: Callable[[nn.Module], bool]) -> SavedActivations | None:
    blocks = [block for block in module.modules() if is_of_kind(block)]
    if not blocks:
        return None
    try:
        short, long = (_saved(module, blocks[0], tokens, use_cache=False) for tokens in BLOCK_TOKENS)
    except Exception:  # without a cache, some masks read values
        try:
            short, long = (_saved(module, blocks[0], tokens, use_cache=True) for tokens in BLOCK_TOKENS)
        except Exception:
            return None
    more_tokens = BLOCK_TOKENS[1] - BLOCK_TOKENS[0]
    elements, other_bytes = (max(0, b - a) // more_tokens for a, b in zip(short, long, strict=True))
    return SavedActivations(len(blocks), elements, other_bytes)


def _saved(module: Any, block: nn.Module, tokens: int, *, use_cache: bool) -> tuple[int, int]:
    """The sizes that autograd saves in `block`: elements in the compute dtype, and bytes in other dtypes."""
    weights = {weight.untyped_storage()._cdata for weight in module.parameters()}
    saved: dict[int, Tensor] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            saved[storage] = tensor  # the reference keeps the id of the storage from being used again
        return tensor

    _require_all_gradients(module)
    with _until(block, record):
        logits_at(module, [0] * tokens, [tokens - 1], use_cache=use_cache)
    sizes = [(tensor.untyped_storage().nbytes(), tensor.dtype == module.dtype) for tensor in saved.values()]
    elements = sum(size for size, in_compute_dtype in sizes if in_compute_dtype) // module.dtype.itemsize
    return elements, sum(size for size, in_compute_dtype in sizes if not in_compute_dtype)


@contextmanager
def _until(block: nn.Module, record: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """End a forward pass after `block`, and pass the tensors that autograd saves in it to `record`."""

    def begin(*_: object) -> None:
        inside.enter_context(torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor))

    def end(*_: object) -> None:
        raise _EndOfBlock

    with ExitStack() as inside, suppress(_EndOfBlock):
        for hook in (block.register_forward_pre_hook(begin), block.register_forward_hook(end)):
            inside.callback(hook.remove)
        yield


def _require_all_gradients(module: Any) -> None:
    """Let gradients flow through all layers: they reach the embedding, and no other weights."""
    module.requires_grad_(False)
    module.get_input_embeddings().weight.requires_grad_(True)


def _layer_sizes(cache: Any) -> list[int]:
    """Size of each layer's cache, in elements."""
    layers = getattr(cache, "layers", None) or cache or []
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
