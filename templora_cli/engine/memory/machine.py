"""The machine that a book runs on: its device, and how much memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import torch

from templora_cli.engine.models.loading import device_of, dtype_of

CGROUPS = Path("/sys/fs/cgroup")
CUDA_CONTEXT = 600_000_000
"""What a process takes of a GPU before its first tensor. A usual figure, not measured here."""


@dataclass(frozen=True)
class DeviceMemory:
    """The device that a book is to run on, and how much of it is free."""

    device: str
    """"cpu" or "cuda"."""
    dtype: str
    """What the model computes in there: "float32", "bfloat16" or "float16"."""
    free: int
    """Bytes that this process may still take."""
    total: int
    held: int = 0
    """Bytes that it holds already."""
    libraries: int = 0
    """Bytes that the libraries take there before a model is loaded; a GPU's are not in `free`."""

    @property
    def bytes_each(self) -> int:
        """Of a number that the model computes with."""
        return 4 if self.dtype == "float32" else 2


def measure_device_memory(wanted: str, cgroups: Path = CGROUPS) -> DeviceMemory:
    """What there is on the device that `[model] device` asks for; `cgroups` says what a container may use.

    Raises TemploraError where there is no such device.
    """
    device = device_of(wanted)
    dtype = str(dtype_of(device)).removeprefix("torch.")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return DeviceMemory("cuda", dtype, free, total, held=torch.cuda.memory_reserved(device))
    memory = psutil.virtual_memory()
    limit, used = _cgroup(cgroups)
    free = min(memory.available, max(0, limit - used))
    return DeviceMemory(
        "cpu",
        dtype,
        free,
        min(memory.total, limit),
        held=psutil.Process().memory_info().rss,
        libraries=_libraries(),
    )


def imagined_device_memory(device: str, total: int) -> DeviceMemory:
    """A device of `total` bytes that is otherwise idle, for plans of another machine."""
    if device == "cuda":
        return DeviceMemory("cuda", "bfloat16", max(0, total - CUDA_CONTEXT), total)
    libraries = _libraries()
    return DeviceMemory(
        "cpu", "float32", max(0, total - libraries), total, held=libraries, libraries=libraries
    )


@cache
def _libraries() -> int:
    """What this process held when it was first asked: no model yet, but the libraries."""
    return int(psutil.Process().memory_info().rss)


def _cgroup(root: Path) -> tuple[int, int]:
    """Bytes that the container may use, and uses; a limit above any memory where there is none.

    Pages of files that the system would take back do not count.
    """
    unlimited = 1 << 62
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        counts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return (unlimited if limit == "max" else int(limit)), used - int(counts.get("inactive_file", 0))
    except (OSError, ValueError):  # another system, or the first version of cgroups
        return unlimited, 0
