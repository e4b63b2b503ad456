"""What the events of a run add up to: where it is, how fast it is, whether the adapter helps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from templora_cli import events

RECENT = 3
"""Chunks over which the gain is judged."""


@dataclass
class Progress:
    """What the events of a run add up to."""

    clock: Callable[[], float]
    opened: events.SessionOpened | None = None
    chunk: events.ChunkStarted | None = None
    doing: str = ""
    committed: int = 0
    tokens: int = 0
    """Of the committed book, the opening among them."""
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
    """Seconds from commit to commit of the last chunks, and how much nearer to the goal each has come."""
    committed_at: float = 0.0
    """When the newest chunk was committed, or the session opened."""
    first_token_at: float = 0.0
    doing_before: str | None = None
    """What goes on again when something slow beside it ends."""

    def update(self, event: events.Event) -> None:
        """Take `event` in."""
        if self.doing_before is not None:
            self.doing, self.doing_before = self.doing_before, None
        match event:
            case events.SessionOpened():
                self.opened, self.committed, self.done = event, event.chunks, event.done
                self.tokens, self.committed_at = event.tokens, self.clock()
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
                self.doing = "writing it again"
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
            return "reading"
        return "translating" if self._in("paragraphs") else "writing"

    def _in(self, unit: str) -> bool:
        return self.opened is not None and self.opened.unit == unit

    def _learning(self, epoch: int) -> str:
        return f"learning, pass {epoch} of {self.epochs}" if self.epochs else "learning"

    def _decoded(self, event: events.TextDecoded) -> None:
        now = self.clock()
        if not self.chunk_tokens:
            self.first_token_at = now
        elif event.tokens >= 8 and now > self.first_token_at:
            self.tok_per_s = (event.tokens - 1) / (now - self.first_token_at)
        self.chunk_tokens = event.tokens
        self.chunk_words += sum(char.isspace() for char in event.text)
        if self.chunk and event.tokens >= self.chunk.max_tokens and not self._in("paragraphs"):
            self.doing = "scoring"

    def _committed(self, event: events.ChunkCommitted) -> None:
        if event.done > self.done:
            # By the clock: what is done between chunks, such as measuring, takes its time too.
            self.paces.append((self.clock() - self.committed_at, event.done - self.done))
        self.committed_at = self.clock()
        # The tokens of a translation are its source's too.
        if event.origin == "generated" and event.seconds.get("decode") and not self._in("paragraphs"):
            self.tok_per_s = event.tokens / event.seconds["decode"]
        if event.gain is not None:
            self.gains.append((event.origin, event.gain))
        self.committed, self.done, self.tokens = event.index + 1, event.done, event.total_tokens
        self.chunk, self.chunk_tokens, self.chunk_words, self.chunk_paragraphs = None, 0, 0, 0
        whole = self.opened is not None and self.done >= self.opened.goal
        self.doing = "finishing" if whole else "starting the next chunk"

    @property
    def chunks_in_all(self) -> int | None:
        """How many chunks the book will have, where the goal is counted in tokens."""
        if self.opened is None or self.opened.unit != "tokens":
            return None
        left = (self.opened.opening_tokens - self.tokens, self.opened.goal - self.done)
        return self.committed + sum(max(0, math.ceil(part / self.opened.chunk_tokens)) for part in left)

    def chunk_name(self, index: int) -> str:
        """ "chunk 3 of 12", for the index 2."""
        in_all = "" if self.chunks_in_all is None else f" of {max(index + 1, self.chunks_in_all)}"
        return f"chunk {index + 1}{in_all}"

    @property
    def done_now(self) -> int:
        """How much of the goal is there, the chunk in progress included (its words are a guess)."""
        if self._in("words"):
            return self.done + self.chunk_words
        return self.done + (self.chunk_tokens if self._in("tokens") else self.chunk_paragraphs)

    @property
    def seconds_left(self) -> float | None:
        """By the pace of this run's finished chunks, training included; None before the first."""
        if not (self.paces and self.opened):
            return None
        pace = sum(seconds for seconds, _ in self.paces) / sum(done for _, done in self.paces)
        since = self.clock() - self.committed_at
        return max(0.0, pace * (self.opened.goal - self.done) - since)

    @property
    def warning(self) -> str | None:
        """Says so where the adapter has not helped of late."""
        given = [gain for origin, gain in self.gains if origin == "human"]
        means = [fmean(gains) for gains in (given, [gain for _, gain in self.gains]) if gains]
        if len(self.gains) < RECENT or min(means) >= 0:
            return None
        worse = f"over the last {RECENT} chunks the base alone expected the text better"
        return f"the adapter is not helping: {worse} ({in_nats(min(means))})"


def in_nats(gain: float) -> str:
    """A gain with its sign and unit."""
    return f"{round(gain, 3) + 0.0:+.3f} nats/token"  # the sum makes -0.0 a plain 0
