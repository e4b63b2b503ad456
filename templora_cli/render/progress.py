"""Progress of a run, computed from its events: position, speed, and whether the adapter helps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from templora_cli import events
from templora_cli.render.figures import in_nats

COMPLETING = "finishing the sentence"

RECENT = 3
"""Number of latest chunks over which the gain is averaged."""


def already_done(opened: events.SessionOpened) -> int:
    """The part of the goal that people do not count: of a retry all that came before it."""
    if not opened.retries:
        return 0
    return opened.done if opened.done < opened.goal else opened.retries


@dataclass
class Progress:
    """The state of a run after its events so far."""

    clock: Callable[[], float]
    opened: events.SessionOpened | None = None
    chunk: events.ChunkStarted | None = None
    doing: str = ""
    committed: int = 0
    tokens: int = 0
    """Tokens of the committed book, including the opening."""
    words: int = 0
    """Words of the committed book, including the opening."""
    done: int = 0
    chunk_tokens: int = 0
    chunk_words: int = 0
    chunk_paragraphs: int = 0
    tok_per_s: float | None = None
    epochs: int = 0
    loss: float | None = None
    gain: float | None = None
    repetition: float | None = None
    gains: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    paces: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=8))
    """Per recent chunk: seconds since the previous commit, and progress in the unit of the goal."""
    committed_at: float = 0.0
    """When the newest chunk was committed, or the session opened."""
    first_token_at: float = 0.0
    doing_before: str | None = None
    """The activity that continues after a slow step (`Working`)."""

    def update(self, event: events.Event) -> None:
        """Update the state for `event`."""
        if self.doing_before is not None:
            self.doing, self.doing_before = self.doing_before, None
        match event:
            case events.SessionOpened():
                self.opened, self.committed, self.done = event, event.chunks, event.done
                self.tokens, self.words, self.committed_at = event.tokens, event.words, self.clock()
                self.doing = "starting"
            case events.ChunkStarted():
                self.chunk, self.chunk_tokens, self.chunk_words = event, 0, 0
                self.chunk_paragraphs = 0
                self.doing = self._beginning(event)
            case events.TextDecoded():
                self._decoded(event)
            case events.ParagraphTranslated():
                self.chunk_paragraphs += 1
            case events.ChunkRejected():
                self.chunk_paragraphs, self.chunk_tokens, self.chunk_words = 0, 0, 0
                self.doing = "writing again"
            case events.ChunkScored():
                self.repetition = event.repetition
                self.gain = None if event.nll_adapter is None else event.nll_base - event.nll_adapter
                learning = self.opened is not None and self.opened.learn and not event.rejection_reason
                self.doing = self._learning(1) if learning else "saving"
            case events.TrainStep():
                self.loss, self.epochs = event.loss, event.epochs
                self.doing = self._learning(event.epoch + 1) if event.epoch < event.epochs else "saving"
            case events.ChunkLearnt():
                self.doing = "saving"
            case events.Working():
                self.doing_before, self.doing = self.doing, event.message
            case events.ChunkCommitted():
                self._committed(event)

    def _beginning(self, event: events.ChunkStarted) -> str:
        if event.origin == "human":
            return "reading your opening" if self.opening_part else "reading"
        if self._has_unit("paragraphs"):
            return "translating"
        return COMPLETING if self.is_complete else "writing"

    def _has_unit(self, unit: str) -> bool:
        return self.opened is not None and self.opened.unit == unit

    def _learning(self, epoch: int) -> str:
        learning = "learning your opening" if self.opening_part else "learning"
        return f"{learning}, pass {epoch} of {self.epochs}" if self.epochs else learning

    def _decoded(self, event: events.TextDecoded) -> None:
        now = self.clock()
        if not self.chunk_tokens:
            self.first_token_at = now
        elif event.tokens >= 8 and now > self.first_token_at:
            self.tok_per_s = (event.tokens - 1) / (now - self.first_token_at)
        self.chunk_tokens = event.tokens
        self.chunk_words += sum(char.isspace() for char in event.text)
        if self.chunk and event.tokens >= self.chunk.max_tokens and not self._has_unit("paragraphs"):
            self.doing = "scoring"
        elif self.doing == "writing" and self.is_complete:
            self.doing = COMPLETING

    def _committed(self, event: events.ChunkCommitted) -> None:
        if event.done > self.done:
            # Wall-clock time, because work between chunks, such as evaluation, counts too.
            self.paces.append((self.clock() - self.committed_at, event.done - self.done))
        self.committed_at = self.clock()
        self.words += event.words
        # The tokens of a translation include its source.
        if event.origin == "generated" and event.seconds.get("decode") and not self._has_unit("paragraphs"):
            self.tok_per_s = event.tokens / event.seconds["decode"]
        if event.gain is not None:
            self.gains.append((event.origin, event.gain))
        self.committed, self.done, self.tokens = event.index + 1, event.done, event.total_tokens
        self.chunk, self.chunk_tokens, self.chunk_words, self.chunk_paragraphs = None, 0, 0, 0
        self.doing = "finishing" if self.is_complete else "starting the next chunk"

    @property
    def is_complete(self) -> bool:
        """Is the goal reached? The last sentence may be unfinished."""
        return self.opened is not None and self.current_progress >= self.opened.goal

    @property
    def opening_part(self) -> tuple[int, int] | None:
        """The part of a person's opening that is read or learnt, from 1, and their number; None after it."""
        if self.opened is None or self.tokens >= self.opened.opening_tokens:
            return None
        return self.committed + 1, math.ceil(self.opened.opening_tokens / self.opened.chunk_tokens)

    @property
    def total_chunks(self) -> int | None:
        """Expected number of chunks of the book; None unless the goal is in tokens or chunks."""
        if self.opened is None or self.opened.unit not in ("tokens", "chunks"):
            return None
        size = self.opened.chunk_tokens
        human = max(0, math.ceil((self.opened.opening_tokens - self.tokens) / size))
        remaining = max(0, self.opened.goal - self.done)
        return (
            self.committed + human + (remaining if self._has_unit("chunks") else math.ceil(remaining / size))
        )

    def chunk_name(self, index: int) -> str:
        """The name of a chunk for people: "chunk 3 of 12" for the index 2."""
        total = "" if self.total_chunks is None else f" of {max(index + 1, self.total_chunks)}"
        return f"chunk {index + 1}{total}"

    @property
    def current_progress(self) -> float:
        """Progress towards the goal, including the chunk in progress (its words are estimated)."""
        if self.opened is not None and self._has_unit("chunks"):
            return self.done + min(1.0, self.chunk_tokens / self.opened.chunk_tokens)
        if self._has_unit("words"):
            return self.done + self.chunk_words
        return self.done + (self.chunk_tokens if self._has_unit("tokens") else self.chunk_paragraphs)

    @property
    def seconds_left(self) -> float | None:
        """Remaining time by the pace of this run's finished chunks, with training.

        None before the first, and from the goal on: nobody knows where the last sentence ends.
        """
        if not (self.paces and self.opened) or self.is_complete:
            return None
        pace = sum(seconds for seconds, _ in self.paces) / sum(done for _, done in self.paces)
        elapsed = self.clock() - self.committed_at
        return max(0.0, pace * (self.opened.goal - self.done) - elapsed)

    @property
    def warning(self) -> str | None:
        """A message if the adapter has not helped over the last chunks; None otherwise."""
        human = [gain for origin, gain in self.gains if origin == "human"]
        means = [fmean(gains) for gains in (human, [gain for _, gain in self.gains]) if gains]
        if len(self.gains) < RECENT or min(means) >= 0:
            return None
        return (
            f"learning is not helping: with it the model expects the last {RECENT} chunks less than without "
            f"(gain {in_nats(min(means))})"
        )
