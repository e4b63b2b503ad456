"""The output of an evaluation: a table, JSON or CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any, Literal

from templora_cli.commands.terminal import print_json, print_table
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.render.escapes import one_line

Form = Literal["table", "json", "csv"]
TEXTS = ("book", "way")
"""Columns with text in place of numbers."""


def form_of(*, as_json: bool, as_csv: bool = False) -> Form:
    """The form that the flags select. Raises TemploraError for both flags."""
    if as_json and as_csv:
        raise TemploraError("--json and --csv cannot be combined", "use one of them")
    return "json" if as_json else "csv" if as_csv else "table"


def print_rows(
    form: Form, config: Config, columns: dict[str, str], rows: Sequence[dict[str, Any]], **more: Any
) -> None:
    """Print `rows`. `columns` maps keys of the rows to the headings of the table.

    JSON has all keys of the rows, the configuration, and the values in `more`.
    """
    if form == "json":
        print_json({"config": config.as_dict(), "rows": rows, **more})
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows([_safe(row[key]) for key in columns] for row in rows)
    else:
        cells = [[cell(row[key]) for key in columns] for row in rows]
        print_table(list(columns.values()), cells, texts=TEXTS)


def _safe(value: Any) -> Any:
    """A value for CSV without control characters, because it may be printed to a terminal."""
    return one_line(value) if isinstance(value, str) else value


def cell(value: Any) -> str:
    """A value as text for a table; "-" for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
