"""Properties of output streams: terminal or file, encoding, common destination."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal; false for a closed stream."""
    return not stream.closed and stream.isatty()


def is_utf(stream: TextIO) -> bool:
    """Whether the stream can encode every character."""
    return (stream.encoding or "utf-8").lower().startswith("utf")


def replacing_errors(stream: TextIO, **options: str) -> TextIO:
    """`stream`, set to replace characters that its encoding lacks by question marks."""
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="replace", **options)
    return stream


def have_same_destination(one: TextIO, other: TextIO) -> bool:
    """Whether both streams write to the same file or pipe, or both to terminals."""
    if one is other or (is_terminal(one) and is_terminal(other)):
        return True
    try:
        first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
    except (OSError, ValueError):  # closed, or not a file of the system
        return False
    # On Windows pipes have no inode numbers: it is 0 for all of them.
    return first.st_ino != 0 and (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
