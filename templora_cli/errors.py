"""What goes wrong in a way that the person at the keyboard can mend."""

from __future__ import annotations


class TemploraError(Exception):
    """A mistake or a lack that the user can put right: shown as one line, without a traceback.

    `hint` says what to do next, if possible as a command that can be pasted.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def of_os_error(error: OSError, *, kept: str = "", hint: str | None = None) -> TemploraError:
    """What the operating system refused (a full disk, a missing right), and what is `kept` in spite of it."""
    reason = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    return TemploraError(f"{where}{reason}{f'. {kept}' if kept else ''}", hint)
