"""Atomic writes: a file is complete or not there."""

from __future__ import annotations

import os
import re
import shutil
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


def expanded(path: str | Path) -> Path:
    """The path with a home folder in place of `~` or `~name` at its beginning; if there is none, unchanged.

    Shells replace it themselves, but not in quotes, after `--flag=` or in a settings file.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser raises an error for a wrong name)


def unused_name(path: Path) -> Path:
    """The path if no file has this name, else a `numbered_name`."""
    return numbered_name(path) if path.exists() else path


def numbered_name(path: Path) -> Path:
    """The path with a number at the end of its name, such as book-2.md, that no file has."""
    number, stem = 2, path.stem
    if match := re.fullmatch(r"(.+)-(\d{1,3})", stem):
        stem, number = match[1], int(match[2]) + 1
    while (name := path.with_name(f"{stem}-{number}{path.suffix}")).exists():
        number += 1
    return name


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


def link(source: str | Path, target: str | Path) -> str | Path:
    """Make a hard link, or a copy if the file system has none. Returns `target`."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        with Path(target).open("r+b") as stream:
            os.fsync(stream.fileno())
    return target


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable. Windows has no such call and does not need it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
