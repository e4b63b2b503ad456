"""Undo and restore: text and weights go back together, and nothing that was taken back is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from templora_cli import runner
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.novel.kind import NovelRequest, PlannedRequest
from templora_cli.novel.plan import plan_text, read_plan
from templora_cli.novel.task import Goal
from templora_cli.run import Run
from templora_cli.sessions.history import truncate
from templora_cli.sessions.steps import committed_steps, read_whole_chunks
from templora_cli.sessions.store import Store, finish_replacing_steps
from templora_cli.sessions.versions import Reason, changes_of, chunks_before, redraws_of
from tests.test_runner import config_of

BOOK = NovelRequest("A storm.", opening="It rained and rained.", goal=Goal(64, "tokens"), kind="drift")
"""Two human chunks and four generated ones."""
UNDO = Reason("undo", redraws=True)


@pytest.fixture
def config(tiny_model: Path) -> Config:
    config = config_of(tiny_model)
    return replace(config, session=replace(config.session, keep_checkpoints=2, grid_checkpoints=0))


@pytest.fixture
def book(config: Config) -> Run:
    with runner.begin(BOOK, config) as run:
        list(run.events())
    return run


PLAN = read_plan("# The Light\n\n## Storm (10 words)\n\n## Calm (10 words)\n\n## Port (10 words)\n")


def ends(records: Sequence[Any]) -> bool:
    return bool(records[-1]["chapter_end"])


def chapters_of(path: Path) -> list[list[tuple[int, ...]]]:
    """The tokens of the chunks of each chapter."""
    chapters: dict[int, list[tuple[int, ...]]] = {}
    for chunk in read_whole_chunks(path / "steps"):
        chapters.setdefault(chunk["record"]["chapter"], []).append(tuple(chunk["tokens"]))
    return list(chapters.values())


def test_one_chapter_is_written_again_and_the_others_stay(config: Config) -> None:
    with runner.begin(PlannedRequest("A storm.", plan=PLAN), config) as run:
        list(run.events())
    path, before, whole = run.session.path, chapters_of(run.session.path), state_of(run.session.path)
    start = len(before[0])
    with Store().open(path.name) as session:
        run = runner.reopen(session)
        part = range(start, start + len(before[1]))
        list(run.rewrite(part, ends, reason=Reason("rewrite", redraws=True)))
    after = chapters_of(path)
    assert len(after) == 3 and (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]
    tokens = [token for chapter in after for chunk in chapter for token in chunk]
    for chunk in read_whole_chunks(path / "steps"):
        record = chunk["record"]
        title = run.model.tokenizer.decode(tokens[record["heading"] : record["body"]])
        assert PLAN.chapters[record["chapter"]].title in title, "headings are where the records say"
    with Store().open(path.name) as session:
        list(runner.reopen(session).relearn(chunks_before(path, 1), reason=Reason("restore")))
    assert state_of(path) == whole


def state_of(path: Path) -> dict[str, Any]:
    """Text, prompts and newest weights of a session, bit for bit."""
    last = committed_steps(path / "steps")[-1]
    chunks = [{**chunk, "seconds": None} for chunk in read_whole_chunks(path / "steps")]
    bits = {
        name: tensor.numpy().tobytes()
        for file in ("adapter", "optimizer")
        for name, tensor in load_file(last / f"{file}.safetensors").items()
    }
    return {"chunks": chunks, "state": json.loads((last / "state.json").read_text()), **bits}


def undo(path: Path, keep: int) -> None:
    with Store().open(path.name) as session:
        list(runner.take_back(session, keep, UNDO))


@pytest.mark.parametrize("keep", [5, 4, 3, 2, 0])
def test_undoing_leads_back_to_the_state_before_bit_for_bit(config: Config, book: Run, keep: int) -> None:
    path = book.session.path
    whole = state_of(path)
    with runner.begin(BOOK, config, resume_same=False) as other:
        stop = threading.Event()
        for event in other.events(stop):
            if getattr(event, "index", -1) == keep - 1 and type(event).__name__ == "ChunkCommitted":
                stop.set()
    undo(path, keep)
    assert len(committed_steps(path / "steps")) == keep
    if keep:
        assert state_of(path) == state_of(other.session.path)
    assert chunks_before(path, 1) == read_whole_chunks_of(whole, path)
    assert not list(path.glob("steps.*"))


def read_whole_chunks_of(whole: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The chunks of `whole` with the seconds of those in the session."""
    return [
        {**chunk, "seconds": now["seconds"]}
        for chunk, now in zip(whole["chunks"], chunks_before(path, 1), strict=True)
    ]


def test_after_an_undo_the_book_goes_on_with_other_random_numbers(book: Run) -> None:
    path, text = book.session.path, book.text
    undo(path, 4)
    with runner.resume(path.name) as run:
        list(run.events())
        assert run.text != text and len(run.chunks) == 6
        again = run.text
    undo(path, 4)
    assert redraws_of(path) == 2
    with runner.resume(path.name) as run:
        list(run.events())
        assert run.text not in (text, again)


