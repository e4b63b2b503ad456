"""What the streams of a command are: terminals or files, one place or two, and what they can say."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO) -> bool:
    """Does somebody watch? A closed stream is watched by nobody."""
    return not stream.closed and stream.isatty()


def is_utf(stream: TextIO) -> bool:
    """Can it say every character?"""
    return (stream.encoding or "utf-8").lower().startswith("utf")


def tolerant(stream: TextIO, **options: str) -> TextIO:
    """`stream`, writing a question mark for what its encoding cannot say."""
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="replace", **options)
    return stream


def are_one_place(one: TextIO, other: TextIO) -> bool:
    """Does what is written to both stand together: one file, one pipe, or terminals?"""
    if one is other or (is_terminal(one) and is_terminal(other)):
        return True
    try:
        first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
    except (OSError, ValueError):  # closed, or no file of the system
        return False
    # Windows has no numbers for pipes: 0 is the same for all of them.
    return first.st_ino != 0 and (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
