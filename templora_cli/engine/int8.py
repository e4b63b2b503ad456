"""One vector times a matrix in 8 bits, near the precision of float32: what decoding on a CPU waits for.

A token reads every weight once, so a quarter of the bytes is up to four times the speed. Weights are int8
with a scale a row. Rounding the vector to 8 bits too, as dynamic quantisation does, costs about 2 % of
perplexity on models of 0.1 to 0.3 billion parameters (docs/performance.md), so it goes in as two halves of
7 bits, coarse and fine, in one product with two rows, and the weights are still read once.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor

X86 = ("x86_64", "AMD64", "amd64")

STEPS = 63
"""Each way from 0 in a half: sums of two products then fit the 16 bits that CPUs without VNNI add in."""
ROWS = 4096
"""Rows of a matrix that are rounded at once: the head of a large vocabulary is never copied as floats."""


def available() -> bool:
    """Has this torch the 8-bit kernels of oneDNN, and does this machine run them (x86)?"""
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and platform.machine() in X86 and hasattr(torch.ops.onednn, "qlinear_pointwise")


class Int8Product:
    """x -> x W^T + bias for a vector x."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """A copy of `weight` [out, in], float32, in 8 bits."""
        rows, columns = weight.shape
        self.scales = torch.linalg.vector_norm(weight, torch.inf, 1).clamp_min_(1e-30).div_(127)  # [out]
        rounded = torch.empty(rows, columns, dtype=torch.int8)
        for some, scales, into in zip(*(x.split(ROWS) for x in (weight, self.scales, rounded)), strict=True):
            into.copy_((some / scales[:, None]).round_())
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, [2, columns])
        self.bias = bias
        self._zeros = torch.zeros(rows, dtype=torch.int32)
        self._halves = torch.empty(2, columns)
        self._gains = torch.tensor([[1.0], [2.0 * STEPS]])
        # Above 0 a conversion to integers cuts off: the half makes it round.
        self._offset = torch.tensor(STEPS + 1.5)

    def __call__(self, x: Tensor) -> Tensor:
        """[1, in] -> [1, out]."""
        unit = torch.linalg.vector_norm(x, torch.inf).clamp_min_(1e-30).div_(STEPS)
        scaled = x / unit
        coarse, fine = self._halves
        torch.round(scaled[0], out=coarse)
        torch.sub(scaled[0], coarse, out=fine)  # at most half a step
        halves = torch.addcmul(self._offset, self._halves, self._gains).to(torch.uint8)
        products = torch.ops.onednn.qlinear_pointwise(
            *(halves, 1.0, STEPS + 1),
            *(self.packed, self.scales, self._zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        product = torch.add(products[:1], products[1:], alpha=1 / (2 * STEPS)).mul_(unit)
        return product if self.bias is None else product.add_(self.bias)
