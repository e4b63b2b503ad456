"""Atomic writes: a file is complete or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to a temporary file and rename it to `path`, which is never half
    written.

    Raises OSError, for example if the disk is full; `path` is then unchanged.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def bytes_below(folder: str | Path) -> int:
    """Bytes of all files below `folder`. Links are not followed; temporary files are not counted."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:  # another process may remove what is in it
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += bytes_below(entry.path)
                elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(".tmp"):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def format_bytes(size: int) -> str:
    """A number of bytes as text: 16.4 GB, 448 MB, 12 kB, 0 bytes."""
    if size >= 10**9:
        return f"{size / 1e9:,.1f} GB"
    for unit, power in (("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.0f} {unit}"
    return f"{size} bytes"


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable. Windows has no such call and does not need it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
