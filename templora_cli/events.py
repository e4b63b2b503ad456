"""Events: immutable values that report progress while a book is written.

`temp_lora.py` yields them, `sessions/` commits them, `render/` shows them, and `--json` prints one per line
(`docs/events.md` describes that format).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["generated", "accepted", "human"]
"""The author of a chunk: the model ("generated"), the model with a person's consent ("accepted"), or a
person ("human")."""

Unit = str
"""The unit of a book's length: "tokens", "words", "chunks", "paragraphs", or another of a task kind."""


def in_words(amount: int, unit: Unit, *, new: bool = False) -> str:
    """A length for people: "1 chunk", "2,000 words"; with `new`, "2,000 new words"."""
    return f"{amount:,} {'new ' if new else ''}{unit.removesuffix('s') if amount == 1 else unit}"


def progress_in_words(done: int, goal: int, unit: Unit, *, new: bool = False, retries: int = 0) -> str:
    """The progress towards a goal for people: "307 of 300 new words".

    With `new` an opening does not count. `retries` of the goal are made once more, after all the others.
    """
    whole = goal - retries
    if retries and whole <= done < goal:
        return f"{whole:,} of {in_words(whole, unit)}, {goal - done:,} to retry"
    return f"{min(done, whole) if retries else done:,} of {in_words(whole, unit, new=new)}"


def words_with_opening(words: int, unit: Unit) -> str:
    """The length of a book with its opening, beside its progress in `unit`: "471 with your opening"."""
    return f"{words:,} {'' if unit == 'words' else 'words '}with your opening"


@dataclass(frozen=True)
class Event:
    """Base class of all events. Their fields are plain JSON values."""

    def as_json(self) -> dict[str, Any]:
        """The event as a JSON object: its name in snake case under "event", then its fields."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        return {"event": name, **asdict(self)}


@dataclass(frozen=True)
class SessionOpened(Event):
    """The first event of every run, apart from notices: the session, its model and its settings."""

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
    """The length of the finished book, in `unit`."""
    unit: Unit
    chunks: int
    """Chunks in the session so far."""
    tokens: int
    """Tokens in the book so far, including the opening."""
    words: int
    """Words in the book so far, including the opening."""
    opening_tokens: int
    """Tokens of the human opening, 0 without one. They are learnt, and do not count towards the goal."""
    done: int
    """Progress towards `goal`, in `unit`."""
    retries: int
    """How many of `goal` are paragraphs that are translated once more (`templora retry`)."""
    languages: tuple[str, ...]
    """Names of the source and target language of a translation; empty for other kinds of task."""


@dataclass(frozen=True)
class Notice(Event):
    """Information for the user that does not stop the run."""

    message: str
    important: bool = False
    """Whether it is shown with --quiet too, e.g. because a file of the user was renamed."""


@dataclass(frozen=True)
class Working(Event):
    """A slow step outside of the loop has begun; it ends with the next event.

    Internal: `--json` does not print it.
    """

    message: str
    seconds_left: float | None = None
    """How long it and the steps after it may take; None if it is not known."""


@dataclass(frozen=True)
class TextBefore(Event):
    """The end of the book that the run continues, for people who read on.

    Internal: `--json` does not print it.
    """

    text: str


@dataclass(frozen=True)
class ChunkStarted(Event):
    """A turn of the loop begins."""

    index: int
    origin: Origin
    context_tokens: int
    """Tokens of the book in the prompt; the header is not counted."""
    max_tokens: int


@dataclass(frozen=True)
class SectionCut(Event):
    """A section of the prompt was shortened to fit."""

    index: int
    """Index of the chunk."""
    section: str
    shown: int
    """Number of its items in the prompt."""
    items: int
    """Number of its items in all."""


@dataclass(frozen=True)
class TextDecoded(Event):
    """A piece of prose was decoded. The pieces of a chunk, joined, are its text."""

    index: int
    text: str
    tokens: int
    """Tokens of the chunk decoded so far."""


@dataclass(frozen=True)
class ParagraphTranslated(Event):
    """A paragraph was translated. It may have failed its checks."""

    index: int
    """Index of its chunk."""
    paragraph: int
    """Its index in the document, from 0. Parts of a long paragraph that was split have an index each."""
    number: str
    """Its number for people: "13" is the 13th paragraph of the file, "13.1" its first part."""
    source: str
    target: str
    attempts: int
    """Number of attempts."""
    failed_checks: tuple[str, ...]
    """Checks that its translation fails, in words; empty if it is good."""


@dataclass(frozen=True)
class ChunkRejected(Event):
    """The gate rejected the decoded chunk; it is decoded again."""

    index: int
    rejection_reason: str
    """Why, in words."""


@dataclass(frozen=True)
class ChunkScored(Event):
    """Scores of the finished chunk before it is learnt. NLLs and entropies are in nats/token.

    Those of base + adapter are None with `--no-learn` and for a chunk without tokens.
    """

    index: int
    nll_base: float
    nll_adapter: float | None
    repetition: float
    """Share of the chunk's 4-grams that occur before it in the window, or earlier in the chunk."""
    rejection_reason: str | None
    """Why the chunk is not learnt; None if it is."""
    entropy_base: float | None = None
    """Mean entropy of the predictions of the base; None for a chunk without tokens."""
    entropy_adapter: float | None = None
    completion_base: float | None = None
    """Mean probability (0 to 1) of tokens that would complete a 4-gram of the book, under the base."""
    completion_adapter: float | None = None


