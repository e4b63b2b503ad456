"""Files of glossaries: CSV, JSON and TOML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from templora_cli.documents.text_input import read_text
from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import write_atomically
from templora_cli.term_proposals import Proposal
from templora_cli.translation.terminology import Glossary, Term

COLUMNS = ("source", "target", "note", "forbidden", "count", "example")
"""The columns of a CSV that is written. One that is read must have `source` and `target`."""

FORMS = (
    "a CSV with the header source,target,note,forbidden; a JSON list of objects with these keys or an object "
    "{source: target}; TOML tables [[term]], or one table [terms]"
)

_LocatedEntry = tuple[str, Mapping[str, Any]]
"""The location of an entry, for messages, and its values."""


def read_glossary(path: Path, languages: Sequence[str] = ()) -> Glossary:
    """Read a .csv (with commas, semicolons or tabs), .json or .toml file.

    Its encoding is detected; the `languages` (BCP 47 codes) of its terms help with that.

    Entries without a translation and repeated entries are skipped, with a notice in the result. Raises
    TemploraError with the file and the line or entry: unreadable file, missing columns or keys, empty
    source, source with two translations, translation that its own entry forbids.
    """
    entries = _READERS.get(path.suffix.lower())
    if entries is None:
        raise TemploraError(f"{path}: a glossary is a .csv, .json or .toml", f"it must be {FORMS}")
    terms: dict[str, tuple[Term, str]] = {}
    notices: list[str] = []
    for location, entry in entries(path, read_text(path, languages=languages, notify=notices.append)):
        term = _term(location, entry)
        first = terms.get(term.source)
        if not term.target:
            notices.append(f"{location}: {term.source} has no translation yet, skipped")
        elif first is None:
            terms[term.source] = term, location
        elif first[0].target == term.target:
            notices.append(f"{location}: {term.source} is already in {first[1]}, skipped")
        else:
            raise TemploraError(
                f"{location}: {term.source} is “{term.target}” here and “{first[0].target}” in {first[1]}",
                "remove one of the two",
            )
    return Glossary(tuple(term for term, _ in terms.values()), tuple(notices))


def write_glossary(path: Path, glossary: Glossary, proposals: Iterable[Proposal] = ()) -> None:
    """Write the terms of `glossary`, then `proposals` with an empty target, as a CSV for a person to fill in.

    Raises TemploraError if it cannot be written.
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
        # Without a byte order mark, spreadsheets read the file in an old encoding of their own.
        write_atomically(path, "\ufeff" + stream.getvalue())
    except OSError as error:
        raise of_os_error(error, hint="choose another file with --out") from None


def _term(location: str, entry: Mapping[str, Any]) -> Term:
    source, target, note = (_text(location, entry, key) for key in ("source", "target", "note"))
    if not source:
        raise TemploraError(f"{location}: the source is empty", "give the term as it is in the book")
    values = entry.get("forbidden")
    if not isinstance(values, list):
        values = str(values or "").split("|")
    forms = (_text(location, {"forbidden": value}, "forbidden") for value in values)
    forbidden = tuple(form for form in forms if form)
    if target in forbidden:
        raise TemploraError(
            f"{location}: “{target}” is both the translation and forbidden", "remove it from one of the two"
        )
    return Term(source, target, note, forbidden)


def _text(location: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TemploraError(f"{location}: “{key}” is not text", "put it in quotation marks")
    if any("\ud800" <= char <= "\udfff" for char in value):  # JSON can escape one half of a surrogate pair
        raise TemploraError(
            f"{location}: “{key}” contains half a character", "correct it, or remove the entry"
        )
    return " ".join(value.split())


def _csv(path: Path, text: str) -> Iterator[_LocatedEntry]:
    body = text.lstrip("\n")
    skipped = len(text) - len(body)
    header = body.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(body), delimiter=delimiter, strict=True)
    line = skipped + 1  # the first line of the row, which may contain line breaks
    try:
        columns = _columns(path, reader)
        line = reader.line_num + skipped + 1
        for row in reader:
            location, line = f"{path}, line {line}", reader.line_num + skipped + 1
            if None in row:
                raise TemploraError(
                    f"{location} has more than {len(columns)} columns",
                    f'put a text with "{delimiter}" in quotation marks',
                )
            if any((value or "").strip() for value in row.values()):
                yield location, row
    except csv.Error as error:
        raise TemploraError(
            f"{path}, line {line}: {error}", "check the quotation marks in that line"
        ) from None


def _columns(path: Path, reader: csv.DictReader[str]) -> list[str]:
    """The names of the columns in lower case, which `reader` uses from now on."""
    columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    missing = [name for name in ("source", "target") if name not in columns]
    if missing:
        raise TemploraError(
            f"{path}, line 1 has no column {' and no column '.join(missing)}", f"it must be {FORMS}"
        )
    reader.fieldnames = columns
    return columns


class _Object(dict[str, Any]):
    """A JSON object with all its entries; a dict would drop entries with a repeated key."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _json(path: Path, text: str) -> Iterator[_LocatedEntry]:
    try:
        value = json.loads(text, object_pairs_hook=_Object)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise TemploraError(
            f"{path}, line {line} is not valid JSON: {getattr(error, 'msg', error)}", "correct that line"
        ) from None
    except RecursionError:
        raise TemploraError(f"{path} is nested too deeply", f"it must be {FORMS}") from None
    if isinstance(value, _Object):
        yield from _mapping(path, value.pairs)
        return
    if not isinstance(value, list):
        raise TemploraError(f"{path} is neither a list nor an object", f"it must be {FORMS}")
    yield from _objects(path, value)


def _toml(path: Path, text: str) -> Iterator[_LocatedEntry]:
    import tomli

    try:
        value = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise TemploraError(f"{path} is not valid TOML: {error}", "correct that line") from None
    tables, terms = value.get("term", []), value.get("terms", {})
    if not isinstance(tables, list) or not isinstance(terms, dict) or not (tables or terms):
        raise TemploraError(f"{path} has no [[term]] and no [terms]", f"it must be {FORMS}")
    yield from _objects(path, tables)
    yield from _mapping(path, list(terms.items()))


def _objects(path: Path, entries: list[Any]) -> Iterator[_LocatedEntry]:
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or "source" not in entry:
            raise TemploraError(f"{path}, entry {number} has no “source”", f"it must be {FORMS}")
        yield f"{path}, entry {number}", entry


def _mapping(path: Path, terms: list[tuple[str, Any]]) -> Iterator[_LocatedEntry]:
    """Entries {source: target}, or {source: {target, note, forbidden}}."""
    for number, (source, target) in enumerate(terms, 1):
        entry = target if isinstance(target, dict) else {"target": target}
        yield f"{path}, entry {number} ({source})", {**entry, "source": source}


_READERS = {".csv": _csv, ".json": _json, ".toml": _toml}
