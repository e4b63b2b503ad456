"""The recorder commits chunks, passes on events, and reports progress."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from templora_cli.events import (
    ChunkCommitted,
    ChunkLearnt,
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    Event,
    Notice,
    ParagraphTranslated,
    SectionCut,
    TextDecoded,
    TrainStep,
)
from templora_cli.sessions.checkpoint import restore_latest
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.recorder import Recorder
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Session, Store
from templora_cli.state import WritingState
from templora_cli.task_kinds import KINDS
from tests.sessions.test_checkpoint import state_of
from tests.sessions.test_store import VALUES

PAUSE = 0.02
PROMPT = {"header": [1], "context": [], "sections": {"premise": ["A storm."]}, "dropped": {}}


def begun(task: str = "novel", unit: str = "tokens", **values: Any) -> Session:
    manifest = Manifest(
        **{**VALUES, "id": f"{task}-{unit}", "opened": "2026", "task": task, "goal_unit": unit, **values}
    )
    return Store().create(manifest, opening=(), source=None)


def recorder_of(session: Session, state: WritingState) -> Recorder:
    return Recorder(session, KINDS[session.manifest.task], state)


def learnt(index: int, text: str, origin: str = "generated", record: Any = None) -> ChunkLearnt:
    return ChunkLearnt(
        index=index,
        origin=origin,  # type: ignore[arg-type]
        tokens=tuple(text.encode()),
        text=text,
        nll_base=2.5,
        nll_adapter=2.0,
        entropy_base=3.0,
        entropy_adapter=2.9,
        completion_base=0.01,
        completion_adapter=0.02,
        repetition=0.25,
        rejection_reason=None,
        train_losses=(2.0, 1.5),
        lr=1e-3,
        record=record,
        candidate=1,
        prompt=PROMPT,
    )


def commit(recorder: Recorder, state: WritingState, event: ChunkLearnt) -> list[Event]:
    """As the loop has it when it says so: the state holds the chunk."""
    state.tokens += event.tokens
    state.records.append(event.record)
    state.chunks += 1
    return recorder.record(event)


def test_a_learnt_chunk_is_committed_and_reported_as_committed(tiny_model: Path) -> None:
    session, state = begun(), state_of(tiny_model)
    recorder = recorder_of(session, state)
    (committed,) = commit(recorder, state, learnt(0, "He went. She stayed."))
    (chunk,) = read_chunks(session.steps)
    fields = chunk["index"], chunk["text"], chunk["words"], chunk["candidate"], chunk["train_losses"]
    assert fields == (0, "He went. She stayed.", 4, 1, [2.0, 1.5])
    (step,) = committed_steps(session.steps)
    assert json.loads((step / "prompt.json").read_text()) == PROMPT and "prompt" not in chunk
    assert isinstance(committed, ChunkCommitted)
    assert (committed.index, committed.tokens, committed.words, committed.gain, committed.lr) == (
        0,
        20,
        4,
        0.5,
        1e-3,
    )
    assert (committed.total_tokens, committed.done) == (20, 20)
    assert committed.step_bytes == sum(file.stat().st_size for file in step.iterdir())
    fresh = state_of(tiny_model)
    assert restore_latest(session.steps, fresh) == [] and fresh.tokens == state.tokens


def test_all_other_events_are_passed_on_unchanged(tiny_model: Path) -> None:
    recorder = recorder_of(begun(), state_of(tiny_model))
    events = [
        ChunkStarted(0, "generated", 0, 8),
        SectionCut(0, "plan", 1, 2),
        TextDecoded(0, "He", 1),
        ChunkRejected(0, "it loops"),
        ChunkScored(0, 2.0, 2.0, 0.0, None),
        TrainStep(0, 1, 1, 2.0, 1e-3),
        Notice("mind"),
    ]
    assert [recorder.record(event) for event in events] == [[event] for event in events]
    assert not recorder.chunks and not list(recorder.session.steps.iterdir())


def test_the_time_before_an_event_counts_for_its_phase(tiny_model: Path) -> None:
    session, state = begun(), state_of(tiny_model)
    recorder = recorder_of(session, state)
    phases: list[tuple[int, Event]] = [
        (1, ChunkStarted(0, "generated", 0, 8)),
        (2, TextDecoded(0, "He", 1)),
        (1, ChunkRejected(0, "it loops")),
        (2, ParagraphTranslated(0, 0, "1", "Er", "He", 1, ())),
        (2, ChunkScored(0, 2.0, 2.0, 0.0, None)),
        (6, TrainStep(0, 1, 1, 2.0, 1e-3)),
    ]
    began = time.perf_counter()
    for pauses, event in phases:
        time.sleep(pauses * PAUSE)
        recorder.record(event)
    time.sleep(PAUSE)
    (committed,) = commit(recorder, state, learnt(0, "He went."))
    took = time.perf_counter() - began
    assert isinstance(committed, ChunkCommitted)
    saved = read_chunks(session.steps)[0]["seconds"]
    assert saved.keys() == {"decode", "score", "train"} and committed.seconds.keys() == {*saved, "commit"}
    assert all(
        saved[phase] >= pauses * PAUSE for phase, pauses in (("decode", 4), ("score", 3), ("train", 7))
    )
    assert sum(committed.seconds.values()) <= took - PAUSE + 0.01, "what came before the chunk is not counted"
    recorder.record(ChunkStarted(1, "generated", 0, 8))
    recorder.record(ChunkScored(1, 2.0, 2.0, 0.0, None))
    commit(recorder, state, learnt(1, "She stayed."))
    assert "decode" not in read_chunks(session.steps)[1]["seconds"], "each chunk has its own"


def test_tokens_in_progress_are_the_tokens_that_a_stop_drops(tiny_model: Path) -> None:
    state = state_of(tiny_model)
    recorder = recorder_of(begun(), state)
    counts = []
    for event in (ChunkStarted(0, "generated", 0, 8), TextDecoded(0, "H", 1), TextDecoded(0, "e", 2)):
        recorder.record(event)
        counts.append(recorder.tokens_in_progress)
    commit(recorder, state, learnt(0, "He"))
    assert [*counts, recorder.tokens_in_progress] == [0, 1, 2, 0] and len(recorder.chunks) == 1


def paragraphs(*numbers: int) -> dict[str, Any]:
    return {"paragraphs": [{"paragraph": number} for number in numbers]}


@pytest.mark.parametrize(
    ("task", "unit", "counts"),
    [
        ("novel", "tokens", [0, 10, 20]),
        ("novel", "words", [0, 3, 3]),
        ("ppl", "tokens", [9, 19, 29]),
        ("translation", "paragraphs", [2, 3, 6]),
    ],
)
def test_the_progress_of_a_book_in_its_unit(
    task: str, unit: str, counts: list[int], tiny_model: Path
) -> None:
    """Of a novel what the model wrote counts; words go over the borders of chunks."""
    session, state = begun(task, unit), state_of(tiny_model)
    recorder = recorder_of(session, state)
    assert recorder.done == 0
    events = [
        learnt(0, "An opener", "human", paragraphs(0, 1)),
        learnt(1, " He was un", record=paragraphs(2)),
        learnt(2, "fathomable", record=paragraphs(3, 4, 5)),
    ]
    progress = []
    for event in events:
        committed = commit(recorder, state, event)[-1]
        assert isinstance(committed, ChunkCommitted) and committed.done == recorder.done
        progress.append(recorder.done)
        assert KINDS[task].done(read_chunks(session.steps), unit) == recorder.done
    again = state_of(tiny_model)
    restore_latest(session.steps, again)
    assert recorder_of(session, again).done == recorder.done, "also after a resume"
    assert progress == counts


def test_the_book_file_is_updated_after_each_chunk_and_edits_are_reported_first(tiny_model: Path) -> None:
    session, state = begun(out=str(Path("book.txt").absolute())), state_of(tiny_model)
    recorder = recorder_of(session, state)
    commit(recorder, state, learnt(0, "He went. "))
    assert Path("book.txt").read_text() == "He went.\n"
    Path("book.txt").write_text("Mine.")
    notice, committed = commit(recorder, state, learnt(1, "She stayed."))
    assert isinstance(notice, Notice) and "book.edited-1.txt" in notice.message
    assert isinstance(committed, ChunkCommitted) and committed.index == 1
    assert Path("book.txt").read_text() == "He went. She stayed.\n"


def test_old_steps_are_thinned_as_the_settings_say(tiny_model: Path) -> None:
    config = {**VALUES["config"], "session": {"keep_checkpoints": 1, "grid_checkpoints": 1}}
    session, state = begun(config=config), state_of(tiny_model)
    recorder = recorder_of(session, state)
    for number in range(5):
        commit(recorder, state, learnt(number, "He went. "))
    checkpoints = [int(file.parent.name) for file in sorted(session.steps.glob("*/state.json"))]
    assert checkpoints == [3, 4], "the newest, and the fourth"
