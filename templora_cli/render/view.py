"""The interface of views, which show the events of a run."""

from __future__ import annotations

from typing import Protocol

from templora_cli import events
from templora_cli.errors import TemploraError


class View(Protocol):
    """Shows the events of a run; leaving its `with` block restores the terminal."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def show(self, event: events.Event) -> None:
        """Show one event."""

    def fail(self, error: TemploraError) -> None:
        """Show the error that ends the run."""

    def pause(self) -> None:
        """Restore the terminal for a question; the next session that is opened goes on."""
        return None

    def close(self) -> None:
        """Restore the terminal. May be called more than once."""
        return None
