"""Turn the events of the loop into committed steps of the session."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from templora_cli.config_layers import from_dict
from templora_cli.errors import TemploraError
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
from templora_cli.sessions.checkpoint import commit_step
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.steps import before_proposal, folder_is_gone, read_chunks, thin
from templora_cli.sessions.store import Session
from templora_cli.sessions.summary import cache_summary, refresh_summary
from templora_cli.state import WritingState
from templora_cli.text import count_words

_PHASE = {
    ChunkRejected: "score",
    TextDecoded: "decode",
    ParagraphTranslated: "decode",
    ChunkScored: "score",
    TrainStep: "train",
    ChunkLearnt: "train",
}


class Recorder:
    """Commits each learnt chunk, times its phases, and updates the book file."""

    def __init__(self, session: Session, kind: TaskKind, state: WritingState) -> None:
        """`session` must be locked, and `state` must be that of its newest step."""
        self.session, self.kind, self.state = session, kind, state
        self.chunks: list[dict[str, Any]] = read_chunks(session.steps)
        """The values of `chunk.json` of all chunks."""
        refresh_summary(session.path, self.chunks, kind)
        self.book = kind.book_file(session)
        config = from_dict(session.manifest.config, str(session.path / "session.json"))
        self._retention = asdict(config.session)
        self.tokens_in_progress = 0
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    @property
    def done(self) -> int:
        """The progress towards the goal, in its unit."""
        return self.kind.done(self.chunks, self.session.manifest.goal_unit)

    def write_book(self) -> list[Event]:
        """Update the book file, if there is one; returns notices for the user."""
        notice = self.book.write() if self.book else None
        return [] if notice is None else [Notice(notice, important=True)]

    def record(self, event: Event) -> list[Event]:
        """Process an event of the loop; returns the events to pass on in its place."""
        now = time.perf_counter()
        if phase := _PHASE.get(type(event)):
            self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now
        if isinstance(event, ChunkStarted):
            self._seconds, self.tokens_in_progress = {}, 0
        elif isinstance(event, TextDecoded):
            self.tokens_in_progress = event.tokens
        elif isinstance(event, ChunkLearnt):
            events = self._commit(event)
            self._since = time.perf_counter()
            return events
        return [event]

    def _commit(self, event: ChunkLearnt) -> list[Event]:
        if not self.session.lock.is_locked:  # another process may have opened it
            raise TemploraError(f"session {self.session.id} was closed", self.session.resume_command)
        if not self.session.is_in_place:
            raise folder_is_gone(self.session.path)
        began = time.perf_counter()
        values = {**asdict(event), "words": count_words(event.text), "seconds": dict(self._seconds)}
        size = commit_step(self.session.steps, event.index, values, self.state)
        del values["prompt"], values["others"]  # stored in files of their own
        self.chunks.append(values)
        self.tokens_in_progress = 0
        needed = {*self.kind.needed(self.chunks), *before_proposal(self.chunks)}
        thin(self.session.steps, **self._retention, needed=needed)
        cache_summary(self.session.path, self.chunks, self.kind)
        if self.book:
            self.book.add(event.text)
        notices = self.write_book()
        self._seconds["commit"] = time.perf_counter() - began
        return [*notices, self._committed(event, values["words"], size)]

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
            entropy_base=event.entropy_base,
            entropy_adapter=event.entropy_adapter,
            completion_base=event.completion_base,
            completion_adapter=event.completion_adapter,
            repetition=event.repetition,
            rejection_reason=event.rejection_reason,
            train_losses=event.train_losses,
            lr=event.lr,
            seconds={phase: round(value, 3) for phase, value in self._seconds.items()},
            total_tokens=len(self.state.tokens),
            done=self.done,
            step_bytes=size,
        )
