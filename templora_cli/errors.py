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
