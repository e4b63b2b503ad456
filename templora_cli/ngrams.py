"""4-grams of tokens: how much a text repeats, and which tokens would repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

N = 4


def repetition(window: Sequence[int], chunk: Sequence[int], n: int = N) -> float:
    """Share (0 to 1) of the chunk's n-grams that occur before it in the window, or earlier in the chunk."""
    text = [*window, *chunk]
    grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    ending_in_chunk = grams[max(0, len(window) - n + 1) :]
    seen = set(grams[: len(grams) - len(ending_in_chunk)])
    repeated = 0
    for gram in ending_in_chunk:
        repeated += gram in seen
        seen.add(gram)
    return repeated / len(ending_in_chunk) if ending_in_chunk else 0.0


class FourGrams:
    """The 4-grams of a book, by their first three tokens. `extended` reads on without changing it.

    What `extend` reads takes 12 bytes a token: of each 4-gram the first three tokens as one number, by which
    they are sorted, and the fourth.
    """

    def __init__(self, tokens: Iterable[int] = (), before: FourGrams | None = None) -> None:
        self.before = before
        self._last: tuple[int, ...] = before._last if before else ()
        self._threes, self._fourths = np.empty(0, np.int64), np.empty(0, np.int32)
        self._added: dict[int, set[int]] = {}
        self.extend(tokens)

    def extended(self) -> FourGrams:
        """A book that begins with this one. The two share their memory."""
        return FourGrams(before=self)

    def add(self, token: int) -> None:
        """Append a token to the book."""
        if len(self._last) == N - 1:
            self._added.setdefault(_packed(self._last), set()).add(token)
        self._last = (*self._last, token)[-(N - 1) :]

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the book."""
        text = np.array([*self._last, *tokens], np.int64)
        self._last = tuple(text[-(N - 1) :].tolist())
        if len(text) < N:
            return
        threes, fourths = _packed((text[:-3], text[1:-2], text[2:-1])), text[3:].astype(np.int32)
        order = np.argsort(threes)
        positions = np.searchsorted(self._threes, threes[order])
        self._threes = np.insert(self._threes, positions, threes[order])
        self._fourths = np.insert(self._fourths, positions, fourths[order])

    def completions(self) -> set[int]:
        """The tokens that would complete a 4-gram of the book if they came next."""
        return self._following(_packed(self._last)) if len(self._last) == N - 1 else set()

    def completions_of(self, tokens: Iterable[int]) -> list[set[int]]:
        """The completions before each of `tokens`, if they came next."""
        book, found = self.extended(), []
        for token in tokens:
            found.append(book.completions())
            book.add(token)
        return found

    def _following(self, three: int) -> set[int]:
        own = set(self._added.get(three, ()))
        low = int(self._threes.searchsorted(three)) if len(self._threes) else 0
        if low < len(self._threes) and self._threes[low] == three:  # most have no fourth
            high = self._threes.searchsorted(three, "right")
            own.update(self._fourths[low:high].tolist())
        return own | self.before._following(three) if self.before else own


def _packed(three: Sequence[Any]) -> Any:
    """Three token ids, or arrays of them, as one number: below 2^21 each."""
    first, second, third = three
    return (first << 42) | (second << 21) | third
