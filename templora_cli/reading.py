"""Reading: a text that is given whole, chunk by chunk, and never gone on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.config import DecodeConfig
from templora_cli.text import TextStream, decode
from templora_cli.turn import Turn


@dataclass(frozen=True)
class ReadingTask:
    """Every chunk is given; the book is finished where the text is. Implements `temp_lora.Task`."""

    header: tuple[int, ...]
    """Token ids that are pinned before the window; never empty."""
    text: tuple[int, ...]
    config: DecodeConfig
    tokenizer: Any

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Turn | None:
        """The next chunk of the text."""
        return given_turn(self.header, book, self.text, self.config)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `temp_lora.Task`."""
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


def given_turn(
    header: tuple[int, ...], book: Sequence[int], text: tuple[int, ...], config: DecodeConfig
) -> Turn | None:
    """The turn that reads what follows `book` in `text`, which begins with it; None at the end."""
    given = text[len(book) : len(book) + config.chunk_tokens]
    if not given:
        return None
    return Turn(header, window(book, config), "given", given, len(given), lambda chunk: False)


def window(book: Sequence[int], config: DecodeConfig) -> tuple[int, ...]:
    """The last `context_tokens` of the book."""
    return tuple(book[max(0, len(book) - config.context_tokens) :])


def reading_tokens(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Header and text as token ids, as evaluations of perplexity take them: no instruction.

    The header is what the tokenizer itself puts before a text; for one that puts nothing it is the
    text's first token, which then is not scored.
    """
    ids = tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    before = tuple(tokenizer.encode("")[:1])
    return (before, ids) if before else (ids[:1], ids[1:])
