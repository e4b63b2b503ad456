"""What a task asks of one turn of the loop, and what the turn brings.

A turn is one of three: text that is there already (`Given`), prose that the model decodes (`Generate`), or a
chunk that a writer of the task's makes in parts, such as paragraphs below their sources (`Compose`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from templora_cli.events import Event, Origin
from templora_cli.prompt import Prompt


@dataclass(frozen=True)
class ChunkPart:
    """Tokens of a chunk that are learnt by the recipe of one origin."""

    origin: Origin
    loss_mask: tuple[bool, ...]
    """Which tokens of the chunk those are."""
    passes: int = 1
    """For each pass of the recipe."""


@dataclass(frozen=True)
class Chunk:
    """What one turn of the loop has brought: the unit that is scored, learnt and committed."""

    tokens: tuple[int, ...]
    text: str
    loss_mask: tuple[bool, ...] = ()
    """Which tokens are scored and learnt, at least one; empty for all of them."""
    parts: tuple[ChunkPart, ...] = ()
    """What is learnt by which recipe; empty where all of it is learnt by that of the turn's origin."""
    record: Any = None
    """What the task wants to find again after a resume, a JSON value."""
    rejection_reason: str | None = None
    """What the task itself found that makes it unfit to be learnt from, in words."""
    nlls: tuple[float, ...] = ()
    """NLL of each token under base + adapter as it was decoded, nats; empty where that is not known."""


class Decode(Protocol):
    """Decoding as a task may ask for it, with base + adapter and the candidate's own random numbers."""

    def __call__(
        self, after: Sequence[int], *, max_tokens: int, ends: Collection[int], temperature: float
    ) -> Iterator[int]:
        """The tokens that follow the prompt and `after`, to the first of `ends` with it."""


Writer = Callable[[int, Decode], Generator[Event, None, Chunk]]
"""Writes chunk number n in parts."""


@dataclass(frozen=True)
class Given:
    """A chunk that is there already: what a person wrote, or a committed chunk that is learnt again."""

    prompt: Prompt
    tokens: tuple[int, ...]
    origin: Origin = "human"
    """Who wrote it: it is learnt by `[human]` or by `[generated]`."""
    loss_mask: tuple[bool, ...] = ()
    rejection_reason: str | None = None
    """Why a committed chunk is not learnt from."""
    record: Any = None
    judged: bool = False
    """Has the gate decided already, as `rejection_reason` says? When it was decoded the score was another."""

    @property
    def max_tokens(self) -> int:
        """The length of the chunk."""
        return len(self.tokens)


@dataclass(frozen=True)
class Generate:
    """A chunk of prose that the model decodes."""

    prompt: Prompt
    max_tokens: int
    """The length of the chunk, at least 1."""
    complete: Callable[[Sequence[int]], bool] = lambda chunk: False
    """Is the chunk, with these tokens, complete before it reaches `max_tokens`?"""
    origin: Origin = "generated"


@dataclass(frozen=True)
class Compose:
    """A chunk that `writer` makes in parts, decoding after a prompt that they share."""

    prompt: Prompt
    max_tokens: int
    """The length that is expected."""
    writer: Writer
    origin: Origin = "generated"


Turn = Given | Generate | Compose


class Task(Protocol):
    """What to write next: a room of its own for each kind (`task_kinds.py`)."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """The turn that continues `book`, or None when the book is finished.

        `records` are those of the chunks so far.
        """

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Turn:
        """The turn that brings a committed `chunk` (the values of its `chunk.json`) again after `book`:
        nothing is decoded, and what was not learnt is not learnt.
        """

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """A function from the tokens that follow `book`, one at a time, to their text."""


def given_turn(
    prompt: Callable[[Sequence[int]], Prompt], book: Sequence[int], text: tuple[int, ...], chunk_tokens: int
) -> Given | None:
    """The turn that reads what follows `book` in `text`, which begins with it; None at the end."""
    tokens = text[len(book) : len(book) + chunk_tokens]
    return Given(prompt(book), tokens) if tokens else None


def replay_turn(prompt: Prompt, chunk: Mapping[str, Any]) -> Given:
    """A committed chunk of prose again, by the recipe of its origin, after `prompt`."""
    kept = {"rejection_reason": chunk["rejection_reason"], "record": chunk["record"], "judged": True}
    return Given(prompt, tuple(chunk["tokens"]), chunk["origin"], **kept)
