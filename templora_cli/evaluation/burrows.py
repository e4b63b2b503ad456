"""Burrows's Delta: how far the style of a text is from that of an author (Burrows, LLC 17(3), 2002).

The frequencies of the most frequent words are compared as z-scores over the books of other authors. The
smaller the mean absolute difference, the more alike two texts are.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from templora_cli.errors import TemploraError

WORDS = 150
"""How many of the most frequent words are compared."""
MIN_BOOKS = 8
"""Z-scores over fewer books say little."""
_WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True)
class Reference:
    """How often books of other authors use the most frequent words."""

    words: tuple[str, ...]
    """The most frequent first."""
    books: dict[str, tuple[float, ...]]
    """Uses of each word per 10,000 words, by the name of the book."""

    def without(self, name: str) -> Reference:
        """The other books: an author is not compared with the own book."""
        return Reference(self.words, {key: value for key, value in self.books.items() if key != name})

    def frequencies(self, text: str) -> tuple[float, ...]:
        """Uses of each word per 10,000 words of an English text. Raises ValueError if it has none."""
        words = _WORD.findall(text.lower())
        if not words:
            raise ValueError("the text has no words")
        counts = Counter(words)
        return tuple(counts[word] / len(words) * 1e4 for word in self.words)

    def delta(self, one: Sequence[float], other: Sequence[float]) -> float:
        """Burrows's Delta between two texts, given by their frequencies."""
        spreads = [pstdev(book[i] for book in self.books.values()) for i in range(len(self.words))]
        differences = [
            abs(a - b) / spread for a, b, spread in zip(one, other, spreads, strict=True) if spread
        ]
        return fmean(differences) if differences else math.nan

    def rank(self, text: Sequence[float], author: Sequence[float]) -> int:
        """The place of the author among all by their Delta to the text, from 1."""
        own = self.delta(text, author)
        return 1 + sum(self.delta(text, book) < own for book in self.books.values())


def read_reference(path: Path) -> Reference:
    """Read a JSON file with `words` and, for each of `books`, `per_10k`. Raises TemploraError."""
    try:
        values: Any = json.loads(path.read_text("utf-8"))
        words = tuple(map(str, values["words"]))[:WORDS]
        books = {
            str(name): tuple(float(value) for value in book["per_10k"][: len(words)])
            for name, book in values["books"].items()
        }
        if len(words) < WORDS or len(books) < MIN_BOOKS:
            raise ValueError
        if any(len(book) < len(words) or not all(map(math.isfinite, book)) for book in books.values()):
            raise ValueError
    except OSError as error:
        raise TemploraError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TemploraError(
            f"{path} has no frequencies of words: at least {WORDS} words in {MIN_BOOKS} books",
            'the form is {"words": ["the", ...], "books": {"1342": {"per_10k": [431.2, ...]}, ...}}',
        ) from None
    return Reference(words, books)
