"""Fused LoRA layers: base layer and adapter in one autograd function, for faster training.

PEFT's LoRA layer (arXiv 2106.09685) computes y = W x and s B A x as separate tensors, and in float32 over a
16-bit base. That costs seven passes over the activations, and on a GPU many kernel launches. The fused layer
adds s B A x to y within the matrix product, in the precision of the base. A and B and their gradients stay
float32; with a bfloat16 base the products for the gradients are in bfloat16. On a GPU transformers' RMSNorm
(six operations) is replaced by torch's (one).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from templora_cli.engine.kernels.nf4 import unpacked_weight

Draw = Callable[[Tensor, float], Tensor]
"""Draws a dropout mask for x [n, in]: uint8 [n, in], 1 where a number is retained."""

MIN_ROWS_TO_UNPACK = 64
"""From this number of rows of x a 4-bit weight is unpacked before the product."""


def fuse_lora_layers(model: nn.Module, draw: Draw | None = None) -> None:
    """Replace the forward passes of known layers of PEFT's `model` by fused ones.

    `draw` makes the dropout masks; by default they are random.
    """
    on_gpu = next(model.parameters()).is_cuda
    for module in model.modules():
        if isinstance(module, LoraLayer) and type(base := module.get_base_layer()) in (nn.Linear, Linear4bit):
            # On some CPUs bitsandbytes repacks a weight at the first pass without gradients, and nothing can
            # unpack that form.
            base.support_avx512bf16_for_cpu = False
            module.forward = FusedLoraLinear(module, draw or random_mask)
        elif on_gpu and hasattr(module, "variance_epsilon") and type(module).__name__.endswith("RMSNorm"):
            module.forward = FusedRMSNorm(module)


class FusedRMSNorm:
    """The forward pass of an RMSNorm of transformers, as one torch operation."""

    def __init__(self, norm: Any) -> None:
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """[..., n] -> [..., n]"""
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


class FusedLoraLinear:
    """The fused forward pass of a PEFT layer with one adapter."""

    def __init__(self, layer: Any, draw: Draw) -> None:
        (name,) = layer.active_adapters
        self.draw = draw
        self.layer = weakref.proxy(layer)  # the layer holds this object: without a cycle it is freed at once
        self.base = layer.get_base_layer()
        self.a, self.b = layer.lora_A[name].weight, layer.lora_B[name].weight
        self.dropout: float = getattr(layer.lora_dropout[name], "p", 0.0)  # nn.Identity has none
        self.scaling: float = layer.scaling[name]

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        if self.layer.disable_adapters:
            return _base_forward(self.base, x)
        mask, scaling = None, self.scaling
        if self.layer.training and self.dropout:
            mask, scaling = self.draw(_rows(x), self.dropout), scaling / (1 - self.dropout)
        return _FusedLora.apply(x, mask, self.base, self.a, self.b, scaling)  # type: ignore[no-any-return, no-untyped-call]


class _FusedLora(torch.autograd.Function):
    """base(x) + scaling * B A (mask * x); `mask` is the dropout mask, None without dropout."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor | None, base: Any, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        y = _base_forward(base, x)
        ctx.precision = a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)
        x = _rows(x)
        shrunk = _scaled(_masked(x, mask) @ a.T, scaling)  # [n, rank]
        y.view(-1, y.shape[-1]).addmm_(shrunk, b.T)  # in place: `view` fails rather than copy
        ctx.save_for_backward(x, mask, shrunk, a, b)
        ctx.base, ctx.scaling = base, scaling
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, shrunk, a, b = ctx.saved_tensors
        shape = (*grad_y.shape[:-1], a.shape[1])
        grad_y = _rows(grad_y)
        grad_shrunk = _scaled(grad_y @ b, ctx.scaling)
        # Small gradients underflow in float16.
        exact = ctx.precision if grad_y.dtype == torch.float16 else grad_y.dtype
        grad_a = grad_shrunk.T.to(exact) @ _masked(x, mask).to(exact)
        grad_b = grad_y.T.to(exact) @ shrunk.to(exact)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y @ _weight(ctx.base, grad_y.dtype)
            if mask is None:
                grad_x.addmm_(grad_shrunk, a)
            else:
                grad_x.add_(_masked(grad_shrunk @ a, mask))
            grad_x = grad_x.view(shape)
        return grad_x, None, None, grad_a.to(ctx.precision), grad_b.to(ctx.precision), None


def random_mask(x: Tensor, dropout: float) -> Tensor:
    """Draw a random dropout mask (see `Draw`).

    torch needs 5 ns per number on a CPU. Here four numbers share a 64-bit draw, which rounds the dropout rate
    to a multiple of 1/65,536.
    """
    if x.is_cuda:
        return torch.empty(x.shape, dtype=torch.uint8, device=x.device).bernoulli_(1 - dropout)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    threshold = round(dropout * (1 << 16)) - (1 << 15)
    return draws.view(torch.int16)[: x.numel()].ge_(threshold).to(torch.uint8).view(x.shape)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """mask * x, both [n, in]. The mask is converted first: products of mixed types are slow."""
    return x if mask is None else mask.to(x.dtype).mul_(x)


def _base_forward(base: Any, x: Tensor) -> Tensor:
    """base(x). For many rows, unpacking a 4-bit weight is faster than the product of bitsandbytes."""
    if isinstance(base, Linear4bit) and x.is_cuda and x.numel() >= MIN_ROWS_TO_UNPACK * x.shape[-1]:
        bias = None if base.bias is None else base.bias.to(x.dtype)
        return nn.functional.linear(x, unpacked_weight(base, x.dtype), bias)
    return base(x)  # type: ignore[no-any-return]


def _weight(base: Any, dtype: torch.dtype) -> Tensor:
    """[out, in]"""
    return unpacked_weight(base, dtype) if isinstance(base, Linear4bit) else base.weight


def _scaled(x: Tensor, scaling: float) -> Tensor:
    return x if scaling == 1 else x.mul_(scaling)


def _rows(x: Tensor) -> Tensor:
    """[..., n] -> [rows, n]"""
    return x.reshape(-1, x.shape[-1])
