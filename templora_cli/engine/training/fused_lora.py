"""A model's layers in fewer operations, for training above all.

PEFT's layer with LoRA matrices (arXiv 2106.09685) makes y = W x and s B A x as tensors of their own, in
float32 over a base in 16 bits: seven passes over activations that products can make on the way, and on a GPU
more launches than it has time for. Here it is one step of autograd, which adds the adapter's part in its
product and in the base's precision; the matrices stay float32, and so do their gradients, which are products
in bfloat16 there. transformers' RMSNorm is six operations, torch's one on a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from templora_cli.engine.kernels.nf4 import unpacked

Draw = Callable[[Tensor, float], Tensor]
"""Which numbers of x [n, in] a dropout leaves: 1, and 0 for those that it takes; uint8, [n, in]."""

MANY = 64
"""Rows of x from which on a weight in 4 bits is unpacked for them."""


def fuse_lora_layers(model: nn.Module, draw: Draw | None = None) -> None:
    """Let those layers of PEFT's `model` that are known here compute the same in fewer operations.

    `draw` says what dropout leaves, in place of random numbers.
    """
    on_gpu = next(model.parameters()).is_cuda
    for module in model.modules():
        if isinstance(module, LoraLayer) and type(base := module.get_base_layer()) in (nn.Linear, Linear4bit):
            # On some CPUs bitsandbytes packs a weight anew when it first computes without gradients, in a way
            # that nothing unpacks.
            base.support_avx512bf16_for_cpu = False
            module.forward = FusedLoraLinear(module, draw or drawn)
        elif on_gpu and hasattr(module, "variance_epsilon") and type(module).__name__.endswith("RMSNorm"):
            module.forward = PlainNorm(module)


class PlainNorm:
    """The forward pass of an RMSNorm of transformers."""

    def __init__(self, norm: Any) -> None:
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """[..., n] -> [..., n]"""
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


class FusedLoraLinear:
    """The forward pass of a layer of PEFT's, with one adapter."""

    def __init__(self, layer: Any, draw: Draw) -> None:
        (name,) = layer.active_adapters
        self.draw = draw
        self.layer = weakref.proxy(layer)  # which holds this: a model that is dropped goes at once
        self.base = layer.get_base_layer()
        self.a, self.b = layer.lora_A[name].weight, layer.lora_B[name].weight
        self.dropout: float = getattr(layer.lora_dropout[name], "p", 0.0)  # nn.Identity has none
        self.scaling: float = layer.scaling[name]

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        if self.layer.disable_adapters:
            return _plain(self.base, x)
        kept, scaling = None, self.scaling
        if self.layer.training and self.dropout:
            kept, scaling = self.draw(_rows(x), self.dropout), scaling / (1 - self.dropout)
        return _FusedLora.apply(x, kept, self.base, self.a, self.b, scaling)  # type: ignore[no-any-return, no-untyped-call]


class _FusedLora(torch.autograd.Function):
    """base(x) + scaling * B A (kept * x), where `kept` is what dropout leaves of x; None for all of it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kept: Tensor | None, base: Any, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        y = _plain(base, x)
        ctx.precision = a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)
        x = _rows(x)
        shrunk = _scaled(_shown(x, kept) @ a.T, scaling)  # [n, rank]
        y.view(-1, y.shape[-1]).addmm_(shrunk, b.T)  # a copy would be an error
        ctx.save_for_backward(x, kept, shrunk, a, b)
        ctx.base, ctx.scaling = base, scaling
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, shrunk, a, b = ctx.saved_tensors
        shape = (*of_y.shape[:-1], a.shape[1])
        of_y = _rows(of_y)
        of_shrunk = _scaled(of_y @ b, ctx.scaling)
        # Small gradients are nothing in float16.
        exact = ctx.precision if of_y.dtype == torch.float16 else of_y.dtype
        of_a = of_shrunk.T.to(exact) @ _shown(x, kept).to(exact)
        of_b = of_y.T.to(exact) @ shrunk.to(exact)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_y @ _weight(ctx.base, of_y.dtype)
            if kept is None:
                of_x.addmm_(of_shrunk, a)
            else:
                of_x.add_(_shown(of_shrunk @ a, kept))
            of_x = of_x.view(shape)
        return of_x, None, None, of_a.to(ctx.precision), of_b.to(ctx.precision), None


def drawn(x: Tensor, dropout: float) -> Tensor:
    """See `Draw`.

    torch's own takes 5 ns for each of them on a CPU. Here four share a draw of 64 bits, so the share that is
    taken is a multiple of 1/65,536.
    """
    if x.is_cuda:
        return torch.empty(x.shape, dtype=torch.uint8, device=x.device).bernoulli_(1 - dropout)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    taken = round(dropout * (1 << 16)) - (1 << 15)
    return draws.view(torch.int16)[: x.numel()].ge_(taken).to(torch.uint8).view(x.shape)


def _shown(x: Tensor, kept: Tensor | None) -> Tensor:
    """What the adapter is shown of x [n, in]. Numbers of two kinds would be multiplied slowly."""
    return x if kept is None else kept.to(x.dtype).mul_(x)


def _plain(base: Any, x: Tensor) -> Tensor:
    """base(x). bitsandbytes takes longer to begin a product of many rows than it takes to unpack for it."""
    if isinstance(base, Linear4bit) and x.is_cuda and x.numel() >= MANY * x.shape[-1]:
        bias = None if base.bias is None else base.bias.to(x.dtype)
        return nn.functional.linear(x, unpacked(base, x.dtype), bias)
    return base(x)  # type: ignore[no-any-return]


def _weight(base: Any, dtype: torch.dtype) -> Tensor:
    """[out, in]"""
    return unpacked(base, dtype) if isinstance(base, Linear4bit) else base.weight


def _scaled(x: Tensor, scaling: float) -> Tensor:
    return x if scaling == 1 else x.mul_(scaling)


def _rows(x: Tensor) -> Tensor:
    """[..., n] -> [those, n]"""
    return x.reshape(-1, x.shape[-1])
