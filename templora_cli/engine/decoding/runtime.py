"""The environment that the computed bits depend on besides the settings: libraries, hardware, threads."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import torch
from llvmlite.binding import get_host_cpu_name

from templora_cli.engine.decoding.choose import backend_kind
from templora_cli.engine.kernels.nf4 import has_kernels
from templora_cli.engine.models.loading import LanguageModel

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""The libraries that load and train the model, with every backend."""


def runtime(model: LanguageModel, backend: str) -> dict[str, Any]:
    """The fields of a session's manifest that describe its environment when it decodes with `backend`.

    Raises TemploraError if that backend cannot decode the model.
    """
    return {
        "fingerprint": model.fingerprint,
        "quantize": model.quantize,
        "device": model.device.type,
        "hardware": _hardware(model.device),
        "dtype": model.dtype,
        "threads": torch.get_num_threads(),
        "versions": versions_of((*LIBRARIES, *backend_kind(model, backend).libraries), model.device),
    }


def versions_of(
    libraries: Iterable[str],
    device: torch.device,
    *,
    compiles: Callable[[torch.device], bool] = has_kernels,
) -> dict[str, str]:
    """The versions of the libraries, and of Triton if it compiles for the device."""
    versions = {name: version(name) for name in libraries}
    if device.type == "cuda" and compiles(device):
        import triton

        versions["triton"] = triton.__version__
    return versions


def _hardware(device: torch.device) -> str:
    """The hardware that determines the order of summation."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # torch and numba choose their code by these.
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {get_host_cpu_name()}"
