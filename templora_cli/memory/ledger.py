"""The ledger: what is so in a book. Its people, places, things and terms, in a TOML file for people.

    avoid = ["suddenly"]                  # words that the book must not use

    [[person]]                            # or [[place]], [[thing]], [[term]]
    name = "Mira Voss"
    aliases = ["Mira", "the Captain"]     # other names in the text
    gender = "she"
    speech = "curt, never a question"
    notes = "Lost her left hand in the fire. Does not know that Tom is her brother."
    always = true                         # in every prompt, also where the text does not name her
    avoid = ["Captain Voss"]

Only `name` is required. `name_matcher` says how names match.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import tomli

from templora_cli.documents.text_input import checked_text, unreadable
from templora_cli.errors import TemploraError
from templora_cli.files import format_bytes
from templora_cli.memory.name_matcher import NameMatcher, name_key
from templora_cli.memory.toml_lines import line_of, statement_lines

KINDS = ("person", "place", "thing", "term")
TEXTS = ("name", "gender", "speech", "notes")
LISTS = ("aliases", "avoid")
KEYS = ("name", "aliases", "gender", "speech", "notes", "always", "avoid")
MAX_BYTES = 1 << 23
"""Limit for a file: some 40,000 entries."""


@dataclass(frozen=True)
class Entry:
    """A person, place, thing or term of the book. Texts are one line; "" if there is none."""

    name: str
    kind: str
    """One of `KINDS`."""
    aliases: tuple[str, ...] = ()
    gender: str = ""
    speech: str = ""
    """How a person speaks."""
    notes: str = ""
    always: bool = False
    """Whether the entry is in every prompt."""
    avoid: tuple[str, ...] = ()
    """Words that the book must not use because of this entry, such as a name that the person has not."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases."""
        return (self.name, *self.aliases)

    def line(self) -> str:
        """The entry in one line for a prompt."""
        also = f" (also: {', '.join(self.aliases)})" if self.aliases else ""
        facts = [
            ", ".join(filter(None, (f"{self.name}{also}", self.kind, self.gender))),
            f"speech: {self.speech}" if self.speech else "",
            self.notes,
        ]
        return "; ".join(filter(None, facts))


@dataclass(frozen=True)
class Ledger:
    """The entries of a book, people first, then places, things and terms, in the order of the file.

    No two entries share a name or alias, in any capitalisation.
    """

    entries: tuple[Entry, ...] = ()
    avoid: tuple[str, ...] = ()
    """Words that the book must not use."""

    @cached_property
    def matcher(self) -> NameMatcher:
        """The matcher of all names and aliases; an owner is an index into `entries`."""
        return NameMatcher((name, index) for index, entry in enumerate(self.entries) for name in entry.names)

    def owner_of(self, name: str) -> Entry | None:
        """The entry with this name or alias, in any capitalisation; None if there is none."""
        return self._owners.get(name_key(name))

    @cached_property
    def _owners(self) -> dict[str, Entry]:
        return {name_key(name): entry for entry in self.entries for name in entry.names}

    def named_in(self, *texts: str) -> tuple[Entry, ...]:
        """The entries for a prompt: the `always` ones, then those that `texts` name, the last named first.

        `texts` are in the order of reading: the last one is the most recent.
        """
        last: dict[int, tuple[int, int]] = {}
        for number, text in enumerate(texts):
            for occurrence in self.matcher.occurrences(text):
                last[occurrence.owner] = number, occurrence.start
        named = [self.entries[index] for index in sorted(last, key=last.__getitem__, reverse=True)]
        always = [entry for entry in self.entries if entry.always]
        return (*always, *(entry for entry in named if not entry.always))


def read_ledger(text: str, source: str = "ledger") -> Ledger:
    """Read a ledger; blank text is an empty one. `source` names the file in messages.

    Raises TemploraError with the line and what is expected: invalid TOML; an unknown table or key; a wrong
    type; an entry without a name; a name or alias of two entries; a word to avoid that is a name.
    """
    text = text.replace("\r\n", "\n")
    return _Reader(text, source, _parse(text, source)).ledger()


