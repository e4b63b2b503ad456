"""Write a novel of a given length from a premise, an opening or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from templora_cli.engine.decoding.banned_phrases import NO_PHRASES, BannedPhrases
from templora_cli.novel.prose import Prose
from templora_cli.novel.sentence_end import ends_complete, ends_complete_before, may_end_sentence
from templora_cli.prompt import Prompt
from templora_cli.text import TextStream, count_words, decode
from templora_cli.turn import Generate, Given, given_turn, replay_turn

RECENT_TOKENS = 2048
"""Tokens of the book that are searched for open quotes: more than a paragraph has."""
TAIL = 32
"""The maximum number of tokens of a mark, its closing quotes and the beginning of the next sentence."""
USUAL_SENTENCE = 32
"""Most sentences have no more tokens than this."""
COUNT_EVERY = 16
"""Interval in tokens at which words are counted if no sentence ends: counting takes as long as one token on a
GPU."""

REPLACEMENT = "\ufffd"

Unit = Literal["tokens", "words", "chunks"]

_MAX_OVERRUN: dict[Unit, tuple[int, int]] = {"words": (50, 200), "tokens": (64, 256), "chunks": (1, 1)}
"""The bounds of `Goal.max_overrun`, by unit."""


@dataclass(frozen=True)
class Goal:
    """The length at which a book is finished, without its opening."""

    amount: int
    unit: Unit

    @property
    def max_overrun(self) -> int:
        """How far a book may exceed the goal to complete its sentence: a quarter, within bounds."""
        minimum, maximum = _MAX_OVERRUN[self.unit]
        return max(minimum, min(self.amount // 4, maximum))

    def is_reached(self, done: int, *, complete: bool) -> bool:
        """Is a book of length `done` finished? Its last sentence must be `complete`, within bounds."""
        return done >= self.amount + (0 if complete else self.max_overrun)


@dataclass(frozen=True)
class NovelTask:
    """The turns of a novel: its opening, then generated chunks up to the goal. Implements `turn.Task`."""

    prompt: Callable[[Sequence[int]], Prompt]
    """Builds the prompt of the chunk that follows a book."""
    opening: tuple[int, ...]
    """Token ids of the human opening; it is learnt before the model continues it."""
    goal: Goal
    chunk_tokens: int
    tokenizer: Any
    uncounted_chunks: int | None = None
    """How many chunks do not count for a goal in chunks: those of the opening, and parts of a page that was
    divided after an edit. None for an opening that is still to be read.
    """
    whole_sentences: bool = True
    """Does the book end with a complete sentence, or exactly at its goal in tokens?"""
    prose: Prose | None = None
    """Checks the prose; None for no checks."""
    banned: BannedPhrases = NO_PHRASES
    """Phrases that the model must not write."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | Generate | None:
        """The next chunk of the opening, then a generated chunk; None when the goal is reached."""
        if len(book) < len(self.opening):
            return given_turn(self.prompt, book, self.opening, self.chunk_tokens)
        done = self._done(book[len(self.opening) :], records)
        remaining, recent = self.goal.amount - done, self._recent_text(book)
        if self.goal.is_reached(done, complete=not self.whole_sentences or ends_complete(recent)):
            return None
        overrun = self.goal.max_overrun if self.whole_sentences else 0
        max_tokens = self.chunk_tokens
        if self.goal.unit == "tokens":
            max_tokens = min(max_tokens, remaining + overrun)
        prompt = self.prompt(book)
        checks = {} if self.prose is None else self.prose.checks(book, prompt.items("recall"))
        complete = self._completion(remaining, overrun, recent)
        return Generate(prompt, max_tokens, complete, banned=self.banned, **checks)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        return replay_turn(self.prompt(book), chunk)

    def _done(self, generated: Sequence[int], records: Sequence[Any]) -> int:
        """The progress towards the goal, in its unit."""
        if self.goal.unit == "words":
            return count_words(self.decode(generated))
        if self.goal.unit == "tokens":
            return len(generated)
        usual = -(-len(self.opening) // self.chunk_tokens)
        return len(records) - (usual if self.uncounted_chunks is None else self.uncounted_chunks)

    def _recent_text(self, book: Sequence[int]) -> str:
        return self.decode(book[-RECENT_TOKENS:]).rstrip(REPLACEMENT)

    def _completion(self, remaining: int, overrun: int, recent: str) -> Callable[[Sequence[int]], int | None]:
        """The `Generate.complete` of a chunk with `remaining` of the goal before it.

        The chunk is complete at the first sentence end that reaches the goal, or `overrun` after the goal.
        """
        in_words, min_tokens = self.goal.unit == "words", self._min_tokens(remaining)

        def has_words(minimum: int, chunk: Sequence[int]) -> bool:
            return count_words(self.decode(chunk)) >= minimum

        def complete(chunk: Sequence[int]) -> int | None:
            if len(chunk) <= min_tokens:
                return None
            end = self._sentence_end(chunk, recent) if self.whole_sentences else None
            if end is not None and end >= min_tokens and (not in_words or has_words(remaining, chunk[:end])):
                return end
            if in_words and len(chunk) % COUNT_EVERY == 0 and has_words(remaining + overrun, chunk):
                return len(chunk)
            return None

        return complete

    def _min_tokens(self, remaining: int) -> int:
        """The minimum length of the next chunk in tokens, with `remaining` of the goal before it."""
        if self.goal.unit == "words":
            return remaining // 4  # a token has fewer than 4 words
        if self.goal.unit == "tokens":
            return remaining
        if remaining > 1:
            return self.chunk_tokens  # the book does not end with this chunk
        # The last chunk may end early, so that no chunk of a few words follows: with a sentence that ends in
        # its last eighth, or in a larger part if chunks are so small that an eighth may hold no sentence end.
        size = self.chunk_tokens
        return size - max(size // 8, min(USUAL_SENTENCE, size // 4)) if remaining == 1 else 0

    def _sentence_end(self, chunk: Sequence[int], recent: str) -> int | None:
        """The number of tokens up to a sentence end that the last token of the chunk confirms, or None."""
        start, end = max(0, len(chunk) - TAIL), len(chunk) - 1
        while end > start and (tail := self.decode(chunk[start:end])).endswith(REPLACEMENT):
            end -= 1  # an incomplete character
        if end <= start or not may_end_sentence(recent[-TAIL:] + tail):
            return None
        after = self.decode(chunk[start:])[len(tail) :]
        if after.endswith(REPLACEMENT):
            return None
        return end if ends_complete_before(recent + self.decode(chunk[:end]), after) else None

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(self.decode, book).push

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode token ids to the text of the book."""
        return decode(self.tokenizer, tokens)
