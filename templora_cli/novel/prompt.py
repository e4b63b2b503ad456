"""The words that a novel is asked with: instruction and premise, as the model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.chat import as_plain_words, chat_ids, first_token
from templora_cli.prompt import Prompt, Section, build, window
from templora_cli.prompt_files import PromptFile


@dataclass(frozen=True)
class NovelPrompt:
    """Builds the prompt of each turn. It ends where the book goes on: for a chat model in its own turn."""

    tokenizer: Any
    texts: PromptFile
    premise: str
    opened: bool
    """Does the book begin with an opening of a person's?"""
    context_tokens: int

    def __call__(self, book: Sequence[int]) -> Prompt:
        """What the model sees before the chunk that follows `book`."""
        return build(self.sections, self.layout, window(book, self.context_tokens))

    @property
    def sections(self) -> tuple[Section, ...]:
        """Instruction and premise, as long as they are."""
        premise = as_plain_words(self.tokenizer, self.premise)
        system = self.texts.text("chat", "system").strip() if self.tokenizer.chat_template else ""
        named = (("instruction", system), ("premise", premise))
        return tuple(Section(name, (text,)) for name, text in named if text)

    def layout(self, shown: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
        """The token ids of the sections, in the chat template where the model has one. Never empty."""
        premise = "\n\n".join(shown.get("premise", ()))
        key = "premise" if premise and not self.opened else "premise_and_opening" if premise else "opening"
        if self.tokenizer.chat_template:
            user = self.texts.text("chat", key, premise=premise).strip()
            return chat_ids(self.tokenizer, "\n\n".join(shown.get("instruction", ())), user)
        ids = tuple(self.tokenizer.encode(self.texts.text("plain", key, premise=premise).lstrip()))
        return ids or first_token(self.tokenizer)


def opening_tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a person's text; what looks like a special token in it is read as plain text."""
    return tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
