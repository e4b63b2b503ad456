"""The bounds of a machine, and the work of a chunk: the two sides of "a share of the bound".

A decoded token reads every weight once, and the keys and values of earlier tokens: the bound is bytes over
the read bandwidth. A training pass multiplies matrices: the bound is floating-point operations over the rate
of one large product.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor, nn

TRIALS = 10


@dataclass(frozen=True)
class Sizes:
    """The sizes of the tensors that a machine is measured with."""

    read_bytes: int
    """The size of the tensor that is read: many times the CPU caches."""
    rows: int
    """The rows and columns of the matrices that are multiplied."""


SIZES = {"cpu": Sizes(1 << 29, 2048), "cuda": Sizes(1 << 29, 8192)}
"""By device type."""

Form = Literal["live", "merged", "int8"]
"""The weights that decoding reads: base and adapter as the model holds them, the base with the adapter merged
into it, or an 8-bit copy of both.
"""


def clock_on(device: torch.device) -> Callable[[], float]:
    """A clock in seconds that waits until `device` has finished its work."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def read_bandwidth(device: torch.device, size: int) -> float:
    """The best rate, in bytes a second, of reading `size` bytes from the memory of the device."""
    block = torch.ones(size // 4, device=device)
    return size / min(_seconds(reduce, device) for reduce in (block.sum, block.amax))


def product_rate(device: torch.device, dtype: torch.dtype, rows: int) -> float:
    """The best rate, in floating-point operations a second, of a product of square matrices."""
    matrix = torch.ones(rows, rows, device=device, dtype=dtype)
    return 2 * rows**3 / _seconds(lambda: matrix @ matrix, device)


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    clock = clock_on(device)
    times = []
    for _ in range(TRIALS):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


@dataclass(frozen=True)
class Work:
    """The sizes of a Llama-like model that determine its operations and bytes."""

    block_weights: int
    """Weights of the linear layers in the blocks, without the adapter."""
    head_weights: int
    """Weights of the output head."""
    adapter_weights: int
    query_size: int
    """num_heads x head_dim."""
    cache_size: int
    """Keys and values of one token in one layer: 2 x num_kv_heads x head_dim."""
    windows: tuple[int | None, ...]
    """The attention window of each layer, in tokens; None without one."""

    @classmethod
    def of(cls, module: nn.Module) -> Work:
        """The work of a transformers model, which may be inside a PEFT model."""
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        config = model.config.get_text_config()
        head = model.get_output_embeddings()
        blocks = adapter = 0
        for name, part in model.named_modules():
            if isinstance(part, nn.Linear) and part is not head:
                # The shape of a weight that is packed into 4 bits does not give their number.
                weights = part.in_features * part.out_features
                adapter += weights if "lora_" in name else 0
                blocks += 0 if "lora_" in name else weights
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            blocks,
            head.in_features * head.out_features,
            adapter,
            config.num_attention_heads * head_dim,
            2 * config.num_key_value_heads * head_dim,
            _windows(config),
        )


def _windows(config: Any) -> tuple[int | None, ...]:
    kinds = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    if kinds is None:  # all layers of Mistral have the same window
        return (window,) * int(config.num_hidden_layers)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _visible_tokens(position: int, windows: tuple[int | None, ...]) -> int:
    """The tokens that are visible from `position`, counted from 1: their sum over all layers."""
    return sum(min(position, window or position) for window in windows)


def step_flops(work: Work, prompt: int, chunk: int) -> int:
    """Floating-point operations that one training step over (prompt -> chunk) needs; both in tokens.

    Counted are the forward and backward pass through every layer at every position but the last, and logits
    for the chunk only. The backward pass of a product is a second product for its input and, in the adapter
    only, a third one for its weights. Not counted are norms, activation functions and the optimizer, nor
    work that is not needed, such as recomputed activations or logits of the context. The gradient of the
    first layer's input is counted for simplicity, although nothing uses it.
    """
    positions = prompt + chunk - 1
    products = 4 * positions * work.block_weights + 6 * positions * work.adapter_weights
    products += 4 * chunk * work.head_weights
    visible = sum(_visible_tokens(position, work.windows) for position in range(1, positions + 1))
    # Two products (queries x keys, weights x values), each with two more in the backward pass.
    attention = 3 * 2 * 2 * work.query_size * visible
    return products + attention


def weight_bytes(module: nn.Module, form: Form) -> int:
    """Bytes of weights, the head included, that a decoded token reads from the model in this form."""
    total = 0
    for name, part in module.named_modules():
        adapter = "lora_" in name
        if isinstance(part, nn.Embedding) or (adapter and form != "live"):
            continue  # one row of the embeddings is read; tied embeddings count as the head
        for parameter in part.parameters(recurse=False):
            packed = form == "int8" and parameter.dim() == 2
            total += _int8_bytes(parameter) if packed else _stored_bytes(parameter)
    return total


def _int8_bytes(weight: Tensor) -> int:
    """One byte per weight, and a 4-byte scale per row."""
    return weight.numel() + 4 * len(weight)


def _stored_bytes(parameter: Any) -> int:
    stored: int = parameter.nbytes
    scales = getattr(parameter, "quant_state", None)  # in 4 bits by bitsandbytes
    while scales is not None:
        stored += scales.absmax.nbytes
        scales = getattr(scales, "state2", None)  # the scales of the scales; None if packed for a CPU
    return stored


def cache_bytes(work: Work, prompt: int, tokens: int, itemsize: int) -> float:
    """Mean bytes of keys and values that a token of a chunk reads; the first token is not counted."""
    positions = range(prompt + 1, prompt + tokens)
    visible = sum(_visible_tokens(position, work.windows) for position in positions)
    return visible * work.cache_size * itemsize / max(1, len(positions))
