"""Path arguments of the command line."""

from __future__ import annotations

from typing import Any

from templora_cli.files import expanded


def expand_home(value: Any) -> Any:
    """A callback of Typer: the path, or each path, with a home folder in place of `~`."""
    if isinstance(value, (list, tuple)):
        return [expanded(path) for path in value]
    return None if value is None else expanded(value)