@dataclass(frozen=True)
class TrainStep(Event):
    """One pass of training over the chunk, or over a part of it with its own learning settings."""

    index: int
    epoch: int
    epochs: int
    loss: float
    """Mean training loss of the steps taken, nats/token, with dropout; the loss is that before each step."""
    lr: float


@dataclass(frozen=True)
class ChunkLearnt(Event):
    """The turn is done and the state is complete: text, adapter, optimizer, random generators.

    It also comes for a chunk that the gate rejected, and with `--no-learn`. If nothing was learnt,
    `train_losses` is empty and `lr` is None.

    Internal: the loop is suspended here while `sessions/` commits the step. `--json` prints `ChunkCommitted`
    instead.
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
    """Learning rate of the last pass; with corrections, a chunk has passes at different rates."""
    record: Any
    """Data that the task stores with the chunk, a JSON value."""
    candidate: int
    """Number of the chosen candidate, from 0."""
    prompt: dict[str, Any]
    """The exact prompt (`Prompt.as_json`)."""
    unlearnt: tuple[tuple[int, int], ...] = ()
    """Ranges of its tokens that are neither scored nor learnt, such as a heading."""
    human: tuple[tuple[int, int], ...] = ()
    """Ranges of its tokens that a person wrote, if the model wrote the others."""
    others: tuple[dict[str, Any], ...] = ()
    """The other candidates, if several were requested: number, tokens, text, record, rejection reason."""
    proposed: bool = False
    """Is it only a proposal? It is learnt when its author has decided about it."""
    entropy_base: float | None = None
    entropy_adapter: float | None = None
    completion_base: float | None = None
    completion_adapter: float | None = None


@dataclass(frozen=True)
class ChunkCommitted(Event):
    """The chunk and all state after it are saved on disk."""

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
    """`nll_base - nll_adapter` in nats/token; above 0 if the adapter predicted the chunk better.

    None with `--no-learn` and for a chunk without tokens.

    A generated chunk was sampled from base + adapter and favours the adapter by construction: its gain shows
    how far the adapter has moved from the base. On human text the gain shows how much the adapter helps.
    """
    repetition: float
    rejection_reason: str | None
    """Why the chunk is not learnt; None if it is."""
    train_losses: tuple[float, ...]
    """Mean loss of each pass, in order; empty if nothing was learnt."""
    lr: float | None
    """Learning rate of the last pass; None if nothing was learnt."""
    seconds: dict[str, float]
    """Wall-clock seconds of each phase: decode, score, train, commit."""
    total_tokens: int
    """Tokens in the book so far, including the opening."""
    done: int
    """Progress towards the goal, in its unit."""
    step_bytes: int
    """Size of the committed step on disk, in bytes."""
    entropy_base: float | None = None
    entropy_adapter: float | None = None
    completion_base: float | None = None
    completion_adapter: float | None = None


@dataclass(frozen=True)
class Unlearnt:
    """A chunk that is in the book but was not learnt from."""

    index: int
    rejection_reason: str
    """In words."""


@dataclass(frozen=True)
class Primed(Event):
    """Texts were learnt, so that books can begin with the adapter that knows them."""

    session: str
    """The session that learnt them."""
    files: tuple[str, ...]
    """Names of the texts."""
    tokens: int
    """Tokens of all texts."""
    readings: int
    """How often they were read; the adapter is that of the best reading."""
    best_reading: int
    """The number of the best reading, from 1; 0 if none helped."""
    seconds: float
    """Wall-clock seconds that it took."""
    held_out_tokens: int
    """Tokens at the end of the longest text that were not learnt, to measure the adapter on them."""
    nll_base: float | None
    """NLL of these under the base, nats/token; None if nothing was held out."""
    nll_adapter: float | None
    """The same under base + adapter, after the best reading."""


@dataclass(frozen=True)
class Proposed(Event):
    """A page waits for its author's decision: it is saved, and not learnt yet."""

    session: str
    first: int
    """Index of its first chunk."""
    chunks: int
    text: str
    resume_command: str
    """The command that asks about it again."""


