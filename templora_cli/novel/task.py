"""A novel: from a premise, or going on from an opening, to a length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from templora_cli.config import DecodeConfig
from templora_cli.errors import TemploraError
from templora_cli.prompt_files import PromptFile
from templora_cli.reading import given_turn, window
from templora_cli.text import TextStream, count_words, decode
from templora_cli.turn import Turn

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
    """Decides what the next chunk of a novel is. Implements `temp_lora.Task`."""

    header: tuple[int, ...]
    """Token ids that are pinned before the window; never empty."""
    opening: tuple[int, ...]
    """Token ids of what a person wrote first; it is learnt before the model goes on from it."""
    goal: Goal
    config: DecodeConfig
    tokenizer: Any

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Turn | None:
        """The opening chunk by chunk, then chunks of the model's own until the goal is reached."""
        if len(book) < len(self.opening):
            return given_turn(self.header, book, self.opening, self.config)
        size, context = self.config.chunk_tokens, window(book, self.config)
        own = book[len(self.opening) :]
        if self.goal.unit == "tokens":
            left = self.goal.amount - len(own)
            return (
                Turn(self.header, context, "own", (), min(size, left), lambda chunk: False)
                if left > 0
                else None
            )
        written = count_words(self.decode(own))
        if written >= self.goal.amount:
            return None
        return Turn(self.header, context, "own", (), size, self._word_limit(self.goal.amount - written))

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
        """See `temp_lora.Task`."""
        return TextStream(self.decode, book).push

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, as it stands in the book."""
        return decode(self.tokenizer, tokens)


def novel_header(tokenizer: Any, prompts: PromptFile, premise: str, *, opened: bool) -> tuple[int, ...]:
    """The pinned token ids: instruction and premise, in the chat template where the model has one.

    `opened` says that the book has an opening, which follows the header.

    The header ends where the book begins: for a chat model inside the assistant's turn.
    """
    key = "premise" if premise and not opened else "premise_and_opening" if premise else "opening"
    premise = _as_plain_words(tokenizer, premise)
    if tokenizer.chat_template:
        system = prompts.text("chat", "system").strip()
        user = prompts.text("chat", key, premise=premise).strip()
        return tuple(_chat_ids(tokenizer, system, user))
    text = prompts.text("plain", key, premise=premise).lstrip()
    ids = tuple(tokenizer.encode(text))
    if ids:
        return ids
    # Nothing to say and a tokenizer that adds nothing: the model still needs a token to go on from.
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise TemploraError("this model has no token that begins a text", "give a --premise")
    return (start,)


def opening_tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a person's text; what looks like a special token in it is read as plain text."""
    return tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def _as_plain_words(tokenizer: Any, text: str) -> str:
    """`text` with nothing in it that the tokenizer would take for one of its special tokens."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content in text:
            text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
    return text


def _chat_ids(tokenizer: Any, system: str, user: str) -> list[int]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    # A template that can think is asked not to: the book follows at once.
    settings = {"add_generation_prompt": True, "enable_thinking": False, "return_dict": False}
    try:
        return list(tokenizer.apply_chat_template(messages, **settings))
    except Exception as error:  # jinja's TemplateError: templates without a system role raise their own
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
        return list(tokenizer.apply_chat_template(messages, **settings))
