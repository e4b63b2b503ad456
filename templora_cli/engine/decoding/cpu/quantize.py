"""Weights in 8 bits: decoding a token reads every weight once, and so a quarter of the bytes."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 4096
"""Rows of a matrix that are rounded at once: the head of a large vocabulary is never copied as floats."""


def rounded(weight: Tensor, *, at_once: int = ROWS) -> tuple[Tensor, Tensor]:
    """A weight [out, in], float32, as int8 [out, in] and a scale for each row [out]."""
    scales = torch.linalg.vector_norm(weight, torch.inf, 1).clamp_min_(1e-30).div_(127)
    matrix = torch.empty(weight.shape, dtype=torch.int8)
    for some, scale, into in zip(*(x.split(at_once) for x in (weight, scales, matrix)), strict=True):
        into.copy_((some / scale[:, None]).round_())
    return matrix, scales
