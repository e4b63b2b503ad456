"""Turns: a task asks the loop for one chunk at a time, in one of three ways.

`Given` is text that exists already. `Generate` is prose that the model decodes. `Compose` is a chunk that the
task builds from several decoded parts, such as paragraphs with their translations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from templora_cli.engine.decoding.banned_phrases import NO_PHRASES, BannedPhrases
from templora_cli.events import Event, Origin
from templora_cli.prompt import Prompt


@dataclass(frozen=True)
class ChunkPart:
    """Tokens of a chunk that have the same author, and so the same learning settings."""

    origin: Origin
    loss_mask: tuple[bool, ...]
    """Which tokens of the chunk belong to the part."""
    passes: int = 1
    """How many times the configured number of passes is taken over the part."""


class Predictions(NamedTuple):
    """How a model predicts a chunk: means over its scored tokens."""

    nll: float
    """Negative log-likelihood, nats/token."""
    entropy: float
    """Entropy of the predictions, nats. It falls as the model becomes surer of what it writes."""
    completion: float
    """Probability (0 to 1) that the model gives to tokens that would complete a 4-gram of the book."""


@dataclass(frozen=True)
class Chunk:
    """The text of one turn: the unit that is scored, learnt and committed."""

    tokens: tuple[int, ...]
    text: str
    loss_mask: tuple[bool, ...] = ()
    """Which tokens are scored and learnt, at least one; empty for all."""
    parts: tuple[ChunkPart, ...] = ()
    """Parts with different authors; empty if all of the chunk has the origin of its turn."""
    record: Any = None
    """Data of the task that is stored with the chunk, a JSON value."""
    rejection_reason: str | None = None
    """Why the task itself rejects the chunk for learning, in words."""
    predictions: Predictions | None = None
    """Those of base + adapter while the chunk was decoded; None if they are unknown."""


class Decode(Protocol):
    """Decoding for a `Compose` turn, with base + adapter and the random generator of the candidate."""

    def __call__(
        self, after: Sequence[int], *, max_tokens: int, stop_tokens: Collection[int], temperature: float
    ) -> Iterator[int]:
        """Yield the tokens after the prompt and `after`, up to and including the first of `stop_tokens`."""


Composer = Callable[[int, Decode], Generator[Event, None, Chunk]]
"""Composes the chunk with this number, from 0."""


@dataclass(frozen=True)
class Given:
    """A chunk that exists already: human text, or a committed chunk that is learnt again."""

    prompt: Prompt
    tokens: tuple[int, ...]
    origin: Origin = "human"
    """The author: `[human]` or `[generated]` says how it is learnt."""
    loss_mask: tuple[bool, ...] = ()
    parts: tuple[ChunkPart, ...] = ()
    """See `Chunk.parts`."""
    rejection_reason: str | None = None
    """Why a committed chunk is not learnt."""
    record: Any = None
    learnt: bool = True
    """Is it learnt? If not, it is scored only."""
    judged: bool = False
    """Has the gate decided already? When the chunk was decoded its score was different."""
    proposed: bool = False
    """See `Generate.proposed`."""

    @property
    def max_tokens(self) -> int:
        """The length of the chunk."""
        return len(self.tokens)


class Fault(NamedTuple):
    """Why a decoded chunk must not be in the book."""

    reason: str
    """In words."""
    good: int = 0
    """How many of its tokens, after the opening, come before the fault and may stay."""


@dataclass(frozen=True)
class Generate:
    """A chunk of prose that the model decodes."""

    prompt: Prompt
    max_tokens: int
    """The length of the chunk without its opening, at least 1."""
    complete: Callable[[Sequence[int]], int | None] = lambda tokens: None
    """Given the tokens so far, without the opening, returns the length at which the chunk ends, or None to go
    on. Tokens past that length, needed only to recognise the end, are dropped.
    """
    opening: tuple[int, ...] = ()
    """Tokens that begin the chunk, such as a heading. They are neither scored nor learnt."""
    end_tokens: frozenset[int] = frozenset()
    """Tokens that end the chunk and are not part of it."""
    may_end: Callable[[Sequence[int]], bool] = lambda tokens: False
    """May one of `end_tokens` be drawn after these tokens?"""
    fault: Callable[[Sequence[int]], Fault | None] = lambda tokens: None
    """Looks for a reason why these tokens, without the opening, must not be in the book."""
    restart: Callable[[int, Sequence[int]], tuple[int, ...]] = lambda attempt, good: ()
    """Tokens with which attempt number `attempt`, from 1, goes on after the good tokens of the one before.
    They are not learnt.
    """
    banned: BannedPhrases = NO_PHRASES
    """Phrases that must not be in the text."""
    record: Callable[[Sequence[int]], Any] = lambda tokens: None
    """The data to store with a chunk of these tokens."""
    origin: Origin = "generated"
    proposed: bool = False
    """Is it only a proposal, which is learnt when the author has decided about it?"""


@dataclass(frozen=True)
class Compose:
    """A chunk that `composer` builds from parts, each decoded after the same prompt."""

    prompt: Prompt
    max_tokens: int
    """The expected length."""
    composer: Composer
    origin: Origin = "generated"


Turn = Given | Generate | Compose


class Task(Protocol):
    """Decides what comes next. `task_kinds.py` lists the kinds of tasks."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """The turn that continues `book`, or None when it is finished. `records` are those of its chunks."""

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Turn:
        """The turn that repeats a committed `chunk` (the values of its `chunk.json`) after `book`.

        Nothing is decoded, and a chunk that was not learnt is not learnt now.
        """

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """A function that decodes the tokens after `book`, one at a time, to text."""


def given_turn(
    prompt: Callable[[Sequence[int]], Prompt], book: Sequence[int], text: tuple[int, ...], chunk_tokens: int
) -> Given | None:
    """The next chunk of `text`, of which `book` is the beginning; None at its end."""
    tokens = text[len(book) : len(book) + chunk_tokens]
    return Given(prompt(book), tokens) if tokens else None


def replay_turn(prompt: Prompt, chunk: Mapping[str, Any]) -> Given:
    """A committed chunk of prose once more, after `prompt`."""
    decided = {"rejection_reason": chunk["rejection_reason"], "record": chunk["record"], "judged": True}
    tokens, origin = tuple(chunk["tokens"]), chunk["origin"]
    learnt = tuple(not unlearnt for unlearnt in mask_of(chunk.get("unlearnt", ()), len(tokens)))
    human = mask_of(chunk.get("human", ()), len(tokens))
    parts: tuple[ChunkPart, ...] = ()
    if any(human):
        by_person = tuple(each and own for each, own in zip(learnt, human, strict=True))
        by_model = tuple(each and not own for each, own in zip(learnt, human, strict=True))
        parts = (ChunkPart("human", by_person), ChunkPart(origin, by_model))
    proposed = bool(chunk.get("proposed"))
    return Given(prompt, tokens, origin, () if all(learnt) else learnt, parts, proposed=proposed, **decided)


def mask_of(ranges: Iterable[Sequence[int]], length: int) -> tuple[bool, ...]:
    """Which of `length` tokens lie in `ranges`, each from its first token to the one after its last."""
    mask = [False] * length
    for start, end in ranges:
        mask[start:end] = [True] * (end - start)
    return tuple(mask)


def ranges_of(mask: Iterable[bool]) -> tuple[tuple[int, int], ...]:
    """The ranges of tokens that are in a mask, each from its first token to the one after its last."""
    ranges: list[tuple[int, int]] = []
    for index, marked in enumerate(mask):
        if marked and ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        elif marked:
            ranges.append((index, index + 1))
    return tuple(ranges)
