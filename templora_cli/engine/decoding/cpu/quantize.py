"""8-bit weights. Decoding a token reads each weight once; in 8 bits it reads a quarter of the bytes."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_ONCE = 4096
"""Rows that are quantised at once, so that the head of a large vocabulary is never copied in float32."""


def quantize_rows(weight: Tensor, *, rows_at_once: int = ROWS_AT_ONCE) -> tuple[Tensor, Tensor]:
    """Quantise a float32 weight [out, in] to int8 [out, in] with a scale for each row [out]."""
    scales = torch.linalg.vector_norm(weight, torch.inf, 1).clamp_min_(1e-30).div_(127)
    matrix = torch.empty(weight.shape, dtype=torch.int8)
    for rows, scale, out in zip(*(x.split(rows_at_once) for x in (weight, scales, matrix)), strict=True):
        out.copy_((rows / scale[:, None]).round_())
    return matrix, scales
