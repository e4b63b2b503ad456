"""Translation: pairs of source and target below each other, of which the targets are learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from templora_cli.documents.pairs import Pair
from templora_cli.events import Origin
from templora_cli.tasks.languages import Language
from templora_cli.tasks.prompts import PromptFile
from templora_cli.tasks.text import TextStream, decode
from templora_cli.tasks.turn import Turn

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PairFormat:
    """Pairs as the model reads them (`prompts/translation.toml`), and back."""

    tokenizer: Any
    prompts: PromptFile
    source: Language
    target: Language

    @property
    def header(self) -> Tokens:
        """What stands before all pairs: the tokenizer's own beginning of a text, never empty."""
        return tuple(self.tokenizer.encode("")[:1]) or self._ids("\n")

    def source_tokens(self, source: str) -> Tokens:
        """What the model sees of a paragraph before it translates it."""
        names = {"source_language": self.source.name, "target_language": self.target.name}
        # The paragraph last: a text that holds a placeholder is left as it is.
        return self._ids(self.prompts.text("pair", "before", **names, source=source))

    def target_tokens(self, target: str) -> Tokens:
        """What the model is to go on with: the translation and the end of its line."""
        return self._ids(f" {target}\n")

    def target_text(self, tokens: Sequence[int]) -> str:
        """The translation in what the model went on with."""
        return decode(self.tokenizer, tokens).split("\n", 1)[0].strip()

    def pair_tokens(self, pairs: Sequence[Pair]) -> Tokens:
        """Whole pairs, below each other."""
        parts = [self.source_tokens(pair.source) + self.target_tokens(pair.target) for pair in pairs]
        return tuple(token for part in parts for token in part)

    def line_ends(self) -> list[int]:
        """All tokens that end a line."""
        return [i for i in range(len(self.tokenizer)) if "\n" in self.tokenizer.decode([i])]

    def _ids(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


@dataclass(frozen=True)
class PairsTask:
    """Runs of pairs, each a chunk whose source is shown and whose target is learnt. Implements `Task`."""

    format: PairFormat
    runs: Sequence[Sequence[Pair]]
    """The pairs of the file; those targets are learnt unless `targets` says otherwise."""
    context_pairs: int
    """Pairs before a run that training shows."""
    origin: Origin
    targets: Callable[[int], Sequence[str]]
    """The targets to learn of a run, by its index; asked when the run's turn comes."""
    _lengths: dict[int, int] = field(default_factory=dict)
    """Tokens of the runs that were read."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Turn | None:
        """The run that follows the runs in `book`."""
        read = 0
        for index in range(len(self.runs)):
            if read == len(book):
                return self._turn(self.format.pair_tokens(self._before(index)), self._learnt(index))
            if index not in self._lengths:
                self._lengths[index] = len(self.format.pair_tokens(self._learnt(index)))
            read += self._lengths[index]
        return None

    def _before(self, index: int) -> list[Pair]:
        """The last `context_pairs` pairs before run `index`."""
        pairs: list[Pair] = []
        while index > 0 and len(pairs) < self.context_pairs:
            index -= 1
            pairs = self._learnt(index) + pairs
        return pairs[max(0, len(pairs) - self.context_pairs) :]

    def _learnt(self, index: int) -> list[Pair]:
        sources = (pair.source for pair in self.runs[index])
        return [Pair(*pair) for pair in zip(sources, self.targets(index), strict=True)]

    def _turn(self, context: Tokens, run: Sequence[Pair]) -> Turn:
        given: list[int] = []
        mask: list[bool] = []
        for pair in run:
            for tokens, learnt in (
                (self.format.source_tokens(pair.source), False),
                (self.format.target_tokens(pair.target), True),
            ):
                given += tokens
                mask += [learnt] * len(tokens)
        return Turn(
            self.format.header,
            context,
            self.origin,
            tuple(given),
            len(given),
            lambda chunk: False,
            loss_mask=tuple(mask),
        )

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `temp_lora.Task`."""
        return TextStream(lambda tokens: decode(self.format.tokenizer, tokens), book).push
