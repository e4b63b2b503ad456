"""The console for messages: its styles, and the characters for terminals without UTF-8."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.theme import Theme

from templora_cli.render.escapes import harmless
from templora_cli.render.streams import is_terminal, is_utf

WRAPPED_STYLES = {
    "message": "none",
    "session": "bold",
    "faint": "dim",
    "bar": "cyan",
    "good": "green",
    "warn": "yellow",
}
UNWRAPPED_STYLES = {
    "before": "dim",
    "command": "bold cyan",
    "path": "none",
    "error": "bold red",
    "hint": "dim",
}
"""Styles of lines that people copy from the screen: these are never broken."""
THEME = Theme({**WRAPPED_STYLES, **UNWRAPPED_STYLES})

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_AS_ASCII = str.maketrans("·━─│→" + SPINNER, "|#-|>" + "-\\|/-\\|/-\\")


def console_on(stderr: TextIO) -> Console:
    """A console that prints in colour only on a terminal."""
    return Console(file=stderr, force_terminal=is_terminal(stderr), theme=THEME, highlight=False)


def printable(text: str, stream: TextIO) -> str:
    """`text` without control characters, and without bars and dots that `stream` cannot encode."""
    return harmless(text) if is_utf(stream) else harmless(text).translate(_AS_ASCII)
