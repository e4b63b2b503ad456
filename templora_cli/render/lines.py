"""Break text into lines of a screen between words, so that no number, path or command is cut."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len, chop_cells
from rich.console import Console

from templora_cli.render.escapes import harmless

_COMMAND = re.compile(r"(?:(?<=: )|\A)templora [a-z].*\Z")
BETWEEN = " · "
"""The mark between facts in a line."""
MIN_VALUE_CELLS = 24
"""Values narrower than this are printed below their names instead of beside them."""


def terminal_width(stream: TextIO) -> int:
    """Width of the terminal that `stream` writes to, also of a dumb one; COLUMNS overrides it."""
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or Console(file=stream).width
    except (OSError, ValueError):  # not a file of the system
        return Console(file=stream).width


def fact_lines(facts: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """One line per name and value, "-" for None; without a `width`, only line ends of values break lines.

    Further lines of a value are indented, so that they do not look like another fact.
    """
    column = max(10, *map(len, facts)) + 1
    beside = width is None or width - column >= MIN_VALUE_CELLS
    hanging = " " * (column if beside else 2)
    for name, value in facts.items():
        first = f"{name:{column}}" if beside else f"{name}: "
        text = (
            f"{round(value, 3) + 0.0:.3f}"
            if isinstance(value, float)
            else "-"
            if value in (None, "")
            else str(value)
        )
        yield from screen_lines(text, width, first, hanging=hanging)


def command_in(text: str) -> re.Match[str] | None:
    """The command at the end of a message, as in "to rename it: templora sessions rename old new"."""
    return _COMMAND.search(text)


def screen_lines(text: str, width: int | None, indent: str = "", *, hanging: str = "") -> Iterator[str]:
    """`text`, made harmless, in lines for a screen; paths and commands are not broken, to be copied."""
    for part in harmless(text).split("\n"):
        is_path = Path(part).is_absolute() and ", " not in part  # no list that begins with a path
        if width is None or is_path or cell_len(indent + part) <= width:
            yield (indent + part).rstrip()
        elif command := command_in(part):
            before = part[: command.start()]
            if before:
                yield from wrapped(before.rstrip(), width, indent, hanging=hanging)
            yield f"{hanging[:2] if before else indent}{command[0]}"
        else:
            yield from wrapped(part, width, indent, hanging=hanging, breakable=not part.isascii())
        indent = hanging


def fact_rows(text: str, width: int) -> str:
    """`text` with its facts ("one · two") in rows: no row begins or ends with the mark between them."""
    rows: list[str] = []
    for fact in text.split(BETWEEN):
        if rows and cell_len(rows[-1] + BETWEEN + fact) <= width:
            rows[-1] += BETWEEN + fact
        else:
            rows.append(fact)
    return "\n".join(rows)


def wrapped(
    text: str, width: int, indent: str = "", *, hanging: str = "", breakable: bool = False
) -> list[str]:
    """`text` in lines of at most `width` cells, the first after `indent`, the others after `hanging`.

    A wider word gets a line of its own, or is broken if the text is `breakable`.
    """
    lines: list[str] = []
    line, empty = indent, True
    for word in text.split(" "):
        grown = f"{line}{word}" if empty else f"{line} {word}"
        if cell_len(grown) <= width:
            line, empty = grown, False
            continue
        if not empty:
            lines.append(line.rstrip())
        *full, line = _alone(word, width, hanging if lines else indent, hanging, breakable)
        lines, empty = lines + full, False
    return [*lines, line.rstrip()]


def _alone(word: str, width: int, indent: str, hanging: str, breakable: bool) -> list[str]:
    """The lines for a word that begins a line: broken, below the text of the indent, or without indent."""
    if cell_len(indent + word) <= width:
        return [indent + word]
    if breakable:
        pieces = chop_cells(word, max(2, width - max(len(indent), len(hanging))))
        return [indent + pieces[0], *(hanging + piece for piece in pieces[1:])]
    above = [indent.rstrip()] if indent.strip() else []
    indents = (hanging, hanging[:2], "")
    return [*above, next((line for before in indents if cell_len(line := before + word) <= width), word)]
