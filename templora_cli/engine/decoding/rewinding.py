"""Decode prose without banned phrases, by rewinding.

Tokens that may be part of a phrase are held back. When a phrase is complete, decoding goes back to the token
with which it began, and forbids that token there, as koboldcpp's anti-slop and ExLlamaV2's banned strings do.
Another token is drawn with the next random numbers, from the model's logits without the forbidden tokens. A
chunk is always decoded from its beginning, so it is the same after a resume.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from templora_cli.engine.decoding.banned_phrases import MAX_LENGTH, BannedPhrases, Match, Reading
from templora_cli.engine.decoding.protocols import Backend, DecodedToken, Sampler

MAX_ALTERNATIVES = 16
"""Tokens that are forbidden at one position before the phrase is let through."""
MAX_DROPPED = 4
"""Tokens that may be dropped, as a multiple of the chunk's length, before all phrases are let through."""
TAIL = 4 * MAX_LENGTH
"""Tokens of the text before a chunk in which a phrase may begin: a character has at most four."""
RECENT = 64
"""Tokens of the text before a token that its own text may depend on."""

TextStreams = Callable[[Sequence[int]], Callable[[int], str]]
"""`Task.text_stream`: given the tokens before, returns a function that decodes one token after another."""


class ForbiddingSampler:
    """A sampler that draws none of the tokens that are forbidden at a position."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.forbidden: dict[int, list[int]] = {}
        """By the number of tokens before them."""

    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """See `Sampler.draw`."""
        if tokens := self.forbidden.get(len(ids)):
            logits = logits.index_fill(0, torch.tensor(tokens, device=logits.device), -math.inf)
        return self.sampler.draw(ids, logits)


def decode_without(
    phrases: BannedPhrases,
    backend: Backend,
    prompt: Sequence[int],
    *,
    sampler: Sampler,
    max_tokens: int,
    end_tokens: Collection[int] = (),
    text_stream: TextStreams,
    book: Sequence[int],
) -> Iterator[DecodedToken]:
    """Yield the tokens that follow `prompt`, as `Backend.decode` does, without the phrases.

    `book` is the text before, in which a phrase may begin. The first of `end_tokens` is the last token.
    """
    if not phrases:
        return backend.decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=lambda tokens: False)
    draft = _Draft(backend, prompt, phrases, sampler, max_tokens, text_stream=text_stream, book=book)
    return draft.decode(end_tokens)


class _Draft:
    """Tokens of which the last may still be dropped."""

    def __init__(
        self,
        backend: Backend,
        prompt: Sequence[int],
        phrases: BannedPhrases,
        sampler: Sampler,
        max_tokens: int,
        *,
        text_stream: TextStreams,
        book: Sequence[int],
    ) -> None:
        self.backend, self.prompt, self.phrases = backend, tuple(prompt), phrases
        self.sampler, self.max_tokens = ForbiddingSampler(sampler), max_tokens
        self._text_stream, self._recent = text_stream, tuple(book[-RECENT:])
        self._ids: list[int] = []
        """The tokens so far."""
        self._held: list[DecodedToken] = []
        """The last of them, which may still be dropped."""
        self._readings = [_read_tail(phrases, text_stream, book)]
        """The states before each token, and after the last."""
        self._num_dropped = 0

    def decode(self, end_tokens: Collection[int]) -> Iterator[DecodedToken]:
        """See `decode_without`."""
        stream, to_text = self._stream()
        while True:
            token = next(stream, None)
            has_ended = token is None or token.id in end_tokens
            if token is None or has_ended:
                matches = list(self._readings[-1].whole)
            else:
                matches = self._append(token, to_text(token.id))
            if (position := self._position_to_change(matches)) is not None:
                self._rewind(position)
                stream, to_text = self._stream()
                continue
            yield from self._release(everything=has_ended)
            if has_ended:
                if token is not None:
                    yield token
                return

    def _stream(self) -> tuple[Iterator[DecodedToken], Callable[[int], str]]:
        """The tokens that follow those so far, and the function that decodes them."""
        tokens = self.backend.decode(
            (*self.prompt, *self._ids),
            sampler=self.sampler,
            max_tokens=self.max_tokens - len(self._ids),
            stop=lambda tokens: False,
        )
        return tokens, self._text_stream((*self._recent, *self._ids))

    def _append(self, token: DecodedToken, text: str) -> list[Match]:
        reading, matches = self.phrases.read(self._readings[-1], text)
        self._ids.append(token.id)
        self._held.append(token)
        self._readings.append(reading)
        return matches

    def _position_to_change(self, matches: Sequence[Match]) -> int | None:
        """The position of the token with which the first match begins; None if all are let through."""
        if self._num_dropped >= MAX_DROPPED * self.max_tokens:
            return None
        for match in matches:
            position = self._position_of(match.start)
            if len(self.sampler.forbidden.get(len(self.prompt) + position, ())) < MAX_ALTERNATIVES:
                return position
        return None

    def _rewind(self, position: int) -> None:
        """Drop the tokens from `position` on, and forbid the first of them there."""
        at = len(self.prompt) + position
        forbidden = {place: tokens for place, tokens in self.sampler.forbidden.items() if place <= at}
        forbidden[at] = [*forbidden.get(at, ()), self._ids[position]]
        self.sampler.forbidden = forbidden
        dropped = len(self._ids) - position
        assert dropped <= len(self._held)
        self._num_dropped += dropped
        del self._ids[position:], self._held[-dropped:], self._readings[position + 1 :]

    def _position_of(self, start: int) -> int:
        """The position of the token with the character at `start`; 0 if that is before the chunk.

        If a character has several tokens it is that of the first.
        """
        position = max(0, bisect_right(self._readings, start, key=lambda reading: reading.length) - 1)
        begins_there = self._readings[position].length == start
        return self._first_with_length(position) if begins_there else position

    def _first_with_length(self, position: int) -> int:
        """The first position with as many characters before it."""
        while position and self._readings[position - 1].length == self._readings[position].length:
            position -= 1
        return position

    def _release(self, *, everything: bool) -> list[DecodedToken]:
        """The held tokens that no phrase can reach back to, or all."""
        end = len(self._ids) if everything else self._first_with_length(len(self._ids))
        # Decoding may go back to where a phrase begins, and from there to where one began before it.
        while not everything and (start := self._readings[end].start) is not None:
            if (position := self._first_with_length(self._position_of(start))) == end:
                break
            end = position
        count = end - (len(self._ids) - len(self._held))
        released, self._held = self._held[:count], self._held[count:]
        return released


def remaining_phrases(
    phrases: BannedPhrases, text_stream: TextStreams, book: Sequence[int], tokens: Sequence[int]
) -> list[str]:
    """The phrases that are in the text of `tokens`, which follow `book`, or reach into it."""
    to_text = text_stream(book[-RECENT:])
    text = "".join(map(to_text, tokens))
    reading, matches = phrases.read(_read_tail(phrases, text_stream, book), text)
    return list(dict.fromkeys(match.phrase for match in (*matches, *reading.whole)))


def _read_tail(phrases: BannedPhrases, text_stream: TextStreams, book: Sequence[int]) -> Reading:
    """The state after the end of the book. A phrase that is already whole there is not counted."""
    tail = book[-TAIL:]
    to_text = text_stream(book[-TAIL - RECENT : -TAIL])
    reading, _ = phrases.read(Reading(), "".join(map(to_text, tail)))
    return reading._replace(whole=())
