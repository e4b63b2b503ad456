"""4-grams of tokens: how much a text repeats, and which tokens would repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    """The 4-grams of a book, by their first three tokens. `extended` reads on without changing it."""

    def __init__(self, tokens: Iterable[int] = (), before: FourGrams | None = None) -> None:
        self.before = before
        self._next: dict[tuple[int, ...], set[int]] = {}
        self._last: tuple[int, ...] = before._last if before else ()
        self.extend(tokens)

    def extended(self) -> FourGrams:
        """A book that begins with this one. The two share their memory."""
        return FourGrams(before=self)

    def add(self, token: int) -> None:
        """Append a token to the book."""
        if len(self._last) == N - 1:
            self._next.setdefault(self._last, set()).add(token)
        self._last = (*self._last, token)[-(N - 1) :]

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the book."""
        for token in tokens:
            self.add(token)

    def completions(self) -> set[int]:
        """The tokens that would complete a 4-gram of the book if they came next."""
        return self._following(self._last)

    def completions_of(self, tokens: Iterable[int]) -> list[set[int]]:
        """The completions before each of `tokens`, if they came next."""
        book, found = self.extended(), []
        for token in tokens:
            found.append(book.completions())
            book.add(token)
        return found

    def _following(self, three: tuple[int, ...]) -> set[int]:
        own = self._next.get(three, set())
        return own | self.before._following(three) if self.before else own
