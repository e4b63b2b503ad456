"""Passages of a book so far, and of earlier volumes, found by BM25."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from templora_cli.memory.bm25 import Index
from templora_cli.memory.passages import Span, spans
from templora_cli.memory.terms import copied_run, count_words, last_words, terms

__all__ = ["Passage", "Recall", "copied_run", "situation"]

QUERY_WORDS = 150
"""Words at the end of the text that describe what is going on."""
QUERY_TERMS = 64
"""Terms of a query that are looked up, the heaviest ones. The others are in very many passages."""
IDF_POWER = 3.0
"""Exponent of IDF. With 1, the many half-common terms of such a query outweigh a rare one."""
NAME_WEIGHT = 5.0
"""Weight of a name, relative to another word that is as rare."""
CANDIDATES = 8
"""Passages that are examined for each one that was requested."""
MAX_OVERLAP = 0.6
"""Jaccard index of the terms of two passages, above which the second is left out."""
SHINGLE = 4
MAX_IN_WINDOW = 0.3
"""Share of a passage's runs of SHINGLE terms that may also be in the window."""


@dataclass(frozen=True)
class Passage:
    """A passage of a book."""

    text: str
    volume: str
    """The name of the earlier volume that it is from; "" for the book itself."""
    source: int
    """The index of its text: earlier volumes come first, then the chapters of the book."""
    start: int
    """Offset in that text, in characters."""


@dataclass
class _Source:
    """A text in the index, with the passages into which it is cut."""

    index: int
    volume: str = ""
    text: str = ""
    spans: list[Span] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """The row of each passage in the index."""

    def passage(self, number: int) -> Passage:
        """A passage without the white space around it."""
        span = self.spans[number]
        text = self.text[span.start : span.end]
        return Passage(text.strip(), self.volume, self.index, span.start + len(text) - len(text.lstrip()))


def situation(recent: str, plan: str = "") -> str:
    """The query for the present scene: the last QUERY_WORDS words of the text, and the chapter's plan."""
    return f"{last_words(recent, QUERY_WORDS)}\n{plan}"


