"""Pairs of source and target below each other, of which the targets are learnt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from templora_cli.chat import render_chat
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.prompt_files import PromptFile
from templora_cli.text import decode
from templora_cli.translation.languages import Language

Tokens = tuple[int, ...]


class Shown(Protocol):
    """A term of a glossary, as far as a model is shown it."""

    @property
    def source(self) -> str:
        """As it stands in the source."""

    @property
    def target(self) -> str:
        """How it is to be translated."""

    @property
    def note(self) -> str:
        """What else there is to know, such as a gender; may be empty."""


@dataclass(frozen=True)
class PairFormat:
    """Pairs as the model reads them (`prompts/translation.toml`), and back. For models without a chat."""

    tokenizer: Any
    prompts: PromptFile
    source: Language
    target: Language

    @property
    def header(self) -> Tokens:
        """What stands before all pairs where there is no glossary; never empty."""
        return self.header_with([])

    def header_with(self, terms: Sequence[Shown]) -> Tokens:
        """What stands before all pairs: the tokenizer's own beginning of a text, and `terms` as pairs."""
        beginning = tuple(self.tokenizer.encode("")[:1]) or self._ids("\n")
        return beginning + self.pair_tokens([AlignedPair(term.source, term.target) for term in terms])

    def source_tokens(self, source: str) -> Tokens:
        """What the model sees of a paragraph before it translates it."""
        # The paragraph last: a text that holds a placeholder is left as it is.
        return self._ids(self.prompts.text("pair", "before", **self._names, source=source))

    def target_tokens(self, target: str) -> Tokens:
        """What the model is to go on with: the translation and its end."""
        return self._ids(f" {target}\n")

    def target_text(self, tokens: Sequence[int]) -> str:
        """The translation in what the model went on with."""
        return _one_line(decode(self.tokenizer, tokens).split("\n", 1)[0])

    def pair_tokens(self, pairs: Sequence[AlignedPair]) -> Tokens:
        """Whole pairs, below each other."""
        parts = [self.source_tokens(pair.source) + self.target_tokens(pair.target) for pair in pairs]
        return tuple(token for part in parts for token in part)

    def training_example(self, pair: AlignedPair) -> tuple[Tokens, Tokens, list[bool]]:
        """The tokens of source and target, and which of the target's are learnt: to its end."""
        said = self.target_tokens(pair.target)
        return self.source_tokens(pair.source), said, [True] * len(said)

    @cached_property
    def ends(self) -> frozenset[int]:
        """All tokens that end a translation, those that end a text apart."""
        size = len(self.tokenizer)
        return frozenset(i for i in range(size) if "\n" in self.tokenizer.decode([i]))

    @property
    def _names(self) -> dict[str, str]:
        return {"source_language": self.source.name, "target_language": self.target.name}

    def _ids(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def _one_line(text: str) -> str:
    """Without line breaks and the controls that no document may hold (XML 1.0, section 2.2)."""
    return " ".join(
        "".join(c if c.isspace() or unicodedata.category(c) != "Cc" else "" for c in text).split()
    )


SOURCE, TARGET, SYSTEM = "\ue000", "\ue001", "\ue002"
"""Stand for texts while a chat template is taken apart: characters that no template holds."""


@dataclass(frozen=True)
class ChatPairFormat(PairFormat):
    """Pairs as turns of a chat: the user says the source, the assistant its translation."""

    before_system: str
    before_source: str
    """Follows the system's text, and stands before the first source."""
    before_target: str
    after_target: str
    """Ends a translation and begins the user's next turn."""

    def header_with(self, terms: Sequence[Shown]) -> Tokens:
        """The instruction, with `terms` in it, to the beginning of the user's turn."""
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
        """See `PairFormat.training_example`; what begins the user's next turn is not learnt."""
        shown, said, _ = super().training_example(pair)
        to_end = next(
            place for place in range(len(self._ids(pair.target)), len(said)) if said[place] in self.ends
        )
        return shown, said, [place <= to_end for place in range(len(said))]

    def target_text(self, tokens: Sequence[int]) -> str:
        """See `PairFormat.target_text`; lines become one."""
        end = next((place for place, token in enumerate(tokens) if token in self.ends), len(tokens))
        return _one_line(decode(self.tokenizer, tokens[:end]))

    @cached_property
    def ends(self) -> frozenset[int]:
        """See `PairFormat.ends`."""
        after = self._template_ids(self.after_target)
        special = [token for token in after if token in self.tokenizer.added_tokens_decoder]
        return frozenset((special or after)[:1])

    def _term(self, term: Shown) -> str:
        key = "term_with_note" if term.note else "term"
        return self.prompts.text("chat", key, source=term.source, target=term.target, note=term.note)

    def _template_ids(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def pair_format(tokenizer: Any, prompts: PromptFile, source: Language, target: Language) -> PairFormat:
    """The format that suits the model: turns of its chat where it has one, else plain pairs."""
    plain = PairFormat(tokenizer, prompts, source, target)
    parts = _template_parts(tokenizer) if tokenizer.chat_template else None
    return plain if parts is None else ChatPairFormat(tokenizer, prompts, source, target, *parts)


def _template_parts(tokenizer: Any) -> tuple[str, str, str, str] | None:
    """What a chat template puts before system, source and target, and after it; None if that is unclear."""
    said = [{"role": "user", "content": SOURCE}, {"role": "assistant", "content": TARGET}]
    rendered = _rendered(tokenizer, [*said, *said], prompt=False)
    asked = _rendered(tokenizer, said[:1], prompt=True)
    places = re.fullmatch(f"(.*){SYSTEM}(.*){SOURCE}(.*)", asked or "", re.DOTALL)
    between = re.fullmatch(f".*?{TARGET}(.*?){SOURCE}.*", rendered or "", re.DOTALL)
    if places is None or between is None or not between[1]:
        return None
    return places[1], places[2], places[3], between[1]


def _rendered(tokenizer: Any, said: list[dict[str, str]], *, prompt: bool) -> str | None:
    first, *others = said
    merged = {"role": "user", "content": f"{SYSTEM}\n\n{first['content']}"}
    for messages in ([{"role": "system", "content": SYSTEM}, *said], [merged, *others]):
        text = render_chat(tokenizer, messages, prompt=prompt)
        if text is not None and SYSTEM in text:
            return text
    return None
