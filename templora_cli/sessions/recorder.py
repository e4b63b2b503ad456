"""Events to committed steps: what the loop reports becomes what the session keeps."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from templora_cli.documents.text import book_as, write_atomically
from templora_cli.errors import TemploraError
from templora_cli.events import (
    ChunkCommitted,
    ChunkLearnt,
    ChunkScored,
    ChunkStarted,
    Event,
    Notice,
    TextDecoded,
    TrainStep,
)
from templora_cli.sessions.checkpoint import commit_step, read_chunks, set_aside_text, thin
from templora_cli.sessions.store import Session
from templora_cli.tasks.text import count_words
from templora_cli.temp_lora import WritingState

_PHASE = {TextDecoded: "decode", ChunkScored: "score", TrainStep: "train", ChunkLearnt: "train"}


class Recorder:
    """Commits each learnt chunk, keeps the time of its phases, and keeps the book file up to date."""

    def __init__(self, session: Session, state: WritingState) -> None:
        """`session` is locked and `state` is that of its newest step."""
        self.session = session
        self.state = state
        chunks = read_chunks(session.steps)
        self.text = "".join(chunk["text"] for chunk in chunks)
        self.own_text = "".join(chunk["text"] for chunk in chunks if chunk["origin"] == "own")
        self.own_tokens = sum(len(chunk["tokens"]) for chunk in chunks if chunk["origin"] == "own")
        self.chunks = len(chunks)
        self.tokens_in_progress = 0
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()
        # What the book file may hold without having been edited: it is written after the commit, so a
        # kill may have left it one chunk behind; it is ahead where a damaged step was set aside.
        behind = "".join(chunk["text"] for chunk in chunks[:-1])
        ahead = self.text + set_aside_text(session.steps, len(chunks))
        self._written = [self.text, behind, ahead]

    @property
    def done(self) -> int:
        """How much of the goal is there, in its unit."""
        unit = self.session.manifest.goal_unit
        return self.own_tokens if unit == "tokens" else count_words(self.own_text)

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
        chunk: dict[str, Any] = {**asdict(event), "words": words, "seconds": dict(self._seconds)}
        size = commit_step(self.session.steps, event.index, chunk, self.state)
        self.chunks += 1
        self._written = [self.text, self.text + event.text]
        self.text += event.text
        if event.origin == "own":
            self.own_text += event.text
            self.own_tokens += len(event.tokens)
        self.tokens_in_progress = 0
        thin(self.session.steps, self.session.manifest.config["session"]["keep_checkpoints"])
        notices = self.write_book()
        self._seconds["commit"] = time.perf_counter() - began
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
            train_losses=event.train_losses,
            lr=event.lr,
            seconds={phase: round(value, 3) for phase, value in self._seconds.items()},
            total_tokens=len(self.state.tokens),
            done=self.done,
            step_bytes=size,
        )

    def write_book(self) -> list[Event]:
        """Bring the file of `--out` up to date. One that a person has edited is set aside first."""
        if self.session.manifest.out is None:
            return []
        path = Path(self.session.manifest.out)
        notices: list[Event] = []
        try:
            if path.exists() and path.read_bytes() not in self._renderings(path):
                aside = _free_name(path)
                path.replace(aside)
                notices.append(Notice(f"{path.name} was edited: your version is kept as {aside}"))
            if self.text.strip():
                write_atomically(path, book_as(path, self.text))
        except OSError as error:
            raise TemploraError(
                f"{path} cannot be written: {error.strerror}. The session itself is safe",
                f"make room, then: {self.session.resume_command}",
            ) from error
        return notices

    def _renderings(self, path: Path) -> list[bytes]:
        return [book_as(path, text).encode("utf-8") for text in [*self._written, self.text]]


def _free_name(path: Path) -> Path:
    number = 1
    while (name := path.with_name(f"{path.stem}.edited-{number}{path.suffix}")).exists():
        number += 1
    return name