def test_what_was_undone_can_be_brought_back(book: Run) -> None:
    path = book.session.path
    whole = state_of(path)
    undo(path, 3)
    with runner.resume(path.name) as run:
        list(run.events())
    between = state_of(path)
    with Store().open(path.name) as session:
        run = runner.reopen(session)
        list(run.relearn(chunks_before(path, 1), reason=Reason("restore")))
    assert state_of(path) == whole
    with Store().open(path.name) as session:
        run = runner.reopen(session)
        list(run.relearn(chunks_before(path, 2), reason=Reason("restore")))
    assert state_of(path) == between
    assert [
        (change.kind, change.first, change.before, change.after) for change in changes_of(path).values()
    ] == [*[("undo", 3, 6, 3), ("restore", 3, 6, 6), ("restore", 3, 6, 6)]]


def test_a_checkpoint_that_is_there_needs_no_model(book: Run) -> None:
    def load(folder: Path, config: Config) -> Any:
        raise AssertionError("the model was loaded")

    with Store().open(book.session.id) as session:
        list(runner.take_back(session, 5, UNDO, engine=replace(runner.ENGINE, load=load)))
        with pytest.raises(AssertionError, match="was loaded"):
            list(runner.take_back(session, 2, UNDO, engine=replace(runner.ENGINE, load=load)))
    assert len(committed_steps(book.session.steps)) == 5


def test_a_stop_while_chunks_are_learnt_again_changes_nothing(book: Run) -> None:
    path, before = book.session.path, state_of(book.session.path)
    stop = threading.Event()
    with Store().open(path.name) as session:
        for event in runner.take_back(session, 3, UNDO, stop):
            if type(event).__name__ == "ChunkRelearnt":
                stop.set()
    assert state_of(path) == before and changes_of(path) == {}


@pytest.mark.parametrize("names", [["steps"], ["steps", "steps.old"], ["steps.old", "steps.new"]])
def test_a_kill_while_steps_are_replaced_keeps_book_and_change_together(book: Run, names: list[str]) -> None:
    """The states of the folder between the renames: the change counts exactly if the new steps do."""
    path = book.session.path
    with Store().open(path.name) as session:
        assert truncate(session, 5, UNDO)
    done, change = path / "steps", path / "versions" / "000001.json"
    change.replace(done / "change.json")
    if "steps.old" in names:
        (path / "steps.old").mkdir()
    if "steps.new" in names:
        done.rename(path / "steps.new")
    finish_replacing_steps(path)
    assert len(committed_steps(path / "steps")) == 5 and len(changes_of(path)) == 1
    assert sorted(file.name for file in path.glob("steps*")) == ["steps"]
    assert not (path / "steps" / "change.json").exists()


def test_a_damaged_change_is_reported(book: Run) -> None:
    path = book.session.path
    undo(path, 5)
    file = path / "versions" / "000001.json"
    text = file.read_text("utf-8")
    whole = json.loads(text)
    chunk = {**whole["replaced"][0], "tokens": [1, 2, 3]}
    changes = ({"first": 7}, {"replaced": [1]}, {"replaced": [chunk]}, {"redraws": "x"}, {"sha256": None})
    for damage in ("", "[]", "{}", "[" * 10**5, *(json.dumps({**whole, **change}) for change in changes)):
        file.write_text(damage, "utf-8")
        with pytest.raises(TemploraError, match=r"000001\.json is damaged") as raised:
            changes_of(path)
        assert "000001.lost" in str(raised.value.hint)


def test_a_book_goes_back_only_over_changes_that_are_there(book: Run) -> None:
    path = book.session.path
    for keep in (5, 4, 3):
        undo(path, keep)
    lost = path / "versions" / "000002.json"
    lost.rename(lost.with_suffix(".lost"))
    assert list(changes_of(path)) == [1, 3] and redraws_of(path) == 3
    assert len(chunks_before(path, 3)) == 4
    for number in (1, 2):
        with pytest.raises(TemploraError, match=r"change 2 is lost|no change number 2"):
            chunks_before(path, number)
    undo(path, 2)
    assert list(changes_of(path)) == [1, 3, 4]


def test_the_book_file_follows(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    with runner.begin(replace(BOOK, out=file), config) as run:
        list(run.events())
    undo(run.session.path, 4)
    assert file.read_text("utf-8").strip() == run.text.strip()
    file.write_text("mine", "utf-8")
    with Store().open(run.session.id) as session:
        events = list(runner.take_back(session, 3, UNDO))
    assert any("was edited: your version is saved" in getattr(event, "message", "") for event in events)
    assert (tmp_path / "book.edited-1.txt").read_text("utf-8") == "mine"
    undo(run.session.path, 0)
    assert not file.read_text("utf-8").strip()


def test_a_book_cannot_get_back_chapters_that_its_plan_has_changed(config: Config) -> None:
    with runner.begin(PlannedRequest("A storm.", plan=PLAN), config) as run:
        list(run.events())
    path, starts = run.session.path, run.kind.chapter_starts(run.chunks)
    undo(path, starts[2])
    changed = replace(PLAN, chapters=(*PLAN.chapters[:2], replace(PLAN.chapters[2], title="Harbour")))
    run.session.plan_path.write_text(plan_text(changed), "utf-8")
    with (
        Store().open(path.name) as session,
        pytest.raises(TemploraError, match="chapter 3, Port, is written"),
    ):
        run.kind.check_chunks(session, chunks_before(path, 1))
