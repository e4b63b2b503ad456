"""Line numbers in a TOML file, which a parser leaves out of its result."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import tomli

_PIECE = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"{3,5}|\Z)'
    r"|'''(?:[^']|'(?!''))*(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)
"""Strings (a multi-line one may be open to the end), comments, brackets and line ends."""


def statement_lines(text: str) -> list[int]:
    """The numbers of the lines, from 1, that begin a statement or are outside of any."""
    starts, line, depth = [1], 1, 0
    for piece in _PIECE.finditer(text):
        line += piece[0].count("\n")
        depth += (piece[0] in ("[", "{")) - (piece[0] in ("]", "}"))
        if piece[0] == "\n" and depth <= 0:
            starts.append(line)
            depth = 0
    return starts


def line_of(text: str, is_complete: Callable[[dict[str, Any]], bool]) -> int:
    """The line of the statement that makes a valid TOML file `is_complete`.

    The function gets the tables up to some statement; once it is true it must stay so.
    """
    starts, lines = statement_lines(text), text.split("\n")

    def is_after(index: int) -> bool:
        end = starts[index + 1] - 1 if index + 1 < len(starts) else len(lines)
        return is_complete(tomli.loads("\n".join(lines[:end])))

    return starts[min(bisect_left(range(len(starts)), True, key=is_after), len(starts) - 1)]
