"""Events as JSON on standard output (`docs/events.md`)."""

from __future__ import annotations

from typing import Any, TextIO

from templora_cli import events
from templora_cli.errors import TemploraError
from templora_cli.render.escapes import as_json
from templora_cli.render.streams import replacing_errors
from templora_cli.render.view import View


class JsonView(View):
    """Prints events as JSON objects, one per line, always in UTF-8."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = replacing_errors(stdout, encoding="utf-8")

    def show(self, event: events.Event) -> None:
        """Print the event, unless it is internal."""
        if not isinstance(event, (events.ChunkLearnt, events.Working, events.TextBefore)):
            self._write(event.as_json())

    def fail(self, error: TemploraError) -> None:
        """Print the error in the form of an event."""
        self._write({"event": "error", "message": error.message, "hint": error.hint})

    def _write(self, value: dict[str, Any]) -> None:
        self._stdout.write(as_json(value) + "\n")
        self._stdout.flush()
