"""The device that a book runs on, and its free memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import torch

from templora_cli.engine.models.loading import device_of, dtype_of

CGROUPS = Path("/sys/fs/cgroup")
CUDA_CONTEXT = 600_000_000
"""Bytes of a GPU that a process takes before its first tensor. A typical figure, not measured here."""


@dataclass(frozen=True)
class DeviceMemory:
    """The device that runs a book, and its free memory in bytes."""

    device: str
    """"cpu" or "cuda"."""
    dtype: str
    """The compute dtype of the model there: "float32", "bfloat16" or "float16"."""
    free: int
    """Bytes that this process can still allocate."""
    total: int
    in_use: int = 0
    """Bytes that this process already uses."""
    libraries: int = 0
    """Bytes that the libraries use before a model is loaded; for a GPU, `free` already excludes them."""

    @property
    def bytes_each(self) -> int:
        """Bytes per number of the compute dtype."""
        return 4 if self.dtype == "float32" else 2


def measure_device_memory(device_setting: str, cgroups: Path = CGROUPS) -> DeviceMemory:
    """Measure the device that `[model] device` selects; `cgroups` holds the limits of a container.

    Raises TemploraError if there is no such device.
    """
    device = device_of(device_setting)
    dtype = str(dtype_of(device)).removeprefix("torch.")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return DeviceMemory("cuda", dtype, free, total, in_use=torch.cuda.memory_reserved(device))
    memory = psutil.virtual_memory()
    limit, used = _cgroup(cgroups)
    free = min(memory.available, max(0, limit - used))
    return DeviceMemory(
        "cpu",
        dtype,
        free,
        min(memory.total, limit),
        in_use=psutil.Process().memory_info().rss,
        libraries=_libraries(),
    )


def imagined_device_memory(device: str, total: int) -> DeviceMemory:
    """An idle device with `total` bytes, for a plan of another machine."""
    if device == "cuda":
        return DeviceMemory("cuda", "bfloat16", max(0, total - CUDA_CONTEXT), total)
    libraries = _libraries()
    return DeviceMemory(
        "cpu", "float32", max(0, total - libraries), total, in_use=libraries, libraries=libraries
    )


@cache
def _libraries() -> int:
    """Bytes that this process used at the first call: the libraries, but no model yet."""
    return int(psutil.Process().memory_info().rss)


def _cgroup(root: Path) -> tuple[int, int]:
    """Memory limit and usage of the container in bytes; without a limit, more than any machine has.

    The usage excludes cached pages of files, which the system reclaims when it needs memory.
    """
    unlimited = 1 << 62
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        counts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return (unlimited if limit == "max" else int(limit)), used - int(counts.get("inactive_file", 0))
    except (OSError, ValueError):  # another system, or version 1 of cgroups
        return unlimited, 0
