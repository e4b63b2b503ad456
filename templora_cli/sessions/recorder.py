"""Events to committed steps: what the loop reports becomes what the session keeps."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from templora_cli.events import (
    ChunkCommitted,
    ChunkLearnt,
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    Event,
    Notice,
    ParagraphTranslated,
    TextDecoded,
    TrainStep,
)
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.checkpoint import commit_step, read_chunks, thin
from templora_cli.sessions.store import Session
from templora_cli.state import WritingState
from templora_cli.text import count_words

Chunk = dict[str, Any]
"""What `chunk.json` holds."""

_PHASE = {
    ChunkRejected: "score",
    TextDecoded: "decode",
    ParagraphTranslated: "decode",
    ChunkScored: "score",
    TrainStep: "train",
    ChunkLearnt: "train",
}


def done(chunks: list[Chunk], task: str, unit: str) -> int:
    """How much of a goal in "tokens", "words" or "paragraphs" the `chunks` are.

    Of a novel only what the model wrote counts, not the opening; of a text that is read, all.
    """
    if unit == "paragraphs":
        return sum(len(chunk["record"]["paragraphs"]) for chunk in chunks)
    counted = [chunk for chunk in chunks if _counts(task, chunk["origin"])]
    if unit == "tokens":
        return sum(len(chunk["tokens"]) for chunk in counted)
    return count_words("".join(chunk["text"] for chunk in counted))


def _counts(task: str, origin: str) -> bool:
    return origin == "own" or task != "novel"


class Recorder:
    """Commits each learnt chunk, keeps the time of its phases, and keeps the book file up to date."""

    def __init__(self, session: Session, state: WritingState) -> None:
        """`session` is locked and `state` is that of its newest step."""
        self.session = session
        self.state = state
        chunks = read_chunks(session.steps)
        self.book = BookFile(session)
        task = session.manifest.task
        self._tokens, self._words_text = (
            done(chunks, task, "tokens"),
            "".join(chunk["text"] for chunk in chunks if _counts(task, chunk["origin"])),
        )
        self.chunks = len(chunks)
        self.tokens_in_progress = 0
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    @property
    def done(self) -> int:
        """How much of the goal is there, in its unit."""
        unit = self.session.manifest.goal_unit
        if unit == "paragraphs":
            return sum(len(record["paragraphs"]) for record in self.state.records)
        return self._tokens if unit == "tokens" else count_words(self._words_text)

    def record(self, event: Event) -> list[Event]:
        """Take in an event of the loop; returns the events to show in its place."""
        now = time.perf_counter()
        if phase := _PHASE.get(type(event)):
            self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now
        if isinstance(event, ChunkStarted):
            self._seconds, self.tokens_in_progress = {}, 0
        elif isinstance(event, TextDecoded):
            self.tokens_in_progress = event.tokens
        elif isinstance(event, ChunkLearnt):
            shown = self._commit(event)
            self._since = time.perf_counter()
            return shown
        return [event]

    def _commit(self, event: ChunkLearnt) -> list[Event]:
        began = time.perf_counter()
        words = count_words(event.text)
        chunk: Chunk = {**asdict(event), "words": words, "seconds": dict(self._seconds)}
        size = commit_step(self.session.steps, event.index, chunk, self.state)
        self.chunks += 1
        self.book.add(event.text)
        if _counts(self.session.manifest.task, event.origin):
            self._words_text += event.text
            self._tokens += len(event.tokens)
        self.tokens_in_progress = 0
        manifest = self.session.manifest
        thin(self.session.steps, **manifest.config["session"])
        notice = self.book.write()
        self._seconds["commit"] = time.perf_counter() - began
        notices: list[Event] = [] if notice is None else [Notice(notice)]
        return [*notices, self._committed(event, words, size)]

    def _committed(self, event: ChunkLearnt, words: int, size: int) -> ChunkCommitted:
        return ChunkCommitted(
            index=event.index,
            origin=event.origin,
            tokens=len(event.tokens),
            text=event.text,
            words=words,
            nll_base=event.nll_base,
            nll_adapter=event.nll_adapter,
            gain=None if event.nll_adapter is None else event.nll_base - event.nll_adapter,
            repetition=event.repetition,
            flaw=event.flaw,
            train_losses=event.train_losses,
            lr=event.lr,
            seconds={phase: round(value, 3) for phase, value in self._seconds.items()},
            total_tokens=len(self.state.tokens),
            done=self.done,
            step_bytes=size,
        )
