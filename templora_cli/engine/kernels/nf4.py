"""Weights as bitsandbytes holds them in NF4 (Dettmers et al. 2023, arXiv 2305.14314, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor

SCALED = 64
"""Weights that share a scale."""
SCALES = 256
"""Scales that share one of theirs, where they are in 8 bits."""
UNPACKED = 64
"""Groups of `SCALED` weights that a program of `triton_kernels.unpack` unpacks."""


class Packed(NamedTuple):
    """A weight [out, in]; what it consists of is flat."""

    weights: Tensor
    """Two a byte."""
    scales: Tensor
    """float32 or, where they are nested, entries of `code`."""
    second: Tensor
    """The scales of `scales`, float32."""
    offset: Tensor
    """What is added to a scale."""
    code: Tensor
    """The 256 numbers that 8 bits stand for."""
    table: Tensor
    """The 16 numbers that 4 bits stand for."""
    nested: bool


@cache
def has_kernels(device: torch.device) -> bool:
    """See `compiles_for`, which is tried once."""
    return compiles_for(device)


def compiles_for(
    device: torch.device,
    *,
    find: Callable[[str], object] = find_spec,
    capability: Callable[[torch.device], tuple[int, int]] = torch.cuda.get_device_capability,
) -> bool:
    """Does Triton compile `triton_kernels` for this GPU here? Without one they are interpreted, slowly.

    It comes with torch's builds for CUDA on Linux, and wants a compute capability of 8, a C compiler and
    Python's headers: so one kernel is tried.
    """
    if find("triton") is None:
        return False
    if device.type != "cuda":
        return True
    if capability(device) < (8, 0):
        return False
    from templora_cli.engine.kernels.triton_kernels import unpack

    weights = torch.zeros(SCALED // 2, dtype=torch.uint8, device=device)
    numbers, out = (torch.zeros(SCALED, device=device) for _ in range(2))
    try:
        unpack[(1,)](weights, *(numbers,) * 5, out, 1, NESTED=False, BLOCKS=UNPACKED)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # as many kinds of them as of compilers
        return False
    return True


def is_packed(base: Any) -> bool:
    """Is this a layer whose weight `packed` knows?"""
    if not isinstance(base, Linear4bit) or base.in_features % SCALED:
        return False
    state = base.weight.quant_state
    if base.weight.dtype != torch.uint8 or state is None:
        return False
    known = state.quant_type == "nf4" and state.blocksize == SCALED
    return known and (not state.nested or state.state2.blocksize == SCALES)


def packed(base: Any) -> Packed:
    """The weight of a layer that `is_packed`."""
    state, weights = base.weight.quant_state, base.weight.data
    if not state.nested:
        return Packed(weights, state.absmax, state.absmax, state.absmax, state.code, state.code, False)
    second = state.state2
    return Packed(weights, state.absmax, second.absmax, state.offset, second.code, state.code, True)


def unpacked(base: Any, dtype: torch.dtype) -> Tensor:
    """The weight [out, in] of a layer in 4 bits."""
    if not (base.weight.is_cuda and is_packed(base) and has_kernels(base.weight.device)):
        return dequantize_4bit(base.weight.data, base.weight.quant_state).to(dtype)  # type: ignore[no-any-return]
    from templora_cli.engine.kernels.triton_kernels import unpack

    parts = packed(base)
    out = torch.empty(base.out_features, base.in_features, device=parts.weights.device, dtype=dtype)
    groups = out.numel() // SCALED
    unpack[(-(-groups // UNPACKED),)](*parts[:-1], out, groups, NESTED=parts.nested, BLOCKS=UNPACKED)
    return out
