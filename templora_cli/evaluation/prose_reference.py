"""Words and trigrams that a text uses more often than reference texts do."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from templora_cli.documents.text_input import read_text
from templora_cli.errors import TemploraError
from templora_cli.evaluation.prose_measures import ngrams
from templora_cli.evaluation.prose_text import ProseChapter, base_form, joined, name_counts, words_of

MIN_COUNT = 3
MIN_RATIO = 2.0
"""A word or trigram with a lower count, or with a smaller ratio of frequencies, is not over-used."""
TRIGRAM = 3
_LAYOUT = '{"words": [word, ...], "books": {name: {"words": number, "per_10k": [frequency, ...]}}}'

Gram = TypeVar("Gram", bound=Hashable)


@dataclass(frozen=True)
class Frequency:
    """How often something occurs in how many words."""

    count: float
    words: int


@dataclass(frozen=True)
class ReferenceBook:
    """A text that others are compared with: its words in order, or the counts of some of them."""

    name: str
    file: Path
    words: int
    text: Sequence[str] = ()
    """Its words, unless it has only `counts`."""
    counts: Mapping[str, float] | None = None
    """The counts of some words; the others are unknown."""


@dataclass(frozen=True)
class OverusedGram:
    """A word or trigram, and its frequency in the text and in the reference."""

    text: str
    count: int
    per_10k: float
    """Per 10,000 words of the text."""
    reference_per_10k: float
    ratio: float | None
    """None if the reference does not have it."""
    log_likelihood: float
    """Dunning's G² for the difference, by which the list is sorted."""


def read_counts(path: Path) -> list[ReferenceBook]:
    """The books of a .json file of word counts. Raises TemploraError if it has another layout."""
    try:
        values = json.loads(read_text(path))
        words, books = values["words"], values["books"]
        if not all(isinstance(word, str) for word in words) or not books:
            raise ValueError
        return [_book_of_counts(path, name, words, book) for name, book in books.items()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise TemploraError(f"{path} is not a file of word counts", f"it must be {_LAYOUT}") from None


def _book_of_counts(path: Path, name: str, words: Sequence[str], book: Mapping[str, Any]) -> ReferenceBook:
    total, frequencies = int(book["words"]), [float(value) for value in book["per_10k"]]
    if total < 1 or not all(0 <= value <= 1e4 for value in frequencies):
        raise ValueError
    counts = {w.lower(): f * total / 1e4 for w, f in zip(words, frequencies, strict=True)}
    return ReferenceBook(name, path, total, counts=counts)


@dataclass(frozen=True)
class Comparison:
    """The words and trigrams that a text over-uses, and the books that it was compared with."""

    books: Sequence[ReferenceBook]
    words: list[OverusedGram]
    trigrams: list[OverusedGram] | None
    """None if no book has its text, because counts of words have no trigrams."""


def compare(chapters: Iterable[ProseChapter], books: Sequence[ReferenceBook], limit: int) -> Comparison:
    """Compare a text with `books`, without its names; at most `limit` words and trigrams."""
    paragraphs = [text for chapter in chapters for text in chapter.paragraphs]
    words = [word for text in paragraphs for word in words_of(text)]
    names = name_counts(paragraphs) or Counter()
    has_texts = any(book.counts is None for book in books)
    trigrams = overused_trigrams(words, names, books, limit) if has_texts else None
    return Comparison(books, overused_words(words, names, books, limit), trigrams)


def overused_words(
    words: Sequence[str], names: Collection[str], books: Iterable[ReferenceBook], limit: int
) -> list[OverusedGram]:
    """The words that a text uses more often than `books`, without its `names`; at most `limit`."""
    counts = Counter(word for word in words if not word.isdecimal() and base_form(word) not in names)
    candidates = {word: count for word, count in counts.items() if count >= MIN_COUNT}
    frequencies = dict.fromkeys(candidates, Frequency(0, 0))
    for book in books:
        text_counts = _counts_among(book.text, candidates)
        for word, before in frequencies.items():
            if book.counts is None or word in book.counts:
                count = text_counts[word] if book.counts is None else book.counts[word]
                frequencies[word] = Frequency(before.count + count, before.words + book.words)
    return _ranked(candidates, len(words), frequencies, limit)


def overused_trigrams(
    words: Sequence[str], names: Collection[str], books: Iterable[ReferenceBook], limit: int
) -> list[OverusedGram]:
    """The same for trigrams; books with counts are skipped."""
    counts = Counter(ngrams(words, TRIGRAM))
    candidates = {
        gram: count
        for gram, count in counts.items()
        if count >= MIN_COUNT and not any(base_form(word) in names for word in gram)
    }
    frequencies = dict.fromkeys(candidates, Frequency(0, 0))
    for book in books:
        if book.counts is None:
            text_counts = _counts_among(ngrams(book.text, TRIGRAM), candidates)
            for gram, before in frequencies.items():
                frequencies[gram] = Frequency(before.count + text_counts[gram], before.words + book.words)
    texts = {joined(gram): count for gram, count in candidates.items()}
    return _ranked(texts, len(words), {joined(gram): f for gram, f in frequencies.items()}, limit)


def _counts_among(grams: Iterable[Gram], candidates: Collection[Gram]) -> Counter[Gram]:
    return Counter(gram for gram in grams if gram in candidates)


def _ranked(
    counts: Mapping[str, int], total: int, frequencies: Mapping[str, Frequency], limit: int
) -> list[OverusedGram]:
    """The `limit` most significant of those that are more frequent than in the reference."""
    overused = []
    for text, count in counts.items():
        reference = frequencies[text]
        share = reference.count / reference.words if reference.words else math.inf
        if count / total >= MIN_RATIO * share:
            score = log_likelihood(Frequency(count, total), reference)
            ratio = count / total / share if share else None
            overused.append(OverusedGram(text, count, 1e4 * count / total, 1e4 * share, ratio, score))
    return sorted(overused, key=lambda gram: (-gram.log_likelihood, gram.text))[:limit]


def log_likelihood(text: Frequency, reference: Frequency) -> float:
    """Dunning's G² (1993) for the frequencies of a word, as in Rayson and Garside (2000)."""
    share = (text.count + reference.count) / (text.words + reference.words)
    terms = ((part.count, part.words * share) for part in (text, reference))
    return 2 * sum(count * math.log(count / expected) for count, expected in terms if count)
