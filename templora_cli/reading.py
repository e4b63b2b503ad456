"""Reading: a text that is given whole, chunk by chunk, and never gone on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.prompt import Prompt
from templora_cli.text import TextStream, decode
from templora_cli.turn import Given, given_turn, replayed_turn


@dataclass(frozen=True)
class ReadingTask:
    """Every chunk is given; the book is finished where the text is. Implements `turn.Task`."""

    prompt: Callable[[Sequence[int]], Prompt]
    """What the model sees before the chunk that follows a book."""
    text: tuple[int, ...]
    chunk_tokens: int
    tokenizer: Any

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | None:
        """The next chunk of the text."""
        return given_turn(self.prompt, book, self.text, self.chunk_tokens)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        return replayed_turn(self.prompt(book), chunk)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


def reading_tokens(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Header and text as token ids, as evaluations of perplexity take them: no instruction.

    The header is what the tokenizer itself puts before a text; for one that puts nothing it is the
    text's first token, which then is not scored.
    """
    ids = tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    before = tuple(tokenizer.encode("")[:1])
    return (before, ids) if before else (ids[:1], ids[1:])
