"""The runner as a library: sessions begin, stop and resume in threads and processes, without a terminal."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from benchmarks.tiny_model import save_tiny_model
from templora_cli import runner
from templora_cli.config import Config
from templora_cli.config_layers import from_dict
from templora_cli.documents.registry import read_document
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.events import (
    ChunkCommitted,
    ChunkLearnt,
    ChunkStarted,
    Event,
    Finished,
    Interrupted,
    Notice,
    SessionOpened,
    TextBefore,
    TextDecoded,
    TrainStep,
    TranslationFinished,
    Working,
)
from templora_cli.languages import language
from templora_cli.novel.kind import NovelRequest, PlannedRequest
from templora_cli.novel.plan import plan_text, read_plan
from templora_cli.novel.task import Goal
from templora_cli.prepare import ENGINE, Engine
from templora_cli.run import NOT_EXACT, Run
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from templora_cli.sessions.summary import cached_summary, summary_of
from templora_cli.text import count_words
from templora_cli.translation.kind import TranslationRequest

ROOT = Path(__file__).parents[1]
BOOK = NovelRequest("A storm.", opening="It rained and rained.", goal=Goal(48, "tokens"), kind="drift")
"""Two human chunks and three generated ones. Books of this kind end exactly at their goal."""


def config_of(model: Path, **changes: Any) -> Config:
    values = {
        "model": {"name": str(model), "device": "cpu"},
        "decode": {"chunk_tokens": 16, "context_tokens": 24},
        "train": {"rank": 2, "alpha": 2, "dropout": 0.1},
        "human": {"lr": 1e-2},
        "generated": {"lr": 1e-2},
        "gate": {"prose": False, "stop": False, "max_attempts": 2},
        "seed": 5,
    }
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    return from_dict(values, "test")


@pytest.fixture
def config(tiny_model: Path) -> Config:
    return config_of(tiny_model)


def outcome(session: Path) -> dict[str, Any]:
    """The parts of a book that must be equal bit for bit: its chunks and its newest state."""
    chunks = [{**chunk, "seconds": None} for chunk in read_chunks(session / "steps")]
    last = committed_steps(session / "steps")[-1]
    tensors = [load_file(last / f"{name}.safetensors") for name in ("adapter", "optimizer")]
    assert all(tensors)
    bits = {name: tensor.numpy().tobytes() for part in tensors for name, tensor in part.items()}
    return {"chunks": chunks, "state": (last / "state.json").read_text(), **bits}


@cache
def uninterrupted(config: Config, request: NovelRequest = BOOK) -> dict[str, Any]:
    """The outcome of an unstopped book; its session is deleted."""
    with runner.begin(request, config) as run:
        assert isinstance(list(run.events())[-1], Finished)
    result = outcome(run.session.path)
    shutil.rmtree(run.session.path)
    return result


def stopped(run: Run, at: Callable[[Event], bool], **how: Any) -> list[Event]:
    """Run, and stop at the first event for which `at` is true."""
    stop = threading.Event()
    events = []
    for event in run.events(stop, **how):
        events.append(event)
        if at(event):
            stop.set()
    return events


def first_committed(event: Event) -> bool:
    return isinstance(event, ChunkCommitted) and event.index == 0


def is_free(session: Path) -> bool:
    """Can the session be opened for writing?"""
    lock = FileLock(session / "lock")
    lock.acquire(timeout=0)
    lock.release()
    return True


# --- begin, events, text -----------------------------------------------------------------------------


def test_a_run_writes_a_book_to_its_end(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    notices: list[Event] = []
    with runner.begin(BOOK, config, notify=notices.append) as run:
        assert run.text == "" and run.chunks == []
        assert not (run.session.path / "steps" / "000000").exists(), "nothing runs before `events`"
        events = list(run.events())
        chunks, text = run.chunks, run.text
    assert notices[0] == Working(f"loading {config.model.name}")
    opened, last = events[0], events[-1]
    assert isinstance(opened, SessionOpened) and (opened.chunks, opened.done, opened.goal) == (0, 0, 48)
    assert opened.session == run.session.id == Store().find(None).name
    assert opened.opening_tokens == len("It rained and rained.")
    assert isinstance(last, Finished) and last.chunks == len(chunks) == 5
    committed = [event for event in events if isinstance(event, ChunkCommitted)]
    assert [event.origin for event in committed] == ["human"] * 2 + ["generated"] * 3
    assert "".join(event.text for event in committed) == text == "".join(chunk["text"] for chunk in chunks)
    assert text.startswith("It rained and rained.")
    assert not any(isinstance(event, ChunkLearnt) for event in events), "only committed chunks are events"
    assert capfd.readouterr() == ("", ""), "it prints nothing"
    assert is_free(run.session.path)


def test_after_chunk_is_called_for_each_chunk(config: Config) -> None:
    measured: list[tuple[int, int]] = []

    def measure(index: int, state: Any) -> None:
        measured.append((index, len(state.tokens)))

    def third_measurement(event: Event) -> bool:
        return isinstance(event, Working) and event.message == "measuring" and len(measured) == 2

    with runner.begin(BOOK, config) as run:
        stopped(run, third_measurement, after_chunk=measure)
    with runner.resume(run.session.id) as run:
        list(run.events(after_chunk=measure))
    expected = [(-1, 0), (0, 16), (1, 21), (1, 21), (2, 37), (3, 53), (4, 69)]
    assert measured == expected, "a resumed run measures the last chunk again"


# --- stop and resume ---------------------------------------------------------------------------------


def go_on_here(session: str, more: runner.Length | None = None) -> None:
    with runner.resume(session, more=more) as run:
        assert isinstance(list(run.events())[-1], Finished)


def go_on_in_a_thread(session: str) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            go_on_here(session)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors, errors


def in_another_process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


GO_ON = """
import sys
from templora_cli import runner
for session in sys.argv[1:]:
    with runner.resume(session) as run:
        print(*(type(event).__name__ for event in run.events()))
