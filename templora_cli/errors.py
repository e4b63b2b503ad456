"""Errors that the user can fix."""

from __future__ import annotations

import errno


class TemploraError(Exception):
    """An error that the user can fix. It is shown as one line, without a traceback.

    `hint` says what to do next, if possible as a command to paste.
    """

    exit_status = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StuckError(TemploraError):
    """The gate rejected every attempt to write the next chunk, so the book cannot go on by itself."""

    exit_status = 3

    def __init__(self, chunk: int, reason: str, attempts: int) -> None:
        times = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(f"chunk {chunk + 1} was written {times} and cannot stay: {reason}")


def is_disk_full(error: Exception) -> bool:
    """Does an error mean that the disk or the quota is full?"""
    # safetensors reports the operating system's error as text only.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def of_os_error(error: OSError, *, assurance: str = "", hint: str | None = None) -> TemploraError:
    """An error of the operating system (full disk, no permission). `assurance` says which data are safe."""
    reason = error.strerror or str(error) or type(error).__name__
    file = f"{error.filename}: " if error.filename else ""
    return TemploraError(f"{file}{reason}{f'. {assurance}' if assurance else ''}", hint)
