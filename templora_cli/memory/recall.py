"""Passages of a book so far, and of earlier volumes, found by BM25.

The index is SQLite's FTS5, in memory. It takes and gives up single passages, and weighs words by all passages
that it has then; bm25s and rank_bm25 index the whole book again for each new chunk.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from templora_cli.errors import TemploraError
from templora_cli.memory.passages import Span, spans
from templora_cli.memory.terms import copied_run, last_words, terms, word_starts

__all__ = ["Passage", "Recall", "copied_run", "situation"]

QUERY_WORDS = 200
"""Words at the end of the text that say what is going on."""
QUERY_TERMS = 48
"""The rarest terms of a query that are looked up: the others are in too many passages to tell them apart."""
MAX_OVERLAP = 0.6
"""Jaccard index of the terms of two passages above which the second is left out."""
SHINGLE = 4
MAX_IN_WINDOW = 0.3
"""Share of a passage's runs of SHINGLE terms that the window may repeat; above it the passage is left out."""
_ROWS = 2**32
"""Rows per source: row = source * _ROWS + index of the passage, so that rows are in reading order."""


@dataclass(frozen=True)
class Passage:
    """A passage of a book."""

    text: str
    source: str
    """Where it is from, for people and the model: "chapter 3" or "volume: first.txt"."""
    start: int
    """Offset of the text in its source, in characters."""


@dataclass
class _Source:
    """A text that is in the index, with the passages into which it is cut."""

    name: str
    text: str = ""
    passages: list[Span] = field(default_factory=list)


def situation(recent: str, plan: str = "") -> str:
    """The query for what is going on: the last QUERY_WORDS words of the text, and the plan of the chapter."""
    return f"{last_words(recent, QUERY_WORDS)}\n{plan}"


class Recall:
    """Passages of a book so far, and of earlier volumes, found by BM25.

    The answers depend on the texts alone, not on the updates that led to them.
    """

    def __init__(self, volumes: Sequence[tuple[str, str]] = ()) -> None:
        """`volumes`: names and texts of earlier volumes, in reading order. Indexes them (0.5 s a book).

        Raises TemploraError if Python's SQLite is built without FTS5.
        """
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            # Terms are separated by spaces already; `ascii` takes every other character as a part of a word.
            self._db.execute("CREATE VIRTUAL TABLE passages USING fts5(terms, tokenize = 'ascii')")
        except sqlite3.OperationalError:
            raise TemploraError(
                "recall needs SQLite with full-text search (FTS5), which this Python is built without",
                "use another build of Python, or --no-recall",
            ) from None
        self._frequency: Counter[str] = Counter()  # number of passages that have a term
        self._sources: list[_Source] = []
        self._volumes = len(volumes)
        for name, text in volumes:
            self._sources.append(_Source(f"volume: {name}"))
            self._replace(len(self._sources) - 1, text)

    def update(self, chapters: Sequence[str]) -> None:
        """Take the chapters so far, each with its whole text. Indexes only new and changed passages."""
        sources = self._sources[self._volumes :]
        for index in range(len(chapters), len(sources)):
            self._replace(self._volumes + index, "")
        del self._sources[self._volumes + len(chapters) :]
        for index, text in enumerate(chapters):
            if index >= len(sources):
                self._sources.append(_Source(f"chapter {index + 1}"))
            self._replace(self._volumes + index, text)

    def find(
        self, query: str, *, window: str, limit: int = 8, max_words: int | None = None
    ) -> tuple[Passage, ...]:
        """At most `limit` passages for a query (see `situation`), the best first; ties in reading order.

        `window` is the end of the book that the model sees anyway. A passage is left out if a character of it
        is among the last `len(window)` of the chapters, or if the window repeats it; if it is nearly the same
        as a better one; or if it would bring the passages above `max_words` words.
        """
        chosen: list[Passage] = []
        chosen_terms: list[set[str]] = []
        in_window = _shingles(terms(window))
        room = max_words
        for row in self._matches(query, self._first_row_in_window(len(window)), 6 * limit):
            passage = self._passage(row)
            of_passage = terms(passage.text)
            shingles, distinct = _shingles(of_passage), set(of_passage)
            if len(shingles & in_window) > MAX_IN_WINDOW * len(shingles):
                continue
            if any(len(distinct & other) > MAX_OVERLAP * len(distinct | other) for other in chosen_terms):
                continue
            if room is not None:
                words = sum(1 for _ in word_starts(passage.text))
                if words > room:
                    continue
                room -= words
            chosen.append(passage)
            chosen_terms.append(distinct)
            if len(chosen) == limit:
                break
        return tuple(chosen)

    def _matches(self, query: str, before: int, limit: int) -> Iterator[int]:
        """Rows below `before` that share terms with the query, the best first."""
        indexed = [(self._frequency[term], term) for term in set(terms(query)) if term in self._frequency]
        rarest = [f'"{term}"' for _, term in sorted(indexed)[:QUERY_TERMS]]
        if not rarest:
            return
        for (row,) in self._db.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ? AND rowid < ? "
            "ORDER BY bm25(passages), rowid LIMIT ?",
            (" OR ".join(rarest), before, limit),
        ):
            yield row

    def _first_row_in_window(self, length: int) -> int:
        """The row of the first passage with a character among the last `length` ones of the chapters."""
        for index in range(len(self._sources) - 1, self._volumes - 1, -1):
            source = self._sources[index]
            if length < len(source.text):
                start = len(source.text) - length
                inside = bisect_right(source.passages, start, key=lambda span: span.end)
                return index * _ROWS + inside
            length -= len(source.text)
        return self._volumes * _ROWS

    def _passage(self, row: int) -> Passage:
        index, number = divmod(row, _ROWS)
        source = self._sources[index]
        span = source.passages[number]
        text = source.text[span.start : span.end]
        return Passage(text.strip(), source.name, span.start + len(text) - len(text.lstrip()))

    def _replace(self, index: int, text: str) -> None:
        """Give a source another text: passages that depend on the common beginning alone remain."""
        source = self._sources[index]
        if text == source.text:
            return
        common = _common_length(source.text, text)
        remaining = bisect_right(source.passages, common, key=lambda span: span.read or len(source.text) + 1)
        first = index * _ROWS
        self._db.execute("BEGIN")
        for number, span in enumerate(source.passages[remaining:], remaining):
            for term in set(terms(source.text[span.start : span.end])):
                self._frequency[term] -= 1
                if not self._frequency[term]:
                    del self._frequency[term]
            self._db.execute("DELETE FROM passages WHERE rowid = ?", (first + number,))
        del source.passages[remaining:]
        source.text = text
        for span in spans(text, source.passages[-1].end if source.passages else 0):
            of_passage = terms(text[span.start : span.end])
            self._frequency.update(set(of_passage))
            self._db.execute(
                "INSERT INTO passages (rowid, terms) VALUES (?, ?)",
                (first + len(source.passages), " ".join(of_passage)),
            )
            source.passages.append(span)
        self._db.execute("COMMIT")


def _common_length(one: str, other: str) -> int:
    """Number of characters at the beginning that two texts have in common."""
    if other.startswith(one):
        return len(one)
    return bisect_right(range(1, min(len(one), len(other)) + 1), 0, key=lambda n: one[:n] != other[:n])


def _shingles(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
