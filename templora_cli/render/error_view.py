"""Errors as lines: the message, and the hint."""

from __future__ import annotations

from typing import TextIO

from rich.text import Text

from templora_cli.errors import TemploraError
from templora_cli.render.escapes import harmless
from templora_cli.render.lines import screen_lines, terminal_width
from templora_cli.render.streams import replacing_errors
from templora_cli.render.styles import console_on


def error_lines(error: TemploraError) -> list[str]:
    """The lines for an error: the message, and the hint if it has one."""
    return [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]


def show_error(stderr: TextIO, error: TemploraError) -> None:
    """Print `error` to `stderr`, in colour on a terminal.

    On a terminal the message is broken between words. The hint is never broken, so that it can be copied.
    """
    console = console_on(replacing_errors(stderr))
    message, *hint = (harmless(line).replace("\n", "\n  ") for line in error_lines(error))
    if console.is_terminal:
        message = "\n".join(screen_lines(message, terminal_width(stderr)))
    for text, style in zip([message, *hint], ("error", "hint"), strict=False):
        console.print(Text(text, style), soft_wrap=True)
