"""What is measured between chunks, kept beside the session: the adapters it was taken from are gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically


class MeasurementCache:
    """The measurements of one session, each by the chunk that it belongs to."""

    def __init__(self, path: Path) -> None:
        """`path` is the file that holds them, from an earlier run too."""
        self.path = path
        self.values: dict[int, Any] = {}
        if path.is_file():
            try:
                self.values = {
                    int(index): value for index, value in json.loads(path.read_text("utf-8")).items()
                }
            except (ValueError, AttributeError):
                raise TemploraError(
                    f"{path} is damaged", "delete it; what it held is measured no more"
                ) from None

    def get_or_compute(self, index: int, measure: Callable[[], Any]) -> None:
        """Keep what `measure` returns, a JSON value, for chunk `index`, unless that was done."""
        if index not in self.values:
            self.values[index] = measure()
            write_atomically(self.path, json.dumps(self.values, indent=1, ensure_ascii=False))
