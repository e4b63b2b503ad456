"""Determinism: settings that make every process compute the same bits. Exact resume depends on them.

Environment variables that must be set before torch is imported are in the package's `__init__`.
"""

from __future__ import annotations

import torch

VECTOR_MATH = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp", "log", "log2", "log10"),
    *("sin", "sqrt", "tan", "tanh", "trunc"),
)
"""Functions of one argument for which torch calls Intel's MKL."""


def enable_determinism(device: torch.device, *, strictly: bool) -> None:
    """Make computations on `device` give the same bits in every process. Slower on CUDA, but not on a CPU.

    On CUDA an operation without a deterministic form raises an error if `strictly` is true. Otherwise it runs
    all the same, and the backward pass of attention is not deterministic.
    """
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=not strictly)
        # The default fills each new tensor with NaN: a third of all kernels of a decoded token.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # cuDNN's attention has no deterministic backward pass; torch's own kernels have one.
        torch.backends.cuda.enable_cudnn_sdp(False)
    _choose_vector_math()


def is_deterministic(device: torch.device) -> bool:
    """Do all operations on `device` give the same bits in every process? Call `enable_determinism` first."""
    return device.type == "cpu" or not torch.is_deterministic_algorithms_warn_only_enabled()


def _choose_vector_math() -> None:
    """Call each function of `VECTOR_MATH` once on a single number, and so in a single thread.

    MKL chooses its code for this CPU at the first call of a function. If two threads make that call at the
    same time, one may use low-precision code (pytorch/pytorch issue 188792; oneMKL before 2025.0): in one of
    six processes half of the rotary cosines were off by up to 1.5e-4.
    """
    for dtype in (torch.float32, torch.float64):
        for name in VECTOR_MATH:
            getattr(torch, name)(torch.full((1,), 0.5, dtype=dtype))
    # multinomial uses MKL's logarithm.
    torch.multinomial(torch.ones(2), 1, generator=torch.Generator())
