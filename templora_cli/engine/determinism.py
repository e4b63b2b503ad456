"""That every process computes the same bits, which exact resume hangs on: what is set before the first sum.

What has to be in the environment before torch is imported is in the package's `__init__`.
"""

from __future__ import annotations

import torch

VECTOR_MATH = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp", "log", "log2", "log10"),
    *("sin", "sqrt", "tan", "tanh", "trunc"),
)
"""Functions of one argument that torch leaves to Intel's MKL."""


def enable_determinism(device: torch.device, *, strictly: bool) -> None:
    """Let what follows on `device` give the same bits in every process. Slower on CUDA, not on a CPU.

    On CUDA an operation that has no such form is an error where `strictly`, and runs as it is where not;
    attention is then trained in a form that adds up in another order each time.
    """
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=not strictly)
        # Else every new tensor is filled with NaN first: a third of all kernels of a decoded token.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # Its attention has no backward pass that is deterministic; those that torch brings have.
        torch.backends.cuda.enable_cudnn_sdp(False)
    _choose_vector_math()


def is_deterministic(device: torch.device) -> bool:
    """Does what ran on `device` since `enable_determinism` give the same bits again, whatever it was?"""
    return device.type == "cpu" or not torch.is_deterministic_algorithms_warn_only_enabled()


def _choose_vector_math() -> None:
    """Call each function of `VECTOR_MATH` once, on one number and so in one thread.

    MKL chooses the code for this CPU when a function is first called. If that is in two threads at once, one
    of them may take code of low precision that time (pytorch/pytorch issue 188792; oneMKL before 2025.0):
    half of a decoder's rotary angles were off by up to 1.5e-4 in one process of six.
    """
    for dtype in (torch.float32, torch.float64):
        for name in VECTOR_MATH:
            getattr(torch, name)(torch.full((1,), 0.5, dtype=dtype))
    # Draws with logarithms of MKL's.
    torch.multinomial(torch.ones(2), 1, generator=torch.Generator())