class Recall:
    """Passages of a book so far, and of earlier volumes, found by BM25.

    The results depend on the texts alone, not on the updates that led to them.
    """

    def __init__(self, volumes: Sequence[tuple[str, str]] = ()) -> None:
        """Index earlier volumes: the name and the text of each, in reading order."""
        self._index = Index()
        self._lower_case: Counter[str] = Counter()  # number of passages with a term in lower case
        self._locations: dict[int, tuple[int, int]] = {}  # source and number of the passage of each row
        self._sources: list[_Source] = []
        self._volumes = len(volumes)
        for index, (name, text) in enumerate(volumes):
            self._sources.append(_Source(index, name))
            self._set_text(index, text)

    def update(self, chapters: Sequence[str]) -> None:
        """Take the chapters so far, each with its whole text. Indexes only new and changed passages."""
        for index in range(len(self._sources) - 1, self._volumes + len(chapters) - 1, -1):
            self._set_text(index, "")
            del self._sources[index]
        for index, text in enumerate(chapters, self._volumes):
            if index == len(self._sources):
                self._sources.append(_Source(index))
            self._set_text(index, text)

    def find(
        self,
        query: str,
        *,
        window: str,
        names: Sequence[str] = (),
        limit: int = 8,
        max_words: int | None = None,
    ) -> tuple[Passage, ...]:
        """At most `limit` passages for a query (see `situation`), the best first; ties in reading order.

        `window` is the end of the book that is in the prompt anyway. A passage is left out if any of its
        characters is among the last `len(window)` of the chapters, if the window repeats it, if it is nearly
        the same as a better one, or if the passages would exceed `max_words` words (`terms.count_words`).
        Names with a capital letter are recognised; `names` may list others that the query has.
        """
        chosen: list[Passage] = []
        terms_of_chosen: list[set[str]] = []
        window_shingles = _shingles(terms(window))
        words = 0
        in_window = self._rows_in_window(len(window))
        weights = self._weights(query, names, in_window)
        for source, number in self._ranking(weights, in_window, CANDIDATES * limit):
            passage = self._sources[source].passage(number)
            length = count_words(passage.text)
            if max_words is not None and words + length > max_words:
                continue
            of_passage = terms(passage.text)
            shingles, distinct = _shingles(of_passage), set(of_passage)
            if len(shingles & window_shingles) > MAX_IN_WINDOW * len(shingles):
                continue
            if any(len(distinct & other) > MAX_OVERLAP * len(distinct | other) for other in terms_of_chosen):
                continue
            chosen.append(passage)
            terms_of_chosen.append(distinct)
            words += length
            if len(chosen) == limit:
                break
        return tuple(chosen)

    def _weights(self, query: str, names: Sequence[str], in_window: list[int]) -> dict[str, float]:
        """The QUERY_TERMS heaviest terms of a query that are outside the window, with their weights."""
        query_terms = terms(query, fold=False)
        lower_case = {term for term in query_terms if term.islower()}
        listed = {term for name in names for term in terms(name)}
        idf = self._index.idf({term.casefold() for term in query_terms}, in_window)
        weights: dict[str, float] = {}
        for term in query_terms:
            folded = term.casefold()
            if folded not in idf:
                continue
            # Capital letters also begin sentences, but such a word is somewhere in lower case.
            capitalized = len(term) > 1 and term[0].isupper()
            is_name = capitalized and folded not in lower_case and folded not in self._lower_case
            factor = NAME_WEIGHT if is_name or folded in listed else 1.0
            weights[folded] = max(factor * idf[folded] ** IDF_POWER, weights.get(folded, 0.0))
        heaviest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:QUERY_TERMS]
        return dict(heaviest)

    def _ranking(self, weights: dict[str, float], in_window: list[int], count: int) -> list[tuple[int, int]]:
        """The best passages outside the window: source and number of each."""
        scores = self._index.scores(weights)
        scores[in_window] = 0.0
        if len(scores) > count:  # passages that tie with the last one as well: rows are in no order
            candidates = np.flatnonzero(scores >= max(np.partition(scores, -count)[-count], 1e-9))
        else:
            candidates = np.flatnonzero(scores)
        ranked = sorted((-float(scores[row]), self._locations[int(row)]) for row in candidates)
        return [location for _, location in ranked[:count]]

    def _rows_in_window(self, length: int) -> list[int]:
        """The rows of the passages with any of the last `length` characters of the chapters."""
        rows: list[int] = []
        for source in reversed(self._sources[self._volumes :]):
            if length <= 0:
                break
            start = len(source.text) - length
            rows += source.rows[bisect_right(source.spans, start, key=lambda span: span.end) :]
            length -= len(source.text)
        return rows

    def _set_text(self, index: int, text: str) -> None:
        """Change the text of a source. Passages that only depend on what both texts begin with remain."""
        source = self._sources[index]
        if text == source.text:
            return
        common = _common_length(source.text, text)
        remaining = bisect_right(
            source.spans, common, key=lambda span: len(source.text) + 1 if span.read is None else span.read
        )
        while len(source.spans) > remaining:
            self._remove_last(source)
        source.text = text
        for span in spans(text, source.spans[-1].end if source.spans else 0):
            self._append(index, span)

    def _append(self, index: int, span: Span) -> None:
        """Index the next passage of a source."""
        source = self._sources[index]
        cased = terms(source.text[span.start : span.end], fold=False)
        row = self._index.add([term.casefold() for term in cased])
        self._lower_case.update({term for term in cased if term.islower()})
        self._locations[row] = index, len(source.rows)
        source.spans.append(span)
        source.rows.append(row)

    def _remove_last(self, source: _Source) -> None:
        """Remove the last passage of a source from the index."""
        span, row = source.spans.pop(), source.rows.pop()
        cased = terms(source.text[span.start : span.end], fold=False)
        self._index.remove(row, [term.casefold() for term in cased])
        for term in {term for term in cased if term.islower()}:
            self._lower_case[term] -= 1
            if not self._lower_case[term]:
                del self._lower_case[term]
        del self._locations[row]


def _common_length(one: str, other: str) -> int:
    """Number of characters at the beginning that two texts have in common."""
    if other.startswith(one):
        return len(one)
    lengths = range(1, min(len(one), len(other)) + 1)
    return bisect_right(lengths, False, key=lambda length: one[:length] != other[:length])


def _shingles(words: Sequence[str]) -> set[tuple[str, ...]]:
    """All runs of SHINGLE words."""
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
