"""A novel: from a premise, or going on from an opening, to a length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from templora_cli.novel.sentence_end import ends_between, ends_whole, may_end
from templora_cli.prompt import Prompt
from templora_cli.text import TextStream, count_words, decode
from templora_cli.turn import Generate, Given, given_turn, replay_turn

PAST = 2048
"""Tokens of the book by which it is told whether a quotation is open: more than a paragraph has."""
TAIL = 32
"""Tokens that a mark, what belongs to it and what follows have at most."""
USUAL_SENTENCE = 32
"""Tokens that most sentences have at most."""
COUNT_EVERY = 16
"""Tokens after which words are counted where no sentence ends: that takes as long as a token of a GPU."""

REPLACEMENT = "\ufffd"

Unit = Literal["tokens", "words", "chunks"]

_SPARE: dict[Unit, tuple[int, int]] = {"words": (50, 200), "tokens": (64, 256), "chunks": (1, 1)}
"""The least and the most of a book's `spare`."""


@dataclass(frozen=True)
class Goal:
    """The length at which a book is finished: what the model writes, the opening not counted."""

    amount: int
    unit: Unit

    @property
    def spare(self) -> int:
        """How far beyond the goal a book may go on to the end of its sentence: a quarter, in bounds."""
        least, most = _SPARE[self.unit]
        return max(least, min(self.amount // 4, most))

    def is_reached(self, done: int, text: str) -> bool:
        """Is a book of that length finished, which ends with `text`? Not before its sentence ends."""
        return done >= self.amount + self.spare or (done >= self.amount and ends_whole(text))


@dataclass(frozen=True)
class NovelTask:
    """Decides what the next chunk of a novel is. Implements `turn.Task`."""

    prompt: Callable[[Sequence[int]], Prompt]
    """What the model sees before the chunk that follows a book."""
    opening: tuple[int, ...]
    """Token ids of what a person wrote first; it is learnt before the model goes on from it."""
    goal: Goal
    chunk_tokens: int
    tokenizer: Any
    whole_sentences: bool = True
    """Does the book end with a sentence, or exactly where a goal in tokens is?"""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | Generate | None:
        """The opening chunk by chunk, then chunks of the model's own until the goal is reached."""
        if len(book) < len(self.opening):
            return given_turn(self.prompt, book, self.opening, self.chunk_tokens)
        done = self._done(book[len(self.opening) :], records)
        left, past = self.goal.amount - done, self._past(book)
        if left <= 0 and (not self.whole_sentences or self.goal.is_reached(done, past)):
            return None
        spare = self.goal.spare if self.whole_sentences else 0
        most = min(self.chunk_tokens, left + spare) if self.goal.unit == "tokens" else self.chunk_tokens
        return Generate(self.prompt(book), most, self._ending(left, spare, past))

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        return replay_turn(self.prompt(book), chunk)

    def _done(self, own: Sequence[int], records: Sequence[Any]) -> int:
        """How much of the goal is there."""
        if self.goal.unit == "words":
            return count_words(self.decode(own))
        if self.goal.unit == "tokens":
            return len(own)
        return len(records) - -(-len(self.opening) // self.chunk_tokens)

    def _past(self, book: Sequence[int]) -> str:
        return self.decode(book[-PAST:]).rstrip(REPLACEMENT)

    def _ending(self, left: int, spare: int, past: str) -> Callable[[Sequence[int]], int | None]:
        """Complete where `left` more of the goal is reached: with the sentence that ends there or later,
        or after `spare` more of the goal.
        """
        in_words, soonest = self.goal.unit == "words", self._soonest(left)

        def words_are(least: int, chunk: Sequence[int]) -> bool:
            return count_words(self.decode(chunk)) >= least

        def complete(chunk: Sequence[int]) -> int | None:
            if len(chunk) <= soonest:
                return None
            end = self._sentence_end(chunk, past) if self.whole_sentences else None
            if end is not None and end >= soonest and (not in_words or words_are(left, chunk[:end])):
                return end
            at_bound = in_words and len(chunk) % COUNT_EVERY == 0 and words_are(left + spare, chunk)
            return len(chunk) if at_bound else None

        return complete

    def _soonest(self, left: int) -> int:
        """The fewest tokens of the next chunk with which the book may end, with `left` of the goal to go."""
        if self.goal.unit == "words":
            return left // 4  # tokens hold fewer than 4 words
        if self.goal.unit == "tokens":
            return left
        if left > 1:
            return self.chunk_tokens  # it does not end in this one
        # The last chunk ends rather early than late, so that none of a few words follows: with a sentence
        # in its last eighth, which is made to hold one where chunks are small.
        size = self.chunk_tokens
        return size - max(size // 8, min(USUAL_SENTENCE, size // 4)) if left == 1 else 0

    def _sentence_end(self, chunk: Sequence[int], past: str) -> int | None:
        """How many tokens of the chunk come before the end of a sentence that its last token shows."""
        start, end = max(0, len(chunk) - TAIL), len(chunk) - 1
        while end > start and (said := self.decode(chunk[start:end])).endswith(REPLACEMENT):
            end -= 1  # a character that is not whole yet
        if end <= start or not may_end(past[-TAIL:] + said):
            return None
        after = self.decode(chunk[start:])[len(said) :]
        if after.endswith(REPLACEMENT):
            return None
        return end if ends_between(past + self.decode(chunk[:end]), after) else None

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(self.decode, book).push

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, as it stands in the book."""
        return decode(self.tokenizer, tokens)
