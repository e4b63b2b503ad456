"""Learn committed chunks again from an older checkpoint, to undo or correct parts of a book.

Nothing is decoded. The result is the state of a book that had these chunks from the beginning, because
learning depends only on the state itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.events import (
    ChunkLearnt,
    ChunkRejected,
    ChunkRelearnt,
    Event,
    Notice,
    RebuildStarted,
    Working,
)
from templora_cli.files import link
from templora_cli.learning import learn_chunk
from templora_cli.prompt import Prompt
from templora_cli.sessions.checkpoint import commit_step, restore_latest, restore_step
from templora_cli.sessions.start import begin_state
from templora_cli.sessions.steps import (
    StepDamagedError,
    before_proposal,
    committed_steps,
    folder_is_gone,
    read_chunks,
    read_whole_chunk,
    read_whole_chunks,
    step_name,
    thin,
    verify_step,
)
from templora_cli.sessions.store import Session, replace_steps
from templora_cli.sessions.versions import FORGET, Reason, forget_versions, write_change
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.text import count_words
from templora_cli.turn import Chunk, Given, Task, Turn


@dataclass(frozen=True)
class Replay:
    """An existing book, repeated chunk by chunk. Implements `turn.Task`."""

    task: Task
    """The task of the book; its `replay` makes the turns."""
    chunks: Sequence[Mapping[str, Any]]
    """The `chunk.json` values of the whole book, corrections included."""
    prompts: Mapping[int, Prompt] = field(default_factory=dict)
    """The prompts of chunks before which nothing was changed, as they were when these were written."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """The chunk that follows those in `records`."""
        index = len(records)
        if index == len(self.chunks):
            return None
        turn = self.task.replay(self.chunks[index], book, records)
        prompt = self.prompts.get(index)
        return turn if prompt is None else replace(turn, prompt=prompt)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Turn:
        """See `turn.Task`."""
        return self.task.replay(chunk, book, records)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return self.task.text_stream(book)


AGAIN = "learning the book again"
TEXT = ("tokens", "record")
"""Values of a chunk on which the prompts of later ones depend."""
LEARNT = ("origin", "human", "proposed", "rejection_reason", *TEXT)
"""Values on which it depends how a chunk is learnt."""


def first_change(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    fields: Sequence[str] = LEARNT,
) -> int:
    """The index of the first chunk that is learnt differently; if none, the length of the shorter book."""
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        if any(old.get(name) != new.get(name) for name in fields):
            return index
    return min(len(before), len(after))


def relearn(
    session: Session,
    task: Task,
    chunks: Sequence[Mapping[str, Any]],
    first: int,
    model: AdaptedModel,
    backend: Backend,
    config: Config,
    reason: Reason | None,
    *,
    plan: str | None = None,
) -> Generator[Event, None, None]:
    """Replace the chunks of the session with `chunks`; yields an event for each chunk that is learnt again.

    `first` is the index of the first chunk that differs: learning starts at the newest checkpoint before it.
    Without a `reason` what is replaced is not kept: it had only been proposed, and has the same text now.
    `plan` is a new plan of the book. The new steps are built in a folder of their own, which replaces the old
    one at the end: a kill leaves either the old steps or the new ones.
    """
    steps = session.steps

    def known(values: dict[str, Any]) -> dict[str, Any]:
        index = values["index"]
        return _with_known(values, chunks[index], steps, unchanged=index < first)

    replay = Replay(task, chunks, _known_prompts(steps, chunks))
    doing = "learning" if reason is None else AGAIN
    build = _build(session, replay, first, chunks, known, model, backend, config, doing=doing)
    count = yield from build
    if reason is not None:
        write_change(steps, session.path / "steps.new", first, count, reason, plan=plan)
        if reason.kind == FORGET:  # before the book changes: a kill leaves nothing that is to be forgotten
            forget_versions(session.path)
    replace_steps(session.path)


def learn_later(
    session: Session,
    task: Task,
    chunks: Sequence[Mapping[str, Any]],
    model: AdaptedModel,
    backend: Backend,
    config: Config,
    reason: Reason,
) -> Generator[Event, None, None]:
    """Replace the chunks of the session with `chunks`, and learn what people changed as the next turn.

    The weights stay those of the old text, and are trained on the changed passages alone. Of the chunks from
    the first change on only the newest keeps weights: what is learnt again later is learnt in its place.
    """
    steps, new = session.steps, session.path / "steps.new"
    before = read_chunks(steps)
    first, known = first_change(before, chunks), {tuple(chunk["tokens"]): chunk["index"] for chunk in before}
    state = begin_state(session, model, config)
    yield from map(Notice, restore_latest(steps, state))
    if state.chunks != len(before):  # otherwise chunks that were set aside would never be learnt
        raise StepDamagedError("the newest checkpoint was damaged")
    replay = Replay(task, chunks, _known_prompts(steps, chunks))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    old = committed_steps(steps)
    for step in old[:first]:
        shutil.copytree(step, new / step.name, copy_function=link)
    book: list[int] = []
    records: list[Any] = []
    for index, chunk in enumerate(chunks):
        turn = replay.next_turn(book, records)
        assert isinstance(turn, Given), "only novels are learnt later"
        place = known.get(turn.tokens)
        parts = [part for part in turn.parts if part.origin == "human"]
        if index >= first and place is None and (parts or turn.origin == "human"):
            yield Working("learning what you changed")
            state.tokens[:] = book
            own = Chunk(turn.tokens, chunk["text"], turn.loss_mask, tuple(parts))
            passes = yield from learn_chunk(turn, own, model, backend, state, config)
            yield ChunkRelearnt(index, tuple(each.loss for each in passes))
        book += turn.tokens
        records.append(turn.record)
        if index >= first:
            same = {} if place is None else read_whole_chunk(old[place])
            values = {"prompt": turn.prompt.as_json(), **chunk, **same, "index": index, "record": turn.record}
            values |= {"words": count_words(chunk["text"])}
            is_last = index == len(chunks) - 1
            state.tokens[:], state.records[:], state.chunks = book, records, index + 1
            commit_step(new, index, values, state if is_last else None, is_rebuild=True)
    write_change(steps, new, first, len(chunks), reason)
    replace_steps(session.path)


def _known_prompts(steps: Path, chunks: Sequence[Mapping[str, Any]]) -> dict[int, Prompt]:
    """The prompts of new chunks that are already known, by their index: nothing before them has changed.

    Other prompts are built anew, and show the changed book.
    """
    old = committed_steps(steps)
    same = first_change(read_chunks(steps), chunks, TEXT)
    prompts = {}
    for index, chunk in enumerate(chunks):
        values = chunk.get("prompt")
        if values is None and index <= same and index < len(old):
            values = read_whole_chunk(old[index]).get("prompt")
        if values is not None:
            try:
                prompts[index] = Prompt.from_json(values)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise StepDamagedError(f"the prompt of chunk {index + 1} is not one") from None
    return prompts


def has_checkpoint_before(first: int, steps: Path) -> bool:
    """Is there a checkpoint before chunk `first` that is whole?"""
    for step in reversed(committed_steps(steps)[:first]):
        with suppress(StepDamagedError):
            verify_step(step)
            return True
    return False


@dataclass(frozen=True)
class Rewriting:
    """An existing book of which one part is written again. Implements `turn.Task`."""

    task: Task
    chunks: Sequence[Mapping[str, Any]]
    """The `chunk.json` values of the whole book as it was."""
    part: range
    """The chunks to be written again."""
    is_whole: Callable[[Sequence[Any]], bool]
    """Is the part written to its end with these records of its new chunks?"""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """A chunk before the part, a new chunk of it, or one after it."""
        done, start = len(records), self.part.start
        if done < start:
            return self.task.replay(self.chunks[done], book, records)
        new = next((n for n in range(1, done - start + 1) if self.is_whole(records[start : start + n])), None)
        if new is None:
            return self.task.next_turn(book, records)
        later = self.part.stop + done - start - new
        return self.task.replay(self.chunks[later], book, records) if later < len(self.chunks) else None

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Turn:
        """See `turn.Task`."""
        return self.task.replay(chunk, book, records)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return self.task.text_stream(book)


def rewrite(
    session: Session,
    rewriting: Rewriting,
    model: AdaptedModel,
    backend: Backend,
    config: Config,
    reason: Reason,
    *,
    take: int,
) -> Generator[Event, None, None]:
    """Write a part of the book again, and learn what follows it again; like `relearn` otherwise.

    `take` chooses the random numbers of the new chunks (`WritingState.take`).
    """
    first, chunks, steps = rewriting.part.start, rewriting.chunks, session.steps

    def known(values: dict[str, Any]) -> dict[str, Any]:
        index = values["index"]
        return _with_known(values, chunks[index], steps, unchanged=True) if index < first else values

    build = _build(session, rewriting, first, chunks, known, model, backend, config, take=take)
    count = yield from build
    write_change(steps, session.path / "steps.new", first, count, reason)
    replace_steps(session.path)


def _build(
    session: Session,
    task: Task,
    first: int,
    chunks: Sequence[Mapping[str, Any]],
    known: Callable[[dict[str, Any]], dict[str, Any]],
    model: AdaptedModel,
    backend: Backend,
    config: Config,
    *,
    take: int = 0,
    doing: str = AGAIN,
) -> Generator[Event, None, int]:
    """Build new steps in `steps.new` from the newest checkpoint before chunk `first`; returns their number.

    `known` adds to the values of a chunk what is known of it. About as many are made as there are `chunks`.
    """
    expected, steps, new = len(chunks), session.steps, session.path / "steps.new"
    shutil.rmtree(new, ignore_errors=True)
    state, unchanged = state_before(first, session, model, config)
    state.take = take
    new.mkdir()
    for step in committed_steps(steps)[:unchanged]:
        shutil.copytree(step, new / step.name, copy_function=link)
    began = since = time.perf_counter()
    count, seconds = unchanged, _seconds_to_learn(chunks[unchanged:])
    yield RebuildStarted(session.id, unchanged, expected - unchanged, seconds)
    if unchanged < expected:
        yield _relearning(doing, 1, expected - unchanged, seconds)
    for event in write(task, model, backend, state, config):
        if isinstance(event, Notice | ChunkRejected):
            yield event
        elif isinstance(event, ChunkLearnt):
            took = {"train": time.perf_counter() - since}
            values = {**asdict(event), "words": count_words(event.text), "seconds": took}
            chunk = known(values)
            if not steps.is_dir():
                raise folder_is_gone(session.path)
            commit_step(new, event.index, chunk, state, is_rebuild=True)
            thin(new, **asdict(config.session), needed=before_proposal(chunks))
            since, count = time.perf_counter(), event.index + 1
            yield ChunkRelearnt(event.index, event.train_losses)
            done, rest = count - unchanged, expected - count
            if rest > 0:
                yield _relearning(doing, done + 1, done + rest, (since - began) / done * rest)
    return count


def _seconds_to_learn(chunks: Sequence[Mapping[str, Any]]) -> float | None:
    """How long it may take to learn chunks again, by the time that it took; None if that is not known."""
    total = 0.0
    for chunk in chunks:
        phases = chunk.get("seconds")
        if not isinstance(phases, dict) or not phases:
            return None
        # While a chunk was decoded, it was predicted with the adapter; now that takes another pass.
        scoring = phases.get("score", 0.0) * (2 if "decode" in phases else 1)
        total += scoring + phases.get("train", 0.0)
    return total


def _with_known(
    values: dict[str, Any], chunk: Mapping[str, Any], steps: Path, *, unchanged: bool
) -> dict[str, Any]:
    """The values of a chunk that is learnt again, with what is known of the time when it was written.

    If nothing before it has changed, all stays as it was. A chunk with the same tokens after a change keeps
    its other candidates; its prompt shows the changed book.
    """
    if chunk.get("continues"):
        values = {**values, "continues": True}
    if "prompt" in chunk:  # of an earlier version of the book
        return {**values, **chunk}
    if "others" in chunk:  # another candidate was chosen
        return {**values, "others": chunk["others"], "candidate": chunk["candidate"]}
    try:
        old = read_whole_chunk(steps / step_name(values["index"]))
    except StepDamagedError:
        return values
    if unchanged:
        return {**values, **old}
    if tuple(old["tokens"]) == values["tokens"]:
        return {**values, **{key: old[key] for key in ("others", "candidate") if key in old}}
    return values


def truncate(session: Session, chunks: int, reason: Reason) -> bool:
    """Take back all but the first `chunks`, if the checkpoint after them is there; else nothing changes.

    Returns whether it is done. The model is not needed.
    """
    steps, new = session.steps, session.path / "steps.new"
    kept = committed_steps(steps)[:chunks]
    read_whole_chunks(steps)  # what is taken back can be brought back only if it is whole
    try:
        for last in kept[-1:]:
            verify_step(last)
    except StepDamagedError:
        return False
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for step in kept:
        shutil.copytree(step, new / step.name, copy_function=link)
    write_change(steps, new, chunks, chunks, reason)
    replace_steps(session.path)
    return True


def _relearning(doing: str, number: int, chunks: int, seconds: float | None) -> Working:
    return Working(f"{doing}, chunk {number} of {chunks}", seconds)


def state_before(
    first: int, session: Session, model: AdaptedModel, config: Config
) -> tuple[WritingState, int]:
    """The newest saved state from before chunk `first`, and the number of chunks that it has learnt."""
    state, steps = begin_state(session, model, config), session.steps
    for step in reversed(committed_steps(steps)[:first]):
        try:
            restore_step(steps, step, state)
        except (StepDamagedError, OSError, ValueError, SafetensorError):
            continue  # thinned: it has only its text
        return state, state.chunks
    return state, 0