def load_ledger(path: Path, source: str | None = None) -> Ledger:
    """Read the ledger in a file; one that does not exist is empty. `source` names it in messages.

    Raises TemploraError as `read_ledger` does; and if the file cannot be read, is no text or is too large.
    """
    return read_ledger(ledger_text(path), source or str(path))


def ledger_text(path: Path) -> str:
    """The text of a ledger's file, unchecked; "" if it does not exist. Raises TemploraError."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise unreadable(path, error) from None
    if len(content) > MAX_BYTES:
        limit = format_bytes(MAX_BYTES)
        raise TemploraError(f"{path} is larger than {limit}, the limit for a ledger", "shorten it")
    return checked_text(content, str(path))


class _Location(NamedTuple):
    """Where something is in the file: a table and its number, and a key; or only a top-level key."""

    table: str
    number: int | None = None
    key: str | None = None

    def is_in(self, tables: Mapping[str, Any]) -> bool:
        if self.number is None or self.table not in tables:
            return self.table in tables
        entries = tables[self.table]
        return len(entries) > self.number and (self.key is None or self.key in entries[self.number])


@dataclass(frozen=True)
class _Reader:
    """The tables of a TOML file, to be checked."""

    text: str
    source: str
    tables: Mapping[str, Any]

    def ledger(self) -> Ledger:
        for name in self.tables:
            if name not in (*KINDS, "avoid"):
                self._fail_unknown(_Location(name), name, (*KINDS, "avoid"))
        located = [
            (self._entry(kind, values, location), location)
            for kind in KINDS
            for values, location in self._values_of(kind)
        ]
        avoid = self._words(_Location("avoid"), "avoid", self.tables.get("avoid", []))
        self._check_names(located, avoid)
        return Ledger(tuple(entry for entry, _ in located), avoid)

    def _values_of(self, kind: str) -> Iterator[tuple[Mapping[str, Any], _Location]]:
        """The tables of a kind."""
        values = self.tables.get(kind, [])
        if isinstance(values, dict):
            self._fail(_Location(kind), f"[{kind}] needs two brackets", f"write [[{kind}]]")
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            hint = f'write [[{kind}]], and below it: name = "..."'
            self._fail(_Location(kind), f"{kind} must be tables", hint)
        yield from ((value, _Location(kind, index)) for index, value in enumerate(values))

    def _entry(self, kind: str, values: Mapping[str, Any], location: _Location) -> Entry:
        for key, value in values.items():
            at = location._replace(key=key)
            if key not in KEYS:
                self._fail_unknown(at, key, KEYS)
            if key in TEXTS and not isinstance(value, str):
                self._fail(at, f"{key} must be a text", f'{key} = "..."')
            if key == "always" and not isinstance(value, bool):
                self._fail(at, "always must be true or false", "always = true")
        texts = {key: single_line(values.get(key, "")) for key in TEXTS}
        if not texts["name"]:
            at = location._replace(key="name") if "name" in values else location
            self._fail(at, f"this {kind} has no name", 'name = "..."')
        aliases, avoid = (self._words(location._replace(key=key), key, values.get(key, [])) for key in LISTS)
        is_always = values.get("always", False)
        entry = Entry(kind=kind, aliases=aliases, always=is_always, avoid=avoid, **texts)
        for key, names in (("name", (entry.name,)), ("aliases", entry.aliases)):
            for name in names:
                if not name_key(name):
                    self._fail(location._replace(key=key), f"“{name}” is not a name", "use letters or digits")
        return entry

    def _words(self, location: _Location, key: str, values: Any) -> tuple[str, ...]:
        """The texts of a list, each once."""
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self._fail(location, f"{key} must be a list of texts", f'{key} = ["...", "..."]')
        words = [single_line(value) for value in values]
        if not all(words):
            self._fail(location, f"{key} has an empty text", "remove it")
        return tuple(dict.fromkeys(words))

    def _check_names(self, located: Sequence[tuple[Entry, _Location]], avoid: Sequence[str]) -> None:
        """Check that each name has one entry, and that no name is to be avoided."""
        owners: dict[str, tuple[Entry, _Location]] = {}
        for entry, location in located:
            for number, name in enumerate(entry.names):
                at = location._replace(key="aliases" if number else "name")
                owner, other = owners.setdefault(name_key(name), (entry, at))
                if owner is not entry:
                    line = self._line(other)
                    message = f"“{name}” is already a name of the {owner.kind} {owner.name} in line {line}"
                    self._fail(at, message, "a name or alias belongs to one entry: change one of the two")
        avoided = [(word, _Location("avoid")) for word in avoid]
        avoided += [(word, at._replace(key="avoid")) for entry, at in located for word in entry.avoid]
        for word, at in avoided:
            if name_key(word) in owners:
                owner, other = owners[name_key(word)]
                message = f"“{word}” is to be avoided, but is a name in line {self._line(other)}"
                self._fail(at, message, "remove it from one of the two lines")

    def _line(self, location: _Location) -> int:
        return line_of(self.text, location.is_in)

    def _fail_unknown(self, location: _Location, name: str, known: Sequence[str]) -> NoReturn:
        near = get_close_matches(name.lower(), known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        what = "key" if location.key else "table"
        self._fail(location, f"there is no {what} {name}", f"{meant}possible are {', '.join(known)}")

    def _fail(self, location: _Location, problem: str, hint: str) -> NoReturn:
        raise TemploraError(f"{self.source}, line {self._line(location)}: {problem}", hint)


def single_line(text: str) -> str:
    """`text` in one line, without control characters."""
    return " ".join("".join(char for char in text if not _is_control(char)).split())


def _is_control(char: str) -> bool:
    return unicodedata.category(char) == "Cc" and not char.isspace()


EXPECTED = (
    ("", r"=\s*[“”„«‘’]", 'use straight quotes: name = "Mira Voss"'),
    ("", r"^\s*\[", "a table is written as [[person]], with two brackets on both sides"),
    ("Cannot overwrite", "", "a key is used once in an entry; [[person]] begins the next entry"),
    ("Unclosed array", "", 'a list begins with [ and ends with ]: aliases = ["Mira", "the Captain"]'),
    ("Unterminated|Illegal", "", 'a text begins and ends with the same quotes: name = "Mira Voss"'),
    (
        "Expected newline",
        '=.*".*".*"',
        "write a quote within a text as \\\", or the text between ''' and '''",
    ),
    ("Expected '='", "", 'write key = value, as in name = "Mira Voss"; a remark begins with #'),
    ("", "", 'write texts in quotes, as in name = "Mira Voss", and always = true without'),
)
"""What is expected, by the message of the parser and the form of the line."""


def _parse(text: str, source: str) -> dict[str, Any]:
    """The tables of the file. Raises TemploraError with the line."""
    try:
        return tomli.loads(text)
    except RecursionError:
        raise TemploraError(f"{source}: brackets are nested too deeply", "correct the file") from None
    except tomli.TOMLDecodeError as error:
        # A text or list that is not closed ends with the document: name the line where it begins.
        reason, _, location = str(error).rpartition(" (at ")
        match = re.match(r"line (\d+)", location)
        line = int(match[1]) if match else statement_lines(text)[-1]
    except ValueError:  # Python converts at most 4,300 digits
        raise TemploraError(f"{source}: a number is too long", "write texts in quotes") from None
    content = text.split("\n")[line - 1]
    hint = next(hint for said, form, hint in EXPECTED if re.match(said, reason) and re.search(form, content))
    raise TemploraError(f"{source}, line {line}: {reason[:1].lower()}{reason[1:]}", hint)
