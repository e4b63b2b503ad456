"""The words that a novel is asked with: instruction and premise, as the model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.errors import TemploraError
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
        premise = _as_plain_words(self.tokenizer, self.premise)
        system = self.texts.text("chat", "system").strip() if self.tokenizer.chat_template else ""
        named = (("instruction", system), ("premise", premise))
        return tuple(Section(name, (text,)) for name, text in named if text)

    def layout(self, shown: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
        """The token ids of the sections, in the chat template where the model has one. Never empty."""
        premise = "\n\n".join(shown.get("premise", ()))
        key = "premise" if premise and not self.opened else "premise_and_opening" if premise else "opening"
        if self.tokenizer.chat_template:
            user = self.texts.text("chat", key, premise=premise).strip()
            return tuple(_chat_ids(self.tokenizer, "\n\n".join(shown.get("instruction", ())), user))
        ids = tuple(self.tokenizer.encode(self.texts.text("plain", key, premise=premise).lstrip()))
        return ids or _first_token(self.tokenizer)


def _first_token(tokenizer: Any) -> tuple[int, ...]:
    """Nothing to say and a tokenizer that adds nothing: the model still needs a token to go on from."""
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
