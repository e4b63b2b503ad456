"""Measurements between chunks, saved with the session: they cannot be repeated with later adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically


class MeasurementCache:
    """The measurements of one session, by index of the chunk."""

    def __init__(self, path: Path) -> None:
        """Read the measurements of earlier runs from `path`. Raises TemploraError if the file is damaged."""
        self.path = path
        self.values: dict[int, Any] = {}
        if path.is_file():
            try:
                self.values = {
                    int(index): value for index, value in json.loads(path.read_text("utf-8")).items()
                }
            except (ValueError, AttributeError):
                raise TemploraError(
                    f"{path} is damaged", "delete it, which loses its measurements, and run the command again"
                ) from None

    def measure_once(self, index: int, measure: Callable[[], Any]) -> None:
        """Save the result of `measure`, a JSON value, for chunk `index`, unless there is one already."""
        if index not in self.values:
            self.values[index] = measure()
            write_atomically(self.path, json.dumps(self.values, indent=1, ensure_ascii=False))
