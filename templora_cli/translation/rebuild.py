"""Learning a book anew from its first corrected chunk, so that what comes next follows the corrections."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from templora_cli.config import Config
from templora_cli.engine.decoding.base import Backend
from templora_cli.events import ChunkLearnt, ChunkRelearnt, Event, Notice, RebuildStarted
from templora_cli.sessions.checkpoint import (
    StepDamaged,
    commit_step,
    committed_steps,
    read_chunks,
    restore_step,
    thin,
)
from templora_cli.sessions.store import Session, swap_steps
from templora_cli.temp_lora import Model, WritingState, write
from templora_cli.text import count_words
from templora_cli.translation.task import TranslationTask


def rebuild(
    session: Session,
    model: Model,
    backend: Backend,
    config: Config,
    task: TranslationTask,
    records: Sequence[Any],
) -> Iterator[Event]:
    """Put `records` in the place of those of the session's chunks; yields what is learnt anew.

    From the newest checkpoint before the first record that differs, forward; nothing is decoded. The new
    steps are made beside the old ones and take their place at once: a kill leaves the one or the other.
    """
    steps, new = session.steps, session.path / "steps.new"
    shutil.rmtree(new, ignore_errors=True)
    before = [chunk["record"] for chunk in read_chunks(steps)]
    first = next(
        (i for i, (old, now) in enumerate(zip(before, records, strict=True)) if old != now), len(before)
    )
    state, kept = _state_before(first, steps, model, config)
    new.mkdir()
    for step in committed_steps(steps)[:kept]:
        shutil.copytree(step, new / step.name, copy_function=_link)
    taken = sum(len(record["paragraphs"]) for record in records)
    again = replace(task, paragraphs=task.paragraphs[:taken], replayed=records)
    since = time.perf_counter()
    yield RebuildStarted(session.id, kept, len(records) - kept)
    for event in write(again, model, backend, state, config):
        if isinstance(event, Notice):
            yield event
        elif isinstance(event, ChunkLearnt):
            seconds = {"train": time.perf_counter() - since}
            chunk = {**asdict(event), "words": count_words(event.text), "seconds": seconds}
            commit_step(new, event.index, chunk, state)
            thin(new, config.session.keep_checkpoints, spread=True)
            since = time.perf_counter()
            yield ChunkRelearnt(event.index, event.train_losses)
    swap_steps(session.path)


def _state_before(first: int, steps: Path, model: Model, config: Config) -> tuple[WritingState, int]:
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
