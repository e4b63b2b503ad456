"""The machine that measurements are made on. POSIX only (peak memory from getrusage)."""

from __future__ import annotations

import os
import platform
import resource
import sys

import psutil

RESIDENT_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of getrusage: Linux counts memory in KiB, macOS in bytes."""


def machine() -> str:
    """Processor, cores, memory and Python version, in one line."""
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"
    )


def peak_resident(whose: int = resource.RUSAGE_SELF) -> int:
    """Peak resident memory in bytes, of this process or of the children that it has waited for."""
    return resource.getrusage(whose).ru_maxrss * RESIDENT_UNIT
