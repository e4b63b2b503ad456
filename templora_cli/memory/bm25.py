"""BM25 over passages that are added and removed one at a time.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009). Recall must add
single passages, and weight the words of a query. bm25s and rank_bm25 index the whole corpus again for a
new passage. SQLite's FTS5 cannot weight words: of the facts of `python -m benchmarks facts` it found 44 %
and this 99 %, and it took 50 ms for 85 words among a million.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75


class Index:
    """The passages by their words. A passage is known by its row: the first free number from 0."""

    def __init__(self) -> None:
        self._rows: dict[str, array[int]] = {}  # for each word, the rows of its passages,
        self._counts: dict[str, array[int]] = {}  # and how often each of them has it
        self._lengths = array("i")  # by row, in words; -1 where there is no passage
        self._words = 0
        self._passages = 0

    def add(self, words: Sequence[str]) -> int:
        """Index a passage. Returns its row."""
        row = len(self._lengths)
        for word, count in Counter(words).items():
            self._rows.setdefault(word, array("i")).append(row)
            self._counts.setdefault(word, array("i")).append(count)
        self._lengths.append(len(words))
        self._words += len(words)
        self._passages += 1
        return row

    def remove(self, row: int, words: Sequence[str]) -> None:
        """Remove the passage at `row`, which has these words. Fast for the last ones."""
        for word in set(words):
            rows, counts = self._rows[word], self._counts[word]
            index = len(rows) - 1
            while rows[index] != row:
                index -= 1
            del rows[index], counts[index]
            if not rows:
                del self._rows[word], self._counts[word]
        self._lengths[row] = -1
        self._words -= len(words)
        self._passages -= 1
        while self._lengths and self._lengths[-1] < 0:
            self._lengths.pop()

    def idf(self, words: Iterable[str], excluded: Sequence[int] = ()) -> dict[str, float]:
        """Inverse document frequency, in nats, of the words that a passage beside the excluded rows has."""
        first = min(excluded, default=len(self._lengths))
        mask = np.zeros(len(self._lengths) - first, dtype=np.bool_)
        mask[np.array(excluded, dtype=np.intp) - first] = True
        passages = self._passages - len(excluded)
        idf: dict[str, float] = {}
        for word in words:
            if word in self._rows:
                rows = np.frombuffer(self._rows[word], dtype=np.intc)  # ascending
                tail = rows[np.searchsorted(rows, first) :]
                frequency = len(rows) - int(np.count_nonzero(mask[tail - first]))
                if frequency:
                    idf[word] = math.log1p((passages - frequency + 0.5) / (frequency + 0.5))
        return idf

    def scores(self, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """The score of each row, for the weights of words (IDF included). 0 if it has none of the words."""
        scores = np.zeros(len(self._lengths))
        if not self._passages:
            return scores
        lengths = np.frombuffer(self._lengths, dtype=np.intc)
        norms = K1 * (1 - B + B * lengths / max(1.0, self._words / self._passages))
        for word, weight in weights.items():
            if word in self._rows:
                rows = np.frombuffer(self._rows[word], dtype=np.intc)
                counts = np.frombuffer(self._counts[word], dtype=np.intc)
                scores[rows] += weight * (K1 + 1) * counts / (counts + norms[rows])
        return scores
