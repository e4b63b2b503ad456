"""Aligned texts: files of paragraphs with their translations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from templora_cli.documents.utf8_text import read_text
from templora_cli.errors import TemploraError

FORMS = (
    'a JSON list of {"inference": [pair, ...]}, or one pair a line; a pair is {"source": ..., "target": ...} '
    "or has its two language codes as keys"
)


@dataclass(frozen=True)
class AlignedPair:
    """A paragraph and its translation, each without line breaks."""

    source: str
    target: str


@dataclass(frozen=True)
class AlignedText:
    """A text and its translation in order, in runs of paragraphs that are taken together."""

    runs: tuple[tuple[AlignedPair, ...], ...]
    languages: tuple[str, str] | None
    """The file's own keys where they are language codes: source, target."""


def read_aligned(path: Path, *, run_pairs: int, languages: tuple[str, str] | None = None) -> AlignedText:
    """Read `path`: the layout of GuoFeng (a JSON list whose items hold a run each), or JSON lines.

    Pairs of JSON lines, which have no runs, are taken `run_pairs` at a time. `languages` are the keys of
    source and target in a file that has no "source" and "target".

    Raises TemploraError that names the file and the line or the pair.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        runs = list(_runs(path, text))
    else:
        pairs = list(_lines(path, text))
        runs = [pairs[i : i + run_pairs] for i in range(0, len(pairs), run_pairs)]
    keys = _keys(path, runs, languages)
    read = tuple(tuple(_pair(place, value, keys) for place, value in run) for run in runs if run)
    if not read:
        raise TemploraError(f"{path} has no pairs", f"it must be {FORMS}")
    return AlignedText(read, None if keys == ("source", "target") else keys)


Located = tuple[str, Any]
"""A value of the file and where it stands there, for messages."""


def _runs(path: Path, text: str) -> Iterator[list[Located]]:
    try:
        items = json.loads(text)
    except ValueError as error:
        raise _unreadable(path, error) from None
    for number, item in enumerate(items, 1):
        run = item.get("inference") if isinstance(item, dict) else None
        if not isinstance(run, list):
            raise TemploraError(f'{path}, item {number}: has no list "inference"', f"it must be {FORMS}")
        yield [(f"{path}, item {number}, pair {place}", pair) for place, pair in enumerate(run, 1)]


def _lines(path: Path, text: str) -> Iterator[Located]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"{path}, line {number}", json.loads(line)
        except ValueError as error:
            raise _unreadable(path, error, line=number) from None


def _unreadable(path: Path, error: ValueError, line: int | None = None) -> TemploraError:
    at = line or getattr(error, "lineno", 1)
    return TemploraError(
        f"{path}, line {at}: is no JSON: {getattr(error, 'msg', error)}",
        f"mend that line; the file must be {FORMS}",
    )


def _keys(path: Path, runs: list[list[Located]], languages: tuple[str, str] | None) -> tuple[str, str]:
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
    raise TemploraError(f"{path}: which of its texts is the source?", "say it: --from zh --to en")


def _pair(place: str, value: Any, keys: tuple[str, str]) -> AlignedPair:
    texts = []
    for key in keys:
        text = value.get(key) if isinstance(value, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise TemploraError(f'{place}: has no text "{key}"', "give it one, or leave the pair out")
        if any("\ud800" <= char <= "\udfff" for char in text):  # JSON can escape halves of characters
            raise TemploraError(f'{place}: "{key}" holds half a character', "mend it, or leave the pair out")
        texts.append(" ".join(line.strip() for line in text.strip().splitlines()))
    return AlignedPair(*texts)
