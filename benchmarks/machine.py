"""What the figures were measured on. POSIX only (peak memory from getrusage)."""

from __future__ import annotations

import os
import platform
import resource
import sys

import psutil

RESIDENT_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what getrusage says of memory: Linux counts in KiB, macOS in bytes."""


def machine() -> str:
    """Processor, cores, memory and Python in a line."""
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"
    )


def peak_resident(whose: int = resource.RUSAGE_SELF) -> int:
    """Most resident memory so far, in bytes, of this process or of those that it has waited for."""
    return resource.getrusage(whose).ru_maxrss * RESIDENT_UNIT
