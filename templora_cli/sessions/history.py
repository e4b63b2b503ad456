"""Learning committed chunks again, from a checkpoint on: what undoing and correcting a book rests on.

Nothing is decoded. What comes out is the state that would be there had the book been like that from the
beginning: learning draws only on the state itself.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.events import ChunkLearnt, ChunkRelearnt, Event, Notice, RebuildStarted, Working
from templora_cli.sessions.checkpoint import commit_step, restore_step
from templora_cli.sessions.steps import StepDamaged, committed_steps, thin
from templora_cli.sessions.store import Session, replace_steps
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.text import count_words
from templora_cli.turn import Task, Turn


@dataclass(frozen=True)
class Replay:
    """A book that is there, chunk by chunk. Implements `turn.Task`."""

    task: Task
    """Knows how a chunk of its kind comes again."""
    chunks: Sequence[Mapping[str, Any]]
    """The values of `chunk.json`, as they are to be."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """The chunk that follows those in `records`."""
        if len(records) == len(self.chunks):
            return None
        return self.task.replay(self.chunks[len(records)], book, records)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Turn:
        """See `turn.Task`."""
        return self.task.replay(chunk, book, records)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return self.task.text_stream(book)


def first_change(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> int:
    """The number of the first chunk that differs in what it brings; the length of both where none does."""
    brings = ("origin", "tokens", "record", "rejection_reason")
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        if any(old[name] != new[name] for name in brings):
            return number
    return min(len(before), len(after))


def relearn(
    session: Session,
    task: Task,
    chunks: Sequence[Mapping[str, Any]],
    first: int,
    model: AdaptedModel,
    backend: Backend,
    config: Config,
) -> Generator[Event, None, None]:
    """Put `chunks` in the place of those of the session; yields what is learnt again.

    `first` is the first that differs: learning goes on from the newest checkpoint before it. The new steps
    are made beside the old ones and take their place at once: a kill leaves the one or the other.
    """
    steps, new = session.steps, session.path / "steps.new"
    shutil.rmtree(new, ignore_errors=True)
    state, kept = state_before(first, steps, model, config)
    new.mkdir()
    for step in committed_steps(steps)[:kept]:
        shutil.copytree(step, new / step.name, copy_function=_link)
    since = time.perf_counter()
    yield RebuildStarted(session.id, kept, len(chunks) - kept)
    if kept < len(chunks):
        yield _relearning(kept, kept, len(chunks))
    for event in write(Replay(task, chunks), model, backend, state, config):
        if isinstance(event, Notice):
            yield event
        elif isinstance(event, ChunkLearnt):
            seconds = {"train": time.perf_counter() - since}
            chunk = {**asdict(event), "words": count_words(event.text), "seconds": seconds}
            commit_step(new, event.index, chunk, state, beside_others=True)
            thin(new, **asdict(config.session))
            since = time.perf_counter()
            yield ChunkRelearnt(event.index, event.train_losses)
            if event.index + 1 < len(chunks):
                yield _relearning(event.index + 1, kept, len(chunks))
    replace_steps(session.path)


def _relearning(number: int, kept: int, chunks: int) -> Working:
    return Working(f"learning the book anew, chunk {number - kept + 1} of {chunks - kept}")


def state_before(first: int, steps: Path, model: AdaptedModel, config: Config) -> tuple[WritingState, int]:
    """The newest state that knows only chunks before number `first`, and how many of them it knows."""
    state = WritingState.begin(model, config)
    for step in reversed(committed_steps(steps)[:first]):
        try:
            restore_step(steps, step, state)
        except (StepDamaged, OSError, ValueError, SafetensorError):
            continue  # thinned: text only
        return state, state.chunks
    return state, 0


def _link(source: str, target: str) -> str:
    """The same file under a second name where the disk can do that, else a copy."""
    try:
        os.link(source, target)
        return target
    except OSError:
        shutil.copy2(source, target)
        with Path(target).open("r+b") as stream:
            os.fsync(stream.fileno())
        return target