"""


STOPS: dict[str, Callable[[Event], bool]] = {
    "after the first chunk": first_committed,
    "while a chunk is decoded": lambda event: isinstance(event, TextDecoded) and event.tokens == 5,
    "while a chunk is learnt": lambda event: isinstance(event, TrainStep) and event.index == 3,
    "before the end": lambda event: isinstance(event, ChunkStarted) and event.index == 4,
}


@pytest.mark.parametrize("go_on", [go_on_here, go_on_in_a_thread])
@pytest.mark.parametrize("at", STOPS)
def test_a_stopped_book_equals_an_unstopped_one(
    at: str, go_on: Callable[[str], None], config: Config
) -> None:
    with runner.begin(BOOK, config) as run:
        last = stopped(run, STOPS[at])[-1]
        assert isinstance(last, Interrupted) and last == run.interrupted()
        assert last.chunks == len(run.chunks) < 5
        assert last.resume_command == f"templora resume {run.session.id}"
    go_on(run.session.id)
    assert outcome(run.session.path) == uninterrupted(config)
    assert cached_summary(run.session.path, run.kind) == summary_of(run.chunks, run.kind)


def test_another_process_can_resume(config: Config) -> None:
    sessions = []
    for at in STOPS.values():
        with runner.begin(BOOK, config) as run:
            stopped(run, at)
        sessions.append(run.session.path)
    done = in_another_process(GO_ON, *(session.name for session in sessions))
    assert done.returncode == 0, done.stderr
    for session, line in zip(sessions, done.stdout.splitlines(), strict=True):
        assert line.split()[0] == "SessionOpened" and line.split()[-1] == "Finished"
        assert outcome(session) == uninterrupted(config)


def test_a_run_in_a_thread_can_be_stopped_by_another(config: Config) -> None:
    stop, events, committed = threading.Event(), list[Event](), threading.Event()
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]

    def work() -> None:
        with runner.begin(BOOK, config) as run:
            for event in run.events(stop):
                events.append(event)
                if first_committed(event):
                    committed.set()
                    stop.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert committed.wait(60)
    stop.set()
    thread.join(60)
    assert isinstance(events[-1], Interrupted) and events[-1].chunks == 1
    go_on_here(events[-1].session)
    assert outcome(Store().find(None)) == uninterrupted(config)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers


def test_a_chunk_in_progress_is_reported_and_dropped(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        last = stopped(run, STOPS["while a chunk is decoded"])[-1]
    assert isinstance(last, Interrupted) and (last.chunks, last.dropped_tokens) == (2, 5)
    assert sorted(path.name for path in run.session.steps.iterdir()) == ["000000", "000001"]


def test_ctrl_c_inside_the_loop_leaves_a_resumable_session(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        events = run.events()
        for event in events:
            if isinstance(event, TrainStep) and event.index == 2:
                with pytest.raises(KeyboardInterrupt):
                    events.throw(KeyboardInterrupt())
        assert run.interrupted().chunks == 2
    assert is_free(run.session.path)
    go_on_here(run.session.id)
    assert outcome(run.session.path) == uninterrupted(config)


def test_ctrl_c_in_the_caller_leaves_a_resumable_session(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt), runner.begin(BOOK, config) as run:
        for event in run.events():
            if isinstance(event, TextDecoded):
                raise KeyboardInterrupt
    go_on_here(run.session.id)
    assert outcome(run.session.path) == uninterrupted(config)


# --- repeated runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["before it is learnt", "when it is learnt"])
def test_a_run_continues_after_a_stop_before_the_first_commit(at: str, config: Config) -> None:
    """By then the adapter may have learnt a chunk that is not committed."""
    kind = ChunkStarted if at == "before it is learnt" else TrainStep
    with runner.begin(BOOK, config) as run:
        last = stopped(run, lambda event: isinstance(event, kind))[-1]
        assert isinstance(last, Interrupted) and last.chunks == 0
        assert isinstance(list(run.events())[-1], Finished)
    assert outcome(run.session.path) == uninterrupted(config)


@pytest.mark.parametrize("at", STOPS)
def test_a_run_continues_after_a_stop(at: str, config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        stopped(run, STOPS[at])
        assert isinstance(list(run.events())[-1], Finished)
        again = list(run.events())
    assert [type(event) for event in again] == [SessionOpened, Finished], "nothing remains to do"
    assert outcome(run.session.path) == uninterrupted(config)


def test_consecutive_runs_are_independent(config: Config, tiny_base_model: Path) -> None:
    expected = uninterrupted(config)
    with runner.begin(BOOK, config) as first:
        stopped(first, first_committed)
    with runner.begin(BOOK, config_of(tiny_base_model, seed=6, train={"rank": 4})) as other:
        list(other.events())
    go_on_here(first.session.id)
    with runner.begin(BOOK, config) as second:
        list(second.events())
    assert outcome(first.session.path) == outcome(second.session.path) == expected
    assert outcome(other.session.path) != expected


def test_a_run_uses_the_threads_of_its_session(config: Config) -> None:
    threads, seen = torch.get_num_threads(), set[int]()
    try:
        with runner.begin(BOOK, config) as run:
            torch.set_num_threads(threads + 1)  # as another run in this process may do
            list(run.events(after_chunk=lambda *_: seen.add(torch.get_num_threads())))
            torch.set_num_threads(threads + 1)
            for _ in run.relearn(without_the_third(run)):
                seen.add(torch.get_num_threads())
        assert seen == {threads}
    finally:
        torch.set_num_threads(threads)


def without_the_third(run: Run) -> list[dict[str, Any]]:
    """The chunks of a run, with the third one (the first generated one) marked as rejected."""
    first, second, third, *rest = run.chunks
    return [first, second, {**third, "rejection_reason": "it loops"}, *rest]


def test_learning_again_starts_with_an_untrained_adapter(config: Config) -> None:
    """Not with the adapter that the run has in memory."""
    outcomes = []
    for reopen in (True, False):
        with runner.begin(BOOK, config) as run:
            list(run.events())
            for step in committed_steps(run.session.steps)[:-1]:  # as after thinning
                (step / "state.json").unlink()
            chunks = without_the_third(run)
            if not reopen:
                list(run.relearn(chunks))
        if reopen:
            with Store().open(run.session.id) as session:
                list(runner.reopen(session).relearn(chunks))
        outcomes.append(outcome(run.session.path))
        assert cached_summary(run.session.path, run.kind) == summary_of(run.chunks, run.kind)
    assert outcomes[0] == outcomes[1] and outcomes[0]["chunks"][2]["train_losses"] == []


def test_stopping_while_learning_again_changes_nothing(config: Config) -> None:
    stop = threading.Event()
    with runner.begin(BOOK, config) as run:
        list(run.events())
        before = outcome(run.session.path)
        chunks = without_the_third(run)
        for event in run.relearn(chunks, stop):
            if isinstance(event, Working):
                stop.set()
        assert outcome(run.session.path) == before
        list(run.relearn(chunks))
        assert run.chunks[2]["rejection_reason"] == "it loops" and outcome(run.session.path) != before


def test_a_killed_replacement_of_steps_is_completed_by_the_next_run(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        list(run.events())
        before = outcome(run.session.path)
        run.session.steps.rename(run.session.path / "steps.old")
        list(run.events())
        assert outcome(run.session.path) == before, "not a new book"


def test_the_book_file_is_updated_after_learning_again(config: Config) -> None:
    request = replace(BOOK, out=Path("book.txt"))
    with runner.begin(request, config) as run:
        list(run.events())
        assert run.session.manifest.out == str(Path("book.txt").absolute())
        first, second, *rest = run.chunks
        events = list(run.relearn([first, {**second, "tokens": list(b" It shone.")}, *rest]))
        assert not [event for event in events if isinstance(event, Notice)]
        assert Path("book.txt").read_text().strip() == run.text.strip() and "It shone." in run.text
    go_on_here(run.session.id, more=(1, "chunks"))
    assert not list(Path().glob("book.edited*")), "text by templora is not an edit"


def test_a_book_whose_only_step_is_damaged_restarts_in_the_same_run(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        stopped(run, first_committed)
        (step,) = committed_steps(run.session.steps)
        (step / "adapter.safetensors").write_bytes(b"")
        list(run.events())
    assert outcome(run.session.path) == uninterrupted(config)


def test_a_closed_run_commits_nothing(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        events = run.events()
        while not first_committed(next(events)):
            pass
    with pytest.raises(TemploraError, match="was closed"):
        list(events)
    assert len(committed_steps(run.session.steps)) == 1


def test_a_stop_directly_after_a_commit_drops_nothing(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        for event in run.events():
            if isinstance(event, ChunkCommitted) and event.index == 2:
                break
        assert run.interrupted().chunks == 3
        shutil.copytree(committed_steps(run.session.steps)[-1], run.session.steps / "000003")
        assert (run.interrupted().chunks, run.interrupted().dropped_tokens) == (4, 0)


@pytest.mark.parametrize("missing", ["premise", "opened"])
def test_a_session_with_an_incomplete_request_is_refused(missing: str, config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        stopped(run, first_committed)
    file = run.session.path / "session.json"
    values = json.loads(file.read_text())
    del values["request"][missing]
    file.write_text(json.dumps(values))
    assert f"lacks {missing} in its request" in refusal(run.session.id).message
    assert is_free(run.session.path)


def test_a_session_in_a_renamed_folder_is_resumed_there(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        stopped(run, first_committed)
    elsewhere = run.session.path.rename(run.session.path.with_name("renamed-1a2b"))
    go_on_here("renamed-1a2b")
    assert outcome(elsewhere) == uninterrupted(config) and not run.session.path.exists()


def test_nested_values_get_the_defaults_of_the_kind(config: Config, tiny_model: Path) -> None:
    values = {"model": {"name": str(tiny_model)}, "decode": {"chunk_tokens": 64, "context_tokens": 64}}
    values["gate"] = {"prose": False, "stop": False}
    with runner.begin(translation(config), values) as run:
        assert (run.config.decode.temperature, run.config.generated.context_tokens) == (0.0, 256)
    with runner.begin(BOOK, values) as run:
        assert (run.config.decode.temperature, run.config.generated.context_tokens) == (0.8, 0)


# --- extending a book --------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "goal"), [((2, "chunks"), (5, "chunks")), ((20, "tokens"), (68, "tokens"))])
def test_an_extended_book_equals_a_long_one(
    more: runner.Length, goal: tuple[int, Any], config: Config
) -> None:
    with runner.begin(BOOK, config) as run:
        list(run.events())
    with runner.resume(run.session.id, more=more) as run:
        assert (run.session.manifest.goal_amount, run.session.manifest.goal_unit) == goal
        list(run.events())
    assert outcome(run.session.path) == uninterrupted(config, replace(BOOK, goal=Goal(*goal)))


def test_a_book_can_be_extended_in_words(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        list(run.events())
        done = run.kind.done(run.chunks, "words")
    with runner.resume(more=(3, "words")) as run:
        assert (run.session.manifest.goal_amount, run.session.manifest.goal_unit) == (done + 3, "words")


def test_without_an_id_the_last_session_is_resumed(config: Config) -> None:
    sessions = []
    for _ in range(2):
        with runner.begin(BOOK, config) as run:
            stopped(run, first_committed)
            sessions.append(run.session.id)
    with runner.resume() as run:
        assert run.session.id == sessions[1]
    with runner.resume(sessions[0]) as run:
        pass
    with runner.resume() as run:
        assert run.session.id == sessions[0], "it was opened last"


def test_a_resumed_book_begins_with_the_end_of_its_text(config: Config) -> None:
    def texts_before(run: Run, index: int) -> list[Event]:
        events = stopped(run, lambda event: isinstance(event, ChunkCommitted) and event.index == index)
        return [event for event in events if isinstance(event, TextBefore)]

    with runner.begin(BOOK, config) as run:
        assert texts_before(run, 0) == []
    with runner.resume(run.session.id) as run:
        assert texts_before(run, 2) == [], "the opening goes on"
    with runner.resume(run.session.id) as run:
        text = run.text
        assert text and texts_before(run, 3) == [TextBefore(text[-2000:])]


def test_resume_same_continues_an_equal_session(config: Config) -> None:
    with runner.begin(BOOK, config, resume_same=True) as run:
        stopped(run, first_committed)
    with runner.begin(BOOK, config, resume_same=True) as again:
        assert again.session.id == run.session.id
        list(again.events())
    with runner.begin(BOOK, config) as other:
        assert other.session.id != run.session.id
    assert outcome(run.session.path) == uninterrupted(config)


# --- refusals ----------------------------------------------------------------------------------------

REFUSED = """
import sys
from templora_cli import runner
from templora_cli.errors import TemploraError
try:
    runner.resume(sys.argv[1])
