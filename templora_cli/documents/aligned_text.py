"""Aligned texts: files with paragraphs and their translations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from templora_cli.documents.text_input import read_text
from templora_cli.errors import TemploraError

_LAYOUTS = (
    'a JSON list of {"inference": [pair, ...]}, or one pair per line; a pair is '
    '{"source": ..., "target": ...} or has its two language codes as keys'
)


@dataclass(frozen=True)
class AlignedPair:
    """A paragraph and its translation, each without line breaks."""

    source: str
    target: str


@dataclass(frozen=True)
class AlignedText:
    """A text and its translation, as runs of consecutive pairs that are learnt together."""

    runs: tuple[tuple[AlignedPair, ...], ...]
    languages: tuple[str, str] | None
    """The keys of source and target in the file, if they are language codes."""


def read_aligned(path: Path, *, run_pairs: int, languages: tuple[str, str] | None = None) -> AlignedText:
    """Read `path`: the GuoFeng layout (a JSON list with one run per item), or JSON lines.

    JSON lines have no runs: each `run_pairs` pairs become one. `languages` are the keys of source and target
    in a file without "source" and "target".

    Raises TemploraError that names the file and the line or the pair.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        values = list(_json_runs(path, text))
    else:
        pairs = list(_json_lines(path, text))
        values = [pairs[i : i + run_pairs] for i in range(0, len(pairs), run_pairs)]
    keys = _keys(path, values, languages)
    runs = tuple(tuple(_pair(location, value, keys) for location, value in run) for run in values if run)
    if not runs:
        raise TemploraError(f"{path} has no pairs", f"it must be {_LAYOUTS}")
    return AlignedText(runs, None if keys == ("source", "target") else keys)


_LocatedValue = tuple[str, Any]
"""A location in the file, for messages, and the value there."""


def _json_runs(path: Path, text: str) -> Iterator[list[_LocatedValue]]:
    try:
        items = json.loads(text)
    except ValueError as error:
        raise _json_error(path, error) from None
    for number, item in enumerate(items, 1):
        run = item.get("inference") if isinstance(item, dict) else None
        if not isinstance(run, list):
            raise TemploraError(f'{path}, item {number} has no list "inference"', f"it must be {_LAYOUTS}")
        yield [(f"{path}, item {number}, pair {index + 1}", pair) for index, pair in enumerate(run)]


def _json_lines(path: Path, text: str) -> Iterator[_LocatedValue]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"{path}, line {number}", json.loads(line)
        except ValueError as error:
            raise _json_error(path, error, line=number) from None


def _json_error(path: Path, error: ValueError, line: int | None = None) -> TemploraError:
    line = line or getattr(error, "lineno", 1)
    return TemploraError(
        f"{path}, line {line} is not valid JSON: {getattr(error, 'msg', error)}",
        f"correct that line; the file must be {_LAYOUTS}",
    )


def _keys(path: Path, runs: list[list[_LocatedValue]], languages: tuple[str, str] | None) -> tuple[str, str]:
    """The keys of source and target, from the first pair."""
    first = next((value for run in runs for _, value in run), None)
    keys = first.keys() if isinstance(first, dict) else set()
    if keys & {"source", "target"} or not keys:
        return "source", "target"
    if languages is not None and keys & set(languages):
        return languages
    if languages is None and len(keys) == 2:
        source, target = keys
        return source, target
    raise TemploraError(
        f"{path}: cannot tell the source from the translation", "name the languages: --from zh --to en"
    )


def _pair(location: str, value: Any, keys: tuple[str, str]) -> AlignedPair:
    texts = []
    for key in keys:
        text = value.get(key) if isinstance(value, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise TemploraError(f'{location} has no text "{key}"', "add the text, or remove the pair")
        if any("\ud800" <= char <= "\udfff" for char in text):  # JSON can escape lone surrogates
            raise TemploraError(
                f'{location}: "{key}" contains half a character', "correct it, or remove the pair"
            )
        texts.append(" ".join(line.strip() for line in text.strip().splitlines()))
    return AlignedPair(*texts)
