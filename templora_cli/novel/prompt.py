"""The prompt of a novel: instruction and premise as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.chat import as_plain_words, chat_ids, first_token
from templora_cli.prompt import Prompt, Section, build_prompt, window
from templora_cli.prompt_files import PromptFile


@dataclass(frozen=True)
class NovelPrompt:
    """Builds the prompt of each turn. The book follows it directly; for a chat model, as its answer."""

    tokenizer: Any
    texts: PromptFile
    premise: str
    has_opening: bool
    """Does the book begin with a human opening?"""
    context_tokens: int

    def __call__(self, book: Sequence[int]) -> Prompt:
        """The prompt of the chunk that follows `book`."""
        return build_prompt(self.sections, self.layout, window(book, self.context_tokens))

    @property
    def sections(self) -> tuple[Section, ...]:
        """Instruction and premise, without length limits."""
        premise = as_plain_words(self.tokenizer, self.premise)
        system = self.texts.text("chat", "system").strip() if self.tokenizer.chat_template else ""
        texts = (("instruction", system), ("premise", premise))
        return tuple(Section(name, (text,)) for name, text in texts if text)

    def layout(self, sections: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
        """The token ids of the sections, in the chat template if the model has one. Never empty."""
        premise = "\n\n".join(sections.get("premise", ()))
        key = (
            "premise" if premise and not self.has_opening else "premise_and_opening" if premise else "opening"
        )
        if self.tokenizer.chat_template:
            user = self.texts.text("chat", key, premise=premise).strip()
            return chat_ids(self.tokenizer, "\n\n".join(sections.get("instruction", ())), user)
        ids = tuple(self.tokenizer.encode(self.texts.text("plain", key, premise=premise).lstrip()))
        return ids or first_token(self.tokenizer)


def opening_tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a human text; special tokens in it are read as plain text."""
    return tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
