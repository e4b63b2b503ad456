"""Ctrl-C outside of a run: never a traceback, from the first import to the end of the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

STOPPED = 130
"""Exit status after Ctrl-C, as of every Unix program."""


def quit_on_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, without a message: while libraries are imported, and at the end.

    Python runs no cleanup then, and writes nothing that is still in a buffer.
    """
    _on_ctrl_c(lambda number, frame: os._exit(STOPPED))


def raise_on_ctrl_c() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, as in every Python program."""
    _on_ctrl_c(signal.default_int_handler)


def ignore_ctrl_c() -> None:
    """Ignore further Ctrl-C, while the last messages of a stopped run are written."""
    _on_ctrl_c(lambda number, frame: None)


def _on_ctrl_c(handler: Callable[[int, FrameType | None], object]) -> None:
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # background jobs of a shell ignore Ctrl-C
        signal.signal(signal.SIGINT, handler)
