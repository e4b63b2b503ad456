"""templora as people run it: a process of its own, followed and measured. POSIX only (`os.wait4`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import RESIDENT_UNIT

TEMPLORA = [sys.executable, "-m", "templora_cli"]
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Usage:
    """What a process took that has ended."""

    status: int
    """Its exit status."""
    seconds: float
    """On the clock."""
    cpu_seconds: float
    """User and system, of all its threads."""
    peak_bytes: int
    """Resident."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """For a templora with its sessions below `home`, which is this one in whatever folder it is run."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "TEMPLORA_HOME": str(home), **more}


def usage_of(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    *,
    silent: bool = False,
) -> Usage:
    """Run a command in `folder` to its end; what it prints is thrown away, if `silent` its errors too."""
    nowhere = subprocess.DEVNULL
    errors = nowhere if silent else None
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdin=nowhere, stdout=nowhere, stderr=errors
    )
    _, status, usage = os.wait4(process.pid, 0)  # of this child alone
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(process.returncode, seconds, cpu, usage.ru_maxrss * RESIDENT_UNIT)


def followed(command: Sequence[str], home: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The chunks that a command of templora commits, and the resident bytes of its process after each."""
    events: list[dict[str, Any]] = []
    memory: list[int] = []
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            if (event := json.loads(line))["event"] == "chunk_committed":
                events.append(event)
                memory.append(child.memory_info().rss)
    return events, memory
