"""What a machine could do at most, and what a chunk needs: the two sides of "a share of the bound".

A decoded token reads every weight once and the keys and values before it: bytes, over how fast memory
is read. A training pass is products of matrices: floating-point operations, over how fast one of them runs.
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
    """Of what a machine is measured by."""

    read_bytes: int
    """Of the tensor that is read: many times the caches."""
    rows: int
    """And columns of the matrices that are multiplied."""


SIZES = {"cpu": Sizes(1 << 29, 2048), "cuda": Sizes(1 << 29, 8192)}
"""By the kind of device."""

Form = Literal["live", "merged", "int8"]
"""How a decoded token finds the weights: base and adapter side by side as the model holds them, the base
with the adapter in it, or a copy of both in 8 bits.
"""


def clock_on(device: torch.device) -> Callable[[], float]:
    """Seconds, once all that was asked of `device` is done."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def read_bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that are read from the device's memory, at best, from `size` of them."""
    block = torch.ones(size // 4, device=device)
    return size / min(_seconds(reduce, device) for reduce in (block.sum, block.amax))


def product_rate(device: torch.device, dtype: torch.dtype, rows: int) -> float:
    """Floating-point operations a second of a product of square matrices, at best."""
    matrix = torch.ones(rows, rows, device=device, dtype=dtype)
    return 2 * rows**3 / _seconds(lambda: matrix @ matrix, device)


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    clock = clock_on(device)
    times = []
    for _ in range(TRIALS):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


@dataclass(frozen=True)
class Work:
    """What of a model of the Llama kind costs operations and bytes."""

    blocks: int
    """Weights of the linear layers in the blocks, the adapter's not among them."""
    head: int
    """Weights of the output head."""
    adapter: int
    queries: int
    """Query heads x their size, in one layer."""
    cached: int
    """Keys and values of one token in one layer: 2 x key-value heads x their size."""
    windows: tuple[int | None, ...]
    """For each layer how many tokens it sees at most; None for all of them."""

    @classmethod
    def of(cls, module: nn.Module) -> Work:
        """That of a transformers model, inside a PEFT model or not."""
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        config = model.config.get_text_config()
        head = model.get_output_embeddings()
        blocks = adapter = 0
        for name, part in model.named_modules():
            if isinstance(part, nn.Linear) and part is not head:
                # Of what is packed into 4 bits only the features tell the number.
                weights = part.in_features * part.out_features
                adapter += weights if "lora_" in name else 0
                blocks += 0 if "lora_" in name else weights
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            blocks,
            head.in_features * head.out_features,
            adapter,
            config.num_attention_heads * size,
            2 * config.num_key_value_heads * size,
            _windows(config),
        )


def _windows(config: Any) -> tuple[int | None, ...]:
    kinds = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    if kinds is None:  # Mistral's window is that of all layers
        return (window,) * int(config.num_hidden_layers)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _seen(places: int, windows: tuple[int | None, ...]) -> int:
    """How many tokens the layers together see from the last of so many `places`."""
    return sum(min(places, window or places) for window in windows)


def step_flops(work: Work, prompt: int, chunk: int) -> int:
    """Floating-point operations that one training step over (prompt -> chunk) needs, in tokens.

    Forward and backward through every layer at every place but the last, logits for the chunk only. A
    product backward is another one for its input and, in the adapter alone, one for its weights. What is
    computed beyond that, recomputed activations or logits of the context, is not needed and not counted;
    nor are norms, activations and the optimizer. The backward pass through the first layer's inputs,
    which nothing learns from, is counted for simplicity.
    """
    places = prompt + chunk - 1
    products = 4 * places * work.blocks + 6 * places * work.adapter + 4 * chunk * work.head
    seen = sum(_seen(place, work.windows) for place in range(1, places + 1))
    attention = 3 * 2 * 2 * work.queries * seen  # queries x keys and weights x values, with two backward
    return products + attention


def weight_bytes(module: nn.Module, form: Form) -> int:
    """Bytes of weights that a decoded token reads from the model in this form, its head among them."""
    total = 0
    for name, part in module.named_modules():
        adapter = "lora_" in name
        if isinstance(part, nn.Embedding) or (adapter and form != "live"):
            continue  # of the table one row is read; a tied head is counted as the head
        for parameter in part.parameters(recurse=False):
            packed = form == "int8" and parameter.dim() == 2
            total += _int8_bytes(parameter) if packed else _held_bytes(parameter)
    return total


def _int8_bytes(weight: Tensor) -> int:
    """A byte a weight, and the scale of each row."""
    return weight.numel() + 4 * len(weight)


def _held_bytes(parameter: Any) -> int:
    held: int = parameter.nbytes
    scales = getattr(parameter, "quant_state", None)  # bitsandbytes' 4 bits
    while scales is not None:
        held += scales.absmax.nbytes
        scales = getattr(scales, "state2", None)  # the scales of the scales; packed for a CPU it has none
    return held


def cache_bytes(work: Work, prompt: int, tokens: int, itemsize: int) -> float:
    """Bytes of keys and values that a token of a chunk reads, the mean over all but the first."""
    places = range(prompt + 1, prompt + tokens)
    seen = sum(_seen(place, work.windows) for place in places)
    return seen * work.cached * itemsize / max(1, len(places))