@dataclass(frozen=True)
class Finished(Event):
    """The book has reached its goal."""

    session: str
    chunks: int
    tokens: int
    words: int
    resume_command: str | None
    """The command that would continue the book; None if it cannot be extended."""
    out: str | None
    disk_bytes: int
    """What the session takes on the disk, its checkpoints among it."""
    not_learnt: tuple[Unlearnt, ...]
    """The chunks that the gate marked."""


@dataclass(frozen=True)
class TranslationFinished(Event):
    """Every requested paragraph was translated. Some may have failed their checks."""

    session: str
    paragraphs: int
    good: int
    """Paragraphs that passed their checks at the first attempt."""
    retried: int
    """Paragraphs that passed them at a later attempt."""
    corrected: int
    """Paragraphs that a person corrected or approved."""
    failed: int
    """Paragraphs that still fail a check. They are marked in the report and never learnt."""
    out: str
    """The translated document."""
    report: str
    """The report: a page with source, translation and failed checks side by side."""


@dataclass(frozen=True)
class RebuildStarted(Event):
    """Chunks are about to be learnt again, e.g. with a person's corrections."""

    session: str
    first: int
    """Index of the first of them."""
    chunks: int
    """Number of chunks to learn again."""
    seconds: float | None
    """How long that may take, by the time that these chunks took before; None if it is not known."""


@dataclass(frozen=True)
class ChunkRelearnt(Event):
    """A chunk was learnt again. The new chunks replace the old ones when all are learnt."""

    index: int
    train_losses: tuple[float, ...]
    """Mean loss of each pass, in order; empty if nothing was learnt."""


@dataclass(frozen=True)
class Synced(Event):
    """Corrections are saved in the session, and the adapter has learnt them."""

    session: str
    paragraphs: int
    """Number of paragraphs corrected or approved."""
    chunks: int
    """Number of chunks learnt again."""
    resume_command: str | None
    """The command that continues; None if the translation is finished and its document follows at once."""


@dataclass(frozen=True)
class Changed(Event):
    """Chunks of a session were taken back or brought back, text and weights."""

    session: str
    kind: str
    """What was done, by the name of the command: "undo", "rewrite", "restore", "sync", "accept", "forget"."""
    detail: str
    """What of it, in words."""
    relearnt: int
    """How many chunks were learnt again, or anew."""
    chunks: int
    """Chunks of the session now."""
    words: int
    """Words of the book now."""
    chunks_before: int
    words_before: int
    text: str
    """The end of the book now."""
    resume_command: str
    """The command that continues the book."""
    restore_command: str | None
    """The command that brings back what there was before; None if nothing does."""


@dataclass(frozen=True)
class Forgotten(Event):
    """A passage was forgotten. NLLs are in nats/token, of the passage after the text before it."""

    session: str
    passage: str
    nll_base: float
    """Under the base."""
    nll_before: float
    """Under base + adapter, before it was forgotten."""
    nll_now: float
    """The same now."""


@dataclass(frozen=True)
class Forked(Event):
    """A second session was made of the beginning of another."""

    session: str
    """The new session."""
    parent: str
    """The session that it was forked from."""
    chunks: int
    words: int
    text: str
    """The end of the text of the new session."""
    out: str | None
    """Its output file; None if its parent has none."""
    resume_command: str


@dataclass(frozen=True)
class Interrupted(Event):
    """The run was interrupted. The chunk in progress is lost; everything committed is safe."""

    session: str
    chunks: int
    dropped_tokens: int
    resume_command: str
