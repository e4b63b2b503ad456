"""A novel: from a premise, or going on from an opening, to a length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from templora_cli.prompt import Prompt
from templora_cli.text import TextStream, count_words, decode
from templora_cli.turn import Generate, Given, given_turn, replay_turn

_SENTENCE_END = (".", "!", "?", "…", '"', "”", "’", "。", "！", "？", "」", "』")
_WORDS_TO_SENTENCE_END = 50
"""A book of n words goes on to the end of its sentence, but not further than this."""


@dataclass(frozen=True)
class Goal:
    """The length at which a book is finished: what the model writes, the opening not counted."""

    amount: int
    unit: Literal["tokens", "words"]


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

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | Generate | None:
        """The opening chunk by chunk, then chunks of the model's own until the goal is reached."""
        if len(book) < len(self.opening):
            return given_turn(self.prompt, book, self.opening, self.chunk_tokens)
        own = book[len(self.opening) :]
        if self.goal.unit == "tokens":
            left = self.goal.amount - len(own)
            return Generate(self.prompt(book), min(self.chunk_tokens, left)) if left > 0 else None
        left = self.goal.amount - count_words(self.decode(own))
        return Generate(self.prompt(book), self.chunk_tokens, self._word_limit(left)) if left > 0 else None

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        return replay_turn(self.prompt(book), chunk)

    def _word_limit(self, words: int) -> Callable[[Sequence[int]], bool]:
        """Complete after `words` more words, at the end of the sentence if it is near."""

        def complete(chunk: Sequence[int]) -> bool:
            if 4 * len(chunk) < words:  # no need to decode: tokens hold fewer than 4 words
                return False
            text = self.decode(chunk)
            over = count_words(text) - words
            return over >= 0 and (over >= _WORDS_TO_SENTENCE_END or text.rstrip().endswith(_SENTENCE_END))

        return complete

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(self.decode, book).push

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, as it stands in the book."""
        return decode(self.tokenizer, tokens)
