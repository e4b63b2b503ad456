"""Weights in the NF4 format of bitsandbytes (Dettmers et al. 2023, arXiv 2305.14314, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor

BLOCK_SIZE = 64
"""Weights that share a scale."""
SCALE_BLOCK_SIZE = 256
"""8-bit scales that share a second scale."""
BLOCKS_PER_PROGRAM = 64
"""Blocks of weights that a program of `triton_kernels.unpack` unpacks."""


class PackedWeight(NamedTuple):
    """The parts of a weight [out, in]. All tensors are flat."""

    weights: Tensor
    """Two per byte."""
    scales: Tensor
    """float32; with `nested` indices into `code`."""
    second_scales: Tensor
    """The scales of `scales`, float32."""
    offset: Tensor
    """Added to each scale."""
    code: Tensor
    """The 256 values of 8-bit numbers."""
    table: Tensor
    """The 16 values of 4-bit numbers."""
    nested: bool
    """Are the scales in 8 bits?"""


@cache
def has_kernels(device: torch.device) -> bool:
    """`compiles_for`, cached."""
    return compiles_for(device)


def compiles_for(
    device: torch.device,
    *,
    find: Callable[[str], object] = find_spec,
    capability: Callable[[torch.device], tuple[int, int]] = torch.cuda.get_device_capability,
) -> bool:
    """Can Triton compile `triton_kernels` for this GPU? On a CPU they are interpreted, slowly.

    Triton is part of torch's CUDA builds for Linux. It needs compute capability 8.0, a C compiler and
    Python's headers, so this compiles one kernel to find out.
    """
    if find("triton") is None:
        return False
    if device.type != "cuda":
        return True
    if capability(device) < (8, 0):
        return False
    from templora_cli.engine.kernels.triton_kernels import unpack

    weights = torch.zeros(BLOCK_SIZE // 2, dtype=torch.uint8, device=device)
    numbers, out = (torch.zeros(BLOCK_SIZE, device=device) for _ in range(2))
    try:
        unpack[(1,)](weights, *(numbers,) * 5, out, 1, NESTED=False, BLOCKS=BLOCKS_PER_PROGRAM)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # each compiler raises its own
        return False
    return True


def is_packed(base: Any) -> bool:
    """Is this a layer with a weight in NF4 that the kernels support?"""
    if not isinstance(base, Linear4bit) or base.in_features % BLOCK_SIZE:
        return False
    state = base.weight.quant_state
    if base.weight.dtype != torch.uint8 or state is None:
        return False
    is_nf4 = state.quant_type == "nf4" and state.blocksize == BLOCK_SIZE
    return is_nf4 and (not state.nested or state.state2.blocksize == SCALE_BLOCK_SIZE)


def packed_weight(base: Any) -> PackedWeight:
    """The parts of the weight of a layer for which `is_packed` is true."""
    state, weights = base.weight.quant_state, base.weight.data
    if not state.nested:
        return PackedWeight(weights, state.absmax, state.absmax, state.absmax, state.code, state.code, False)
    nested = state.state2
    return PackedWeight(weights, state.absmax, nested.absmax, state.offset, nested.code, state.code, True)


def unpacked_weight(base: Any, dtype: torch.dtype) -> Tensor:
    """The unpacked weight [out, in] of a 4-bit layer."""
    if not (base.weight.is_cuda and is_packed(base) and has_kernels(base.weight.device)):
        return dequantize_4bit(base.weight.data, base.weight.quant_state).to(dtype)  # type: ignore[no-any-return]
    from templora_cli.engine.kernels.triton_kernels import unpack

    parts = packed_weight(base)
    out = torch.empty(base.out_features, base.in_features, device=parts.weights.device, dtype=dtype)
    blocks = out.numel() // BLOCK_SIZE
    grid = (-(-blocks // BLOCKS_PER_PROGRAM),)
    unpack[grid](*parts[:-1], out, blocks, NESTED=parts.nested, BLOCKS=BLOCKS_PER_PROGRAM)
    return out
