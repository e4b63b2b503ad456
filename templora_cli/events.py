"""What happens while a book is written, as immutable values.

`temp_lora.py` yields these, `sessions/` commits them, `render/` shows them, and `--json` prints
them one a line (`docs/events.md` is the stable description of that form).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["generated", "human"]
"""Who wrote a chunk: the model ("own") or a person ("given")."""

Unit = str
"""What the length of a book is counted in: "tokens", "words", "paragraphs", or a word of the kind's own."""


@dataclass(frozen=True)
class Event:
    """Base of all events; subclasses hold plain JSON values only."""

    def as_json(self) -> dict[str, Any]:
        """The event as a JSON object: its snake-case name under "event", then its fields."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        return {"event": name, **asdict(self)}


@dataclass(frozen=True)
class SessionOpened(Event):
    """The first event of every run, notices apart: what is written, with what, where it is kept."""

    session: str
    path: str
    resume_command: str
    model: str
    quantize: str
    device: str
    dtype: str
    recipe: str
    learn: bool
    chunk_tokens: int
    context_tokens: int
    goal: int
    """The length at which the book is finished, counted in `unit`."""
    unit: Unit
    chunks: int
    """Chunks that the session already holds."""
    tokens: int
    """Tokens that the book already holds, the opening among them."""
    opening_tokens: int
    """Tokens of what a person wrote first, 0 without; they are learnt and do not count for the goal."""
    done: int
    """How much of `goal` is already there, in `unit`."""


@dataclass(frozen=True)
class Notice(Event):
    """Something that the user should know but that stops nothing."""

    message: str


@dataclass(frozen=True)
class Working(Event):
    """Something slow outside of the loop has begun; it ends with the next event.

    Internal: `--json` does not show it.
    """

    message: str


@dataclass(frozen=True)
class ChunkStarted(Event):
    """A turn of the loop begins."""

    index: int
    origin: Origin
    context_tokens: int
    """How many tokens of the book the model sees (the pinned header not counted)."""
    max_tokens: int


@dataclass(frozen=True)
class SectionCut(Event):
    """A section of the prompt had no room for all that it holds."""

    index: int
    """Of the chunk."""
    section: str
    shown: int
    """How many of its items the model sees."""
    items: int
    """How many there are."""


@dataclass(frozen=True)
class TextDecoded(Event):
    """Some prose came out. The texts of a chunk, joined, are the chunk's text."""

    index: int
    text: str
    tokens: int
    """Tokens of the chunk decoded so far."""


@dataclass(frozen=True)
class ParagraphTranslated(Event):
    """A paragraph has its translation, good or not."""

    index: int
    """Of its chunk."""
    paragraph: int
    """Its place in the document, from 0; parts of one that was cut have a place each."""
    number: str
    """What a person calls it: "13" is the 13th of the file, "13.1" a part of it."""
    source: str
    target: str
    attempts: int
    """How often it was translated."""
    failed_checks: tuple[str, ...]
    """What its checks still find, in words; empty where it is good."""


@dataclass(frozen=True)
class ChunkRejected(Event):
    """The chunk as it was decoded is unfit to be learnt from; it is decoded again."""

    index: int
    rejection_reason: str
    """What is wrong with it, in words."""


@dataclass(frozen=True)
class ChunkScored(Event):
    """The finished chunk under base and adapter, before it is learnt; NLL in nats a token."""

    index: int
    nll_base: float
    nll_adapter: float | None
    """None where nothing is learnt (`--no-learn`)."""
    repetition: float
    """Share of the chunk's 4-grams that stood before in the window or in the chunk itself."""
    rejection_reason: str | None
    """Why it is kept but not learnt from; None where it is."""


@dataclass(frozen=True)
class TrainStep(Event):
    """One pass of training over the chunk."""

    index: int
    epoch: int
    epochs: int
    loss: float
    """Mean of what is minimised, in nats/token, with dropout, each window before its own step."""
    lr: float


@dataclass(frozen=True)
class ChunkLearnt(Event):
    """The state is whole again and can be committed: text, adapter, optimizer, random state.

    Internal: the loop is suspended here while `sessions/` writes the step. `--json` shows
    `ChunkCommitted` in its place.
    """

    index: int
    origin: Origin
    tokens: tuple[int, ...]
    text: str
    nll_base: float
    nll_adapter: float | None
    repetition: float
    rejection_reason: str | None
    train_losses: tuple[float, ...]
    lr: float | None
    record: Any
    """What the task keeps of the chunk, a JSON value."""
    candidate: int
    """Which of the candidates it was, from 0."""
    prompt: dict[str, Any]
    """What the model saw, exactly (`Prompt.as_json`)."""


@dataclass(frozen=True)
class ChunkCommitted(Event):
    """The chunk is on the disk with all the state that goes with it. Nothing can take it back."""

    index: int
    origin: Origin
    tokens: int
    """Tokens of this chunk."""
    text: str
    words: int
    """Words of this chunk."""
    nll_base: float
    nll_adapter: float | None
    gain: float | None
    """`nll_base - nll_adapter`, nats a token: above 0 where the adapter expected the chunk better.

    A chunk that was sampled from base + adapter favours the adapter by construction, so on own text
    the gain says how far the adapter has moved, on given text how much it helps.
    """
    repetition: float
    rejection_reason: str | None
    """Why it is kept but not learnt from; None where it is."""
    train_losses: tuple[float, ...]
    """Loss of each pass over the chunk, in order; empty where nothing was learnt."""
    lr: float | None
    seconds: dict[str, float]
    """Wall-clock seconds by phase: decode, score, train, commit."""
    total_tokens: int
    """Tokens of the book so far, the opening among them."""
    done: int
    """How much of the goal is there, in its unit."""
    step_bytes: int
    """Size of the committed step on the disk."""


@dataclass(frozen=True)
class Finished(Event):
    """The book has its length."""

    session: str
    chunks: int
    tokens: int
    words: int
    resume_command: str | None
    """The command that would write on; None where it cannot be made longer."""
    out: str | None


@dataclass(frozen=True)
class TranslationFinished(Event):
    """Every paragraph that was asked for has its translation, good or not."""

    session: str
    paragraphs: int
    good: int
    """Paragraphs that passed their checks at once."""
    retried: int
    """Paragraphs that passed them after they were translated again."""
    corrected: int
    """Paragraphs that a person has corrected or approved."""
    failed: int
    """Paragraphs that still fail a check: marked in the report, and never learnt from."""
    out: str
    """The translated document."""
    report: str
    """The page with source, translation and flags side by side."""


@dataclass(frozen=True)
class RebuildStarted(Event):
    """Chunks of a translation are about to be learnt anew, with what a person corrected in them."""

    session: str
    first: int
    """The first of them."""
    chunks: int
    """How many there are."""


@dataclass(frozen=True)
class ChunkRelearnt(Event):
    """A chunk is learnt anew. It takes its place when all of them are."""

    index: int
    train_losses: tuple[float, ...]
    """Loss of each pass over the chunk, in order; empty where nothing was learnt."""


@dataclass(frozen=True)
class Synced(Event):
    """What a person corrected stands in the session, and the adapter has learnt it."""

    session: str
    paragraphs: int
    """How many were corrected or approved."""
    chunks: int
    """How many were learnt anew."""
    resume_command: str | None
    """The command that goes on; None where the translation is finished and its document follows at once."""


@dataclass(frozen=True)
class Interrupted(Event):
    """Ctrl-C: the chunk in progress is dropped, everything committed stays."""

    session: str
    chunks: int
    dropped_tokens: int
    resume_command: str
