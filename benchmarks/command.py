"""Run templora in its own process, as users do, and measure it. POSIX only (`os.wait4`)."""

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
    """The exit status of a process, and the time and memory that it used."""

    status: int
    seconds: float
    """Wall-clock time."""
    cpu_seconds: float
    """User and system time of all threads."""
    peak_bytes: int
    """Peak resident memory."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Variables for a process that runs this checkout of templora, in any folder, with home folder `home`."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "TEMPLORA_HOME": str(home), **more}


def usage_of(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    *,
    silent: bool = False,
) -> Usage:
    """Run a command in `folder` to its end. Its output is discarded; with `silent`, its errors too."""
    null = subprocess.DEVNULL
    errors = null if silent else None
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=folder, stdin=null, stdout=null, stderr=errors)
    _, status, usage = os.wait4(process.pid, 0)  # the usage of this child only
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(process.returncode, seconds, cpu, usage.ru_maxrss * RESIDENT_UNIT)


def follow_chunks(command: Sequence[str], home: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Run a templora command. Returns its committed chunks, and its resident bytes after each."""
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
