"""Files of glossaries: CSV, JSON and TOML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from templora_cli.documents.utf8_text import read_text
from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import write_atomically
from templora_cli.translation.term_proposals import Proposal
from templora_cli.translation.terminology import Glossary, Term

COLUMNS = ("source", "target", "note", "forbidden", "count", "example")
"""Of a CSV that is written; `source` and `target` are needed in one that is read."""

FORMS = (
    "a CSV with the header source,target,note,forbidden; a JSON list of objects with these keys or an object "
    "{source: target}; TOML tables [[term]], or one table [terms]"
)

_Located = tuple[str, Mapping[str, Any]]
"""An entry and where it stands, for messages."""


def read_glossary(path: Path) -> Glossary:
    """Read `path`, by its suffix: .csv (also with ; or tabs), .json or .toml.

    What is passed over is told in the notices of the result: entries without a translation yet, and entries
    that stand there twice. Raises TemploraError that names the file and the line or the entry: unreadable,
    no such columns or keys, an empty source, one source with two translations, a translation that is
    forbidden by its own entry.
    """
    entries = _READERS.get(path.suffix.lower())
    if entries is None:
        raise TemploraError(f"{path}: a glossary is a .csv, .json or .toml", f"it must be {FORMS}")
    terms: dict[str, tuple[Term, str]] = {}
    notices = []
    for place, entry in entries(path, read_text(path)):
        term = _term(place, entry)
        before = terms.get(term.source)
        if not term.target:
            notices.append(f"{place}: {term.source} has no translation yet, passed over")
        elif before is None:
            terms[term.source] = term, place
        elif before[0].target == term.target:
            notices.append(f"{place}: {term.source} stands there already ({before[1]}), passed over")
        else:
            raise TemploraError(
                f"{place}: {term.source} is “{term.target}” here and “{before[0].target}” in {before[1]}",
                "keep one of the two",
            )
    return Glossary(tuple(term for term, _ in terms.values()), tuple(notices))


def write_glossary(path: Path, glossary: Glossary, proposals: Iterable[Proposal] = ()) -> None:
    """Write a CSV that a person fills in: the terms of `glossary`, then `proposals` without a translation.

    Raises TemploraError where it cannot be written.
    """
    if path.suffix.lower() != ".csv":
        raise TemploraError(f"{path.name}: a glossary is written as .csv", "--out glossary.csv")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for term in glossary.terms:
        writer.writerow((term.source, term.target, term.note, "|".join(term.forbidden), "", ""))
    for proposal in proposals:
        writer.writerow((proposal.source, "", "", "", proposal.count, proposal.example))
    try:
        # With a byte order mark: spreadsheets take a CSV without one for their own old encoding.
        write_atomically(path, "\ufeff" + stream.getvalue())
    except OSError as error:
        raise of_os_error(error, hint="choose another place with --out") from None


def _term(place: str, entry: Mapping[str, Any]) -> Term:
    source, target, note = (_text(place, entry, key) for key in ("source", "target", "note"))
    if not source:
        raise TemploraError(f"{place}: the source is empty", "give the term as it stands in the book")
    forbidden = entry.get("forbidden")
    given = forbidden if isinstance(forbidden, list) else str(forbidden or "").split("|")
    forms = tuple(form for form in (_text(place, {"forbidden": one}, "forbidden") for one in given) if form)
    if target in forms:
        raise TemploraError(
            f"{place}: “{target}” is the translation and forbidden", "take it out of one of them"
        )
    return Term(source, target, note, forms)


def _text(place: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TemploraError(f"{place}: “{key}” is no text", "put it in quotation marks")
    if any("\ud800" <= char <= "\udfff" for char in value):  # JSON can escape halves of characters
        raise TemploraError(f"{place}: “{key}” holds half a character", "mend it, or leave the entry out")
    return " ".join(value.split())


def _csv(path: Path, text: str) -> Iterator[_Located]:
    body = text.lstrip("\n")
    skipped = len(text) - len(body)
    header = body.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(body), delimiter=delimiter, strict=True)
    line = skipped + 1  # where the row begins: it may hold line breaks
    try:
        columns = _columns(path, reader)
        line = reader.line_num + skipped + 1
        for row in reader:
            place, line = f"{path}, line {line}", reader.line_num + skipped + 1
            if None in row:
                raise TemploraError(
                    f"{place}: has more than {len(columns)} columns",
                    f'put a text with "{delimiter}" in quotation marks',
                )
            if any((value or "").strip() for value in row.values()):
                yield place, row
    except csv.Error as error:
        raise TemploraError(f"{path}, line {line}: {error}", "check the quotation marks there") from None


def _columns(path: Path, reader: csv.DictReader[str]) -> list[str]:
    """The names of the columns, which `reader` takes in small letters."""
    columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    missing = [name for name in ("source", "target") if name not in columns]
    if missing:
        raise TemploraError(
            f"{path}, line 1: has no column {' and no column '.join(missing)}", f"it must be {FORMS}"
        )
    reader.fieldnames = columns
    return columns


class _Object(dict[str, Any]):
    """An object of JSON with all its entries: a dict keeps the last of those that have one key."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _json(path: Path, text: str) -> Iterator[_Located]:
    try:
        value = json.loads(text, object_pairs_hook=_Object)
    except ValueError as error:
        at = getattr(error, "lineno", 1)
        raise TemploraError(
            f"{path}, line {at}: is no JSON: {getattr(error, 'msg', error)}", "mend that line"
        ) from None
    except RecursionError:
        raise TemploraError(f"{path}: is nested too deeply", f"it must be {FORMS}") from None
    if isinstance(value, _Object):
        yield from _mapping(path, value.pairs)
        return
    if not isinstance(value, list):
        raise TemploraError(f"{path}: is neither a list nor an object", f"it must be {FORMS}")
    yield from _objects(path, value)


def _toml(path: Path, text: str) -> Iterator[_Located]:
    import tomli

    try:
        value = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise TemploraError(f"{path}: is no TOML: {error}", "mend that line") from None
    tables, terms = value.get("term", []), value.get("terms", {})
    if not isinstance(tables, list) or not isinstance(terms, dict) or not (tables or terms):
        raise TemploraError(f"{path}: has no [[term]] and no [terms]", f"it must be {FORMS}")
    yield from _objects(path, tables)
    yield from _mapping(path, list(terms.items()))


def _objects(path: Path, entries: list[Any]) -> Iterator[_Located]:
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or "source" not in entry:
            raise TemploraError(f"{path}, entry {number}: has no “source”", f"it must be {FORMS}")
        yield f"{path}, entry {number}", entry


def _mapping(path: Path, terms: list[tuple[str, Any]]) -> Iterator[_Located]:
    """Entries {source: target}, or {source: {target, note, forbidden}}."""
    for number, (source, target) in enumerate(terms, 1):
        entry = target if isinstance(target, dict) else {"target": target}
        yield f"{path}, entry {number} ({source})", {**entry, "source": source}


_READERS = {".csv": _csv, ".json": _json, ".toml": _toml}
