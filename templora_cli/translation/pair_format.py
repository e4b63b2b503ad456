"""Pairs of source and target as token ids. The targets are learnt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from templora_cli.chat import render_chat
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.languages import Language
from templora_cli.prompt_files import PromptFile
from templora_cli.text import decode
from templora_cli.translation.terminology import Term

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PairFormat:
    """Pairs as plain text (`prompts/translation.toml`) and back, for models without a chat template."""

    tokenizer: Any
    prompts: PromptFile
    source: Language
    target: Language

    @property
    def header(self) -> Tokens:
        """The tokens before the first pair, without a glossary; never empty."""
        return self.header_with([])

    def header_with(self, terms: Sequence[Term]) -> Tokens:
        """The tokens before the first pair: the beginning-of-text token, and `terms` as pairs."""
        beginning = tuple(self.tokenizer.encode("")[:1]) or self._ids("\n")
        return beginning + self.pair_tokens([AlignedPair(term.source, term.target) for term in terms])

    def source_tokens(self, source: str) -> Tokens:
        """The tokens of a paragraph before its translation."""
        # The paragraph is inserted last, so that placeholders in its text are not replaced.
        return self._ids(self.prompts.text("pair", "before", **self._names, source=source))

    def target_tokens(self, target: str) -> Tokens:
        """The tokens of a translation with its end."""
        return self._ids(f" {target}\n")

    def target_text(self, tokens: Sequence[int]) -> str:
        """The translation in decoded tokens."""
        return _one_line(decode(self.tokenizer, tokens).split("\n", 1)[0])

    def pair_tokens(self, pairs: Sequence[AlignedPair]) -> Tokens:
        """The tokens of complete pairs."""
        parts = [self.source_tokens(pair.source) + self.target_tokens(pair.target) for pair in pairs]
        return tuple(token for part in parts for token in part)

    def training_example(self, pair: AlignedPair) -> tuple[Tokens, Tokens, list[bool]]:
        """(source tokens, target tokens, loss mask of the target). The target is learnt up to its end."""
        target = self.target_tokens(pair.target)
        return self.source_tokens(pair.source), target, [True] * len(target)

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """Tokens that end a translation, besides the end-of-text tokens."""
        size = len(self.tokenizer)
        return frozenset(i for i in range(size) if "\n" in self.tokenizer.decode([i]))

    @property
    def _names(self) -> dict[str, str]:
        return {"source_language": self.source.name, "target_language": self.target.name}

    def _ids(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def _one_line(text: str) -> str:
    """`text` without line breaks and the control characters that XML 1.0, section 2.2, forbids."""
    return " ".join(
        "".join(c if c.isspace() or unicodedata.category(c) != "Cc" else "" for c in text).split()
    )


SOURCE, TARGET, SYSTEM = "\ue000", "\ue001", "\ue002"
"""Placeholders for messages while a chat template is split: characters that no template contains."""


@dataclass(frozen=True)
class ChatPairFormat(PairFormat):
    """Pairs as turns of a chat: a source is a user message, its translation the assistant's answer.

    The strings are the parts of the chat template.
    """

    before_system: str
    before_source: str
    """Text between the system message and the first source."""
    before_target: str
    after_target: str
    """Text that ends a translation and begins the next user message."""

    def header_with(self, terms: Sequence[Term]) -> Tokens:
        """The system message, with `terms` in it, up to the beginning of the first user message."""
        system = self.prompts.text("chat", "system", **self._names).strip()
        if terms:
            lines = "\n".join(map(self._term, terms))
            system += self.prompts.text("chat", "glossary", terms=lines).rstrip()
        return (
            self._template_ids(self.before_system)
            + self._ids(system)
            + self._template_ids(self.before_source)
        )

    def source_tokens(self, source: str) -> Tokens:
        """See `PairFormat.source_tokens`."""
        return self._ids(source) + self._template_ids(self.before_target)

    def target_tokens(self, target: str) -> Tokens:
        """See `PairFormat.target_tokens`."""
        return self._ids(target) + self._template_ids(self.after_target)

    def training_example(self, pair: AlignedPair) -> tuple[Tokens, Tokens, list[bool]]:
        """See `PairFormat.training_example`; the beginning of the next user message is not learnt."""
        source, target, _ = super().training_example(pair)
        text_tokens = len(self._ids(pair.target))
        end = next(index for index in range(text_tokens, len(target)) if target[index] in self.stop_tokens)
        return source, target, [index <= end for index in range(len(target))]

    def target_text(self, tokens: Sequence[int]) -> str:
        """See `PairFormat.target_text`; all lines are joined."""
        end = next((index for index, token in enumerate(tokens) if token in self.stop_tokens), len(tokens))
        return _one_line(decode(self.tokenizer, tokens[:end]))

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """See `PairFormat.stop_tokens`."""
        after = self._template_ids(self.after_target)
        special = [token for token in after if token in self.tokenizer.added_tokens_decoder]
        return frozenset((special or after)[:1])

    def _term(self, term: Term) -> str:
        key = "term_with_note" if term.note else "term"
        return self.prompts.text("chat", key, source=term.source, target=term.target, note=term.note)

    def _template_ids(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def choose_pair_format(tokenizer: Any, prompts: PromptFile, source: Language, target: Language) -> PairFormat:
    """The format for a model: chat turns if its tokenizer has a usable chat template, else plain text."""
    parts = _template_parts(tokenizer) if tokenizer.chat_template else None
    if parts is None:
        return PairFormat(tokenizer, prompts, source, target)
    return ChatPairFormat(tokenizer, prompts, source, target, *parts)


def _template_parts(tokenizer: Any) -> tuple[str, str, str, str] | None:
    """The template's text before the system message, before source and target, and after the target.

    None if the template cannot be split.
    """
    pair = [{"role": "user", "content": SOURCE}, {"role": "assistant", "content": TARGET}]
    prompt = _render(tokenizer, pair[:1], for_generation=True)
    two_pairs = _render(tokenizer, [*pair, *pair], for_generation=False)
    before = re.fullmatch(f"(.*){SYSTEM}(.*){SOURCE}(.*)", prompt or "", re.DOTALL)
    between = re.fullmatch(f".*?{TARGET}(.*?){SOURCE}.*", two_pairs or "", re.DOTALL)
    if before is None or between is None or not between[1]:
        return None
    return before[1], before[2], before[3], between[1]


def _render(tokenizer: Any, messages: list[dict[str, str]], *, for_generation: bool) -> str | None:
    """The messages as text, with SYSTEM as a system message or, without that role, in the first message."""
    first, *others = messages
    merged = {"role": "user", "content": f"{SYSTEM}\n\n{first['content']}"}
    for chat in ([{"role": "system", "content": SYSTEM}, *messages], [merged, *others]):
        text = render_chat(tokenizer, chat, prompt=for_generation)
        if text is not None and SYSTEM in text:
            return text
    return None