except TemploraError as error:
    print(error.message)
"""


def test_an_open_session_is_refused_in_every_process(config: Config) -> None:
    message = "session {} is being written by another process"
    with runner.begin(BOOK, config) as run:
        name = run.session.id
        elsewhere = in_another_process(REFUSED, name)
        assert elsewhere.stdout.strip() == message.format(name), elsewhere.stderr
        with pytest.raises(TemploraError, match=message.format(name)):
            runner.resume(name)
        with pytest.raises(TemploraError, match=message.format(name)):
            runner.begin(BOOK, config, resume_same=True)
        list(run.events())
    with runner.resume(name, more=(1, "tokens")):
        pass


def refusal(session: str | None = None, more: runner.Length | None = None) -> TemploraError:
    with pytest.raises(TemploraError) as caught:
        runner.resume(session, more=more)
    assert is_free(Store().find(session)), "it can be opened again"
    return caught.value


def test_a_finished_book_is_not_resumed_without_a_length(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        list(run.events())
        words = count_words("".join(chunk["text"] for chunk in run.chunks))
    name = run.session.id
    error = refusal()
    assert error.message == f"{name} is finished: 48 of 48 new tokens, {words} words with your opening"
    assert error.hint == f"to extend it: templora resume {name} --chunks 4"
    shutil.rmtree(committed_steps(run.session.steps)[-1])
    go_on_here(name)
    assert len(read_chunks(run.session.steps)) == 5, "a lost last step is written again"


def test_a_measured_session_is_resumed_only_by_its_command(config: Config) -> None:
    measured = NovelRequest(
        "A storm.", goal=Goal(32, "tokens"), kind="drift", measured_by="templora eval drift"
    )
    with runner.begin(measured, config) as run:
        stopped(run, first_committed)
    for more in (None, (1, "chunks")):
        error = refusal(more=more)  # type: ignore[arg-type]
        assert error.message == f"{run.session.id} can only be continued by the command that measures it"
        assert error.hint == "templora eval drift (with the same arguments)"


def translation(config: Config) -> TranslationRequest:
    Path("book.txt").write_text("Eins.\n\nZwei ist gut.\n")
    document, languages = read_document(Path("book.txt")), (language("de"), language("en"))
    return TranslationRequest(document, Path("book.txt"), languages, Path("out.txt").absolute(), 0, 2)


def test_a_translation_cannot_be_extended(config: Config) -> None:
    with runner.begin(translation(config), config) as run:
        name = run.session.id
    error = refusal(more=(2, "chunks"))
    assert error.message == f"{name} cannot be made longer"
    assert error.hint == f"leave out the length: templora resume {name}"
    with runner.resume() as run:
        assert isinstance(list(run.events())[-1], TranslationFinished)
    with runner.resume() as run:  # a finished one writes its document again
        assert isinstance(list(run.events())[-1], TranslationFinished)


def test_a_session_of_an_unknown_kind_is_refused(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        run.session.update(task="poem")
    error = refusal()
    name = run.session.id
    assert error.message == f"session {name}: poem is a kind of task that this version does not know"
    assert error.hint == "pip install --upgrade templora"


def test_a_request_of_an_unknown_kind_leaves_nothing(config: Config) -> None:
    with pytest.raises(ValueError, match="poem is not a kind of task"):
        runner.begin(NovelRequest("A storm.", kind="poem"), config)
    assert not Store().folder.exists()


def test_a_replaced_model_is_refused(tiny_model: Path, tiny_base_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    with runner.begin(BOOK, config_of(folder)) as run:
        stopped(run, first_committed)
    shutil.rmtree(folder)
    shutil.copytree(tiny_base_model, folder)
    error = refusal()
    assert error.message == f"the model in {folder} has changed since session {run.session.id} began"


def test_the_new_location_of_a_model_is_saved(tiny_model: Path, tmp_path: Path, config: Config) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    with runner.begin(BOOK, config_of(folder)) as run:
        stopped(run, first_committed)
    moved = folder.rename(tmp_path / "moved")
    error = refusal()
    assert error.hint == f"if it has moved: templora resume {run.session.id} --model PATH"
    with runner.resume(model=str(moved)) as run:
        stopped(run, lambda event: isinstance(event, ChunkCommitted))
    with runner.resume() as run:
        list(run.events())
    assert outcome(run.session.path) == uninterrupted(config)


def test_a_session_gets_the_requested_name(config: Config) -> None:
    with runner.begin(BOOK, config, name="harbour") as run:
        assert run.session.id == Store().find(None).name == "harbour"
    for name, complaint in (
        ("harbour", "a session called harbour already exists"),
        ("A b", "cannot be called"),
    ):
        with pytest.raises(TemploraError, match=complaint):
            runner.begin(BOOK, config, name=name)
    notices: list[Event] = []
    with runner.begin(BOOK, config, name="port", resume_same=True, notify=notices.append) as run:
        assert run.session.id == "harbour"
    renaming = "to rename it: templora sessions rename harbour port"
    assert Notice(f"session harbour has the same settings and is continued; {renaming}") in notices
    with runner.begin(replace(BOOK, premise="A calm."), config, name="port", resume_same=True) as run:
        assert run.session.id == "port"
    with pytest.raises(TemploraError, match="a session called port already exists"):
        runner.begin(replace(BOOK, premise="A fog."), config, name="port", resume_same=True)


def test_a_taken_name_is_refused_before_the_model_is_loaded(config: Config) -> None:
    def load(folder: Path, config: Config) -> LanguageModel:
        raise AssertionError("loaded")

    with runner.begin(BOOK, config, name="harbour"):
        pass
    engine = replace(ENGINE, load=load)
    others = (replace(BOOK, premise="A calm."), config), (BOOK, replace(config, seed=config.seed + 1))
    for request, settings in others:
        with pytest.raises(TemploraError, match="a session called harbour already exists"):
            runner.begin(request, settings, engine=engine, resume_same=True, name="harbour")
    with runner.begin(BOOK, config, resume_same=True, name="harbour") as run:
        assert run.session.id == "harbour"


def test_resuming_without_sessions_is_refused() -> None:
    with pytest.raises(TemploraError, match="there is no session"):
        runner.resume()


def test_invalid_settings_leave_the_session_unlocked(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        changed = {**run.session.manifest.config, "seed": "seven"}
        run.session.update(config=changed)
    assert "seed" in refusal().message


# --- failures ----------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def full(handle: int) -> None:
        if list(Store().folder.glob("*/steps/.000003.tmp")):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with runner.begin(BOOK, config) as run:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(TemploraError, match="the disk is full") as caught:
                list(run.events())
        assert caught.value.hint == f"free disk space, then: templora resume {run.session.id}"
        assert len(run.chunks) == run.interrupted().chunks == 3
        list(run.events())
    assert outcome(run.session.path) == uninterrupted(config)


class RecordingBackend(EagerBackend):
    """Records its prompts, and can fail at one of them."""

    fails_at = -1

    def __init__(self, model: LanguageModel, name: str) -> None:
        super().__init__(model.module)
        self.prompts: list[list[int]] = []
        backends.append(self)

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        self.prompts.append(list(prompt))
        if len(self.prompts) == self.fails_at:
            raise MemoryError
        yield from super().decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop)


backends: list[RecordingBackend] = []


@pytest.fixture(autouse=True)
def forget_backends() -> Iterator[None]:
    yield
    backends.clear()


class FailingBackend(RecordingBackend):
    fails_at = 2


def test_an_out_of_memory_error_says_that_chunks_are_safe(config: Config) -> None:
    with runner.begin(BOOK, config, engine=Engine(backend=FailingBackend)) as run:
        with pytest.raises(TemploraError, match="not enough memory") as caught:
            list(run.events())
        assert str(caught.value.hint).startswith(
            f"the committed chunks are safe in session {run.session.id}; "
        )
        assert len(run.chunks) == 3


def test_a_damaged_step_is_reported_and_written_again(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        stopped(run, lambda event: isinstance(event, ChunkStarted) and event.index == 4)
    (committed_steps(run.session.steps)[-1] / "adapter.safetensors").write_bytes(b"damaged")
    with runner.resume() as run:
        events = list(run.events())
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert "adapter.safetensors does not match its checksum" in notice.message
    assert events.index(notice) == 1 and outcome(run.session.path) == uninterrupted(config)


def test_an_inexact_backend_is_reported(config: Config) -> None:
    class Inexact(RecordingBackend):
        def __init__(self, model: LanguageModel, name: str) -> None:
            super().__init__(model, name)
            self.exact = False

    with runner.begin(BOOK, config, engine=Engine(backend=Inexact)) as run:
        assert Notice(NOT_EXACT) in list(run.events())


# --- saved prompts -----------------------------------------------------------------------------------


def prompts_of(run: Run) -> list[dict[str, Any]]:
    return [
        json.loads((step / "prompt.json").read_text("utf-8")) for step in committed_steps(run.session.steps)
    ]


def test_the_saved_prompt_is_the_prompt_of_the_model(config: Config) -> None:
    with runner.begin(BOOK, config, engine=Engine(backend=RecordingBackend)) as run:
        list(run.events())
        generated = [
            prompt
            for prompt, chunk in zip(prompts_of(run), run.chunks, strict=True)
            if chunk["origin"] == "generated"
        ]
    (backend,) = backends
    assert [prompt["header"] + prompt["context"] for prompt in generated] == backend.prompts
    assert len(generated) == 3 and [len(prompt["context"]) for prompt in generated] == [21, 24, 24]
    book = [token for chunk in run.chunks for token in chunk["tokens"]]
    assert generated[0]["context"] == book[:21] and generated[1]["context"] == book[37 - 24 : 37]
    for prompt in prompts_of(run):
        assert prompt["sections"]["premise"] == ["A storm."] and prompt["dropped"] == {}
        assert "A storm." in run.model.tokenizer.decode(prompt["header"])


def test_the_saved_prompt_of_a_translation_begins_each_prompt(config: Config) -> None:
    with runner.begin(translation(config), config, engine=Engine(backend=RecordingBackend)) as run:
        list(run.events())
    (prompt, *_) = prompts_of(run)
    saved = prompt["header"] + prompt["context"]
    (backend,) = backends
    assert backend.prompts and all(received[: len(saved)] == saved for received in backend.prompts)


# --- without a terminal ------------------------------------------------------------------------------

LIGHT = """
import sys
import templora_cli.runner
print(*sorted({"torch", "transformers", "numpy", "typer", "rich", "click"} & sys.modules.keys()))
"""


def test_the_runner_can_be_imported_without_torch_or_terminal_libraries() -> None:
    done = in_another_process(LIGHT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


TERMINAL_CODE = {"commands", "render", "cli.py", "interrupts.py", "__main__.py"}
PROGRAMS = {"gguf_process.py"}
"""Files that run in separate processes."""
FILES = [
    file
    for file in sorted((ROOT / "templora_cli").rglob("*.py"))
    if file.relative_to(ROOT / "templora_cli").parts[0] not in TERMINAL_CODE and file.name not in PROGRAMS
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "templora_cli")))
def test_other_code_neither_exits_nor_prints_nor_uses_signals(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Name):
            names = {node.id}
        else:
            names = {node.attr} if isinstance(node, ast.Attribute) else set()
        assert not names & {"SystemExit", "Exit", "exit", "_exit", "signal", "typer", "rich", "print"}


def test_no_signal_handler_is_changed(config: Config) -> None:
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def changed() -> set[int]:
        return {number for number in handlers if signal.getsignal(number) != handlers[number]}

    with runner.begin(BOOK, config) as run:
        for _ in run.events():
            assert not changed()
    with runner.resume(more=(1, "tokens")) as run:
        list(run.events())
    assert not changed()


def test_the_default_engine_is_used(config: Config) -> None:
    with runner.begin(BOOK, config) as run:
        assert run.engine is ENGINE


def test_a_note_that_is_too_long_changes_nothing(config: Config) -> None:
    with runner.begin(replace(BOOK, note="Slower."), config) as run:
        stopped(run, first_committed)
    with pytest.raises(TemploraError, match="the note has"):
        runner.resume(run.session.id, note="slow " * 500)
    with runner.resume(run.session.id) as run:
        assert run.session.manifest.request["note"] == "Slower."


def test_a_ledger_that_comes_later_must_fit_into_the_window(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", positions=520)
    config = config_of(model, decode={"context_tokens": 64, "chunk_tokens": 64, "recall": False})
    with runner.begin(replace(BOOK, goal=Goal(400, "tokens")), config) as run:
        stopped(run, first_committed)
    run.session.ledger_path.write_text('[[person]]\nname = "Mira"\nalways = true\n')
    with runner.resume(run.session.id) as run, pytest.raises(TemploraError, match="with the ledger and"):
        stopped(run, first_committed)
    run.session.ledger_path.write_text("")
    with runner.resume(run.session.id) as run:
        stopped(run, first_committed)


def test_a_planned_book_goes_on_after_its_end_and_shows_the_text_before(config: Config) -> None:
    plan = read_plan("# The Light\n\n## Storm (10 words)\n\n## Calm (10 words)\n")
    with runner.begin(PlannedRequest("A storm.", plan=plan), config) as run:
        stopped(run, first_committed)
    name = run.session.id
    with runner.resume(name) as run:
        text, events = run.text, list(run.events())
    assert [event for event in events if isinstance(event, TextBefore)] == [TextBefore(text)]
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.resume_command == f"templora plan {name} --edit"
    error = refusal(name, more=(2, "chunks"))
    assert error.hint == f"to add chapters: templora plan {name} --edit"
    longer = plan_text(replace(plan, chapters=(*plan.chapters, replace(plan.chapters[1], title="Port"))))
    run.session.plan_path.write_text(longer)
    with runner.resume(name) as run:
        assert isinstance(list(run.events())[-1], Finished)
    assert "Chapter 3: Port" in run.text and run.session.manifest.goal_amount == 3
