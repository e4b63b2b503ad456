"""`templora sessions`, and sessions whose model has moved: messages and files."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import Result

from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.files import bytes_below
from templora_cli.novel.kind import Novel
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from templora_cli.sessions.summary import cache_summary
from tests.commands.test_cli import EXACT, events_of, message_of, only_session, templora, write
from tests.random_text import RANDOM_TEXT
from tests.sessions.test_store import create
from tests.sessions.test_summary import append_chunks, chunk

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(RANDOM_TEXT + "[train]\nrank = 2\nalpha = 2\n")


def hint_of(result: Result) -> str:
    return str(getattr(result.exception, "hint", "")) or result.stderr.rpartition("hint: ")[2].strip()


def text_of(session: Path) -> str:
    return "".join(chunk["text"] for chunk in read_chunks(session / "steps"))


# --- a model that has moved --------------------------------------------------------------------------


@pytest.fixture
def moved(tiny_model: Path) -> Path:
    """The new location of a model that was moved after a book was written with it."""
    folder = shutil.copytree(tiny_model, "model")
    assert write(Path(folder), "--chunks", "2", "--name", "storm").exit_code == 0
    return Path(folder).rename("moved")


def test_a_book_is_resumed_with_a_moved_model(moved: Path, tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "4", "--name", "uninterrupted", "-q")
    lost = templora("resume", "storm", "--chunks", "1")
    assert lost.exit_code == 2 and "is not where it was" in lost.stderr
    assert hint_of(lost) == "if it has moved: templora resume storm --model PATH"
    assert templora("resume", "storm", "--chunks", "1", "--model", moved).exit_code == 0
    assert load_manifest(only_session()).model == "moved"
    again = templora("resume", "storm", "--chunks", "1", "--json")
    assert again.exit_code == 0, "the new location is saved"
    assert events_of(again)[0]["model"] == "moved"
    assert text_of(Store().find("storm")) == text_of(Store().find("uninterrupted"))


def test_a_different_model_is_refused(moved: Path, tiny_base_model: Path) -> None:
    before = (only_session() / "session.json").read_bytes()
    other = templora("resume", "storm", "--chunks", "1", "--model", tiny_base_model)
    assert other.exit_code == 2 and "is not the model that" in other.stderr.replace("\n", " ")
    assert hint_of(other) == "if it has moved: templora resume storm --model PATH"
    for name, complaint in (("./nowhere", "there is no file or folder"), (".", "no config.json")):
        wrong = templora("resume", "storm", "--chunks", "1", "--model", name)
        assert wrong.exit_code == 2 and complaint in wrong.stderr
    assert (only_session() / "session.json").read_bytes() == before
    shutil.copytree(moved, "model")
    (Path("model") / "config.json").unlink()
    incomplete = templora("resume", "storm", "--chunks", "1")
    assert incomplete.exit_code == 2 and "has no config.json" in incomplete.stderr, (
        "the folder exists, but has no model"
    )
    assert hint_of(incomplete) == "if it has moved: templora resume storm --model PATH"


def test_the_hint_for_a_missing_named_model_is_to_pull_or_locate_it(moved: Path) -> None:
    with Store().open("storm") as session:
        config = session.manifest.config
        named = {**config, "model": {**config["model"], "name": "smollm2-135m"}}
        session.update(model="smollm2-135m", config=named)
    lost = templora("resume", "storm", "--chunks", "1")
    assert "smollm2-135m is not on this machine" in lost.stderr.replace("\n", " ")
    hint = "templora models pull smollm2-135m, or if it has moved: templora resume storm --model PATH"
    assert hint_of(lost) == hint
    assert templora("resume", "storm", "--chunks", "1", "--model", moved).exit_code == 0


def test_an_evaluation_is_resumed_with_a_moved_model(tiny_model: Path) -> None:
    Path("book.txt").write_text("The keeper went up the stairs. " * 6)
    arguments = ("--chunk-tokens", "32", "--context-tokens", "48", "--json")
    folder = Path(shutil.copytree(tiny_model, "model"))
    first = templora("eval", "ppl", "book.txt", "--model", folder, *arguments)
    assert first.exit_code == 0
    shutil.rmtree(committed_steps(only_session() / "steps")[-1])
    folder.rename("moved")
    again = templora("eval", "ppl", "book.txt", "--model", "moved", *arguments)
    assert json.loads(again.stdout)["rows"] == json.loads(first.stdout)["rows"]
    (session,) = Store().folder.iterdir()
    assert load_manifest(session).folder == str(Path("moved").absolute())


def test_a_book_file_in_a_deleted_folder_can_be_replaced(tiny_model: Path) -> None:
    Path("books").mkdir()
    write(tiny_model, "--chunks", "1", "--out", "books/storm.md", "--name", "storm")
    shutil.rmtree("books")
    lost = templora("resume", "storm", "--chunks", "1")
    assert lost.exit_code == 2 and hint_of(lost) == "name another file: templora resume storm --out FILE"
    Path("mine.txt").write_text("mine")
    for out, complaint in (("mine.txt", "does not overwrite"), ("book.pdf", "written as .md or .txt")):
        wrong = templora("resume", "storm", "--chunks", "1", "--out", out)
        assert wrong.exit_code == 2 and complaint in wrong.stderr
    assert Path("mine.txt").read_text() == "mine"
    assert templora("resume", "storm", "--chunks", "1", "--out", "storm.txt").exit_code == 0
    assert Path("storm.txt").read_text() == text_of(only_session()).strip() + "\n"
    templora("resume", "storm", "--chunks", "1")
    assert Path("storm.txt").read_text() == text_of(only_session()).strip() + "\n"


# --- names -------------------------------------------------------------------------------------------


def test_a_session_can_be_named_and_renamed(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1", "--name", "灯塔").exit_code == 0
    assert only_session().name == "灯塔"
    taken = write(tiny_model, "--chunks", "1", "--name", "灯塔")
    assert taken.exit_code == 2 and "a session called 灯塔 already exists" in taken.stderr
    invalid = write(tiny_model, "--chunks", "1", "--name", "My Book")
    assert (
        invalid.exit_code == 2
        and hint_of(invalid) == "--name my-book"
        and len(list(Store().folder.iterdir())) == 1
    )
    wrong = templora("sessions", "rename", "灯", "My Book")
    assert hint_of(wrong) == "templora sessions rename 灯塔 my-book"
    assert templora("sessions", "rename", "灯", "harbour").stdout == "灯塔 renamed to harbour\n"
    assert templora("resume", "harb", "--chunks", "1", "-q").exit_code == 0
    assert json.loads(templora("sessions", "show", "harbour", "--json").stdout)["chunks"] == 2


# --- the disk ----------------------------------------------------------------------------------------


def test_a_list_shows_the_disk_use(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "3", "--name", "storm")
    listed = templora("sessions", "list")
    (row,) = json.loads(templora("sessions", "list", "--json").stdout)
    used = sum(file.stat().st_size for file in only_session().rglob("*") if file.is_file())
    assert row["disk_bytes"] == pytest.approx(used, abs=1000), "without the summary, which stores this number"
    assert "disk" in listed.stdout and str(Store().folder) in listed.stderr
    assert "templora sessions shrink SESSION" in listed.stderr and "templora sessions rm" in listed.stderr
    (only_session() / "summary.json").unlink()
    (again,) = json.loads(templora("sessions", "list", "--json").stdout)
    assert again["disk_bytes"] == bytes_below(only_session())
    assert "templora sessions shrink storm" in templora("sessions", "show", "storm").stdout


@pytest.mark.parametrize("cached", [True, False])
def test_a_book_killed_before_its_last_sentence_ended_is_not_finished(cached: bool) -> None:
    for name, text in (("half", "He looked at the"), ("whole", "He looked up. ")):
        with create(name) as session:
            append_chunks(session.path, [chunk(text)])
            if cached:
                cache_summary(session.path, read_chunks(session.steps), Novel())
    rows = json.loads(templora("sessions", "list", "--json", engine=None).stdout)
    assert {row["session"]: row["state"] for row in rows} == {"half": "16 of 10 tokens", "whole": "finished"}


def test_a_shrunk_book_is_extended_exactly(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "4", "--name", "uninterrupted", "-q")
    write(tiny_model, "--chunks", "3", "--name", "storm", "-q")
    before = json.loads(templora("sessions", "show", "storm", "--json").stdout)["disk_bytes"]
    output = templora("sessions", "shrink", "storm", "--yes").stdout
    assert output.startswith("storm shrunk, ") and output.endswith(" freed\n")
    after = json.loads(templora("sessions", "show", "storm", "--json").stdout)["disk_bytes"]
    assert after < before / 2 and "shrink" not in templora("sessions", "show", "storm").stdout
    assert templora("resume", "storm", "--chunks", "1", "-q").exit_code == 0
    assert text_of(Store().find("storm")) == text_of(Store().find("uninterrupted"))
    steps = [committed_steps(Store().find(name) / "steps")[-1] for name in ("storm", "uninterrupted")]
    for name in ("adapter.safetensors", "optimizer.safetensors", "state.json"):
        assert (steps[0] / name).read_bytes() == (steps[1] / name).read_bytes()


def test_sessions_are_removed_by_explicit_names_only() -> None:
    for name in ("storm-0001", "storm-0002", "calm-0003"):
        create(name).lock.release()
    for arguments, complaint in (
        (["storm", "--yes"], "matches several sessions: storm-0001, storm-0002"),
        (["calm", "nosuch", "--yes"], "no session is called nosuch"),
        (["", "--yes"], "an empty name matches several"),
        (["calm"], "cannot ask for confirmation"),
    ):
        refused = templora("sessions", "rm", *arguments)
        assert refused.exit_code != 0 and complaint in message_of(refused)
    assert templora("sessions", "rm", "--yes").exit_code == 2, "the last session is not the default"
    with FileLock(Store().folder / "storm-0002" / "lock"):
        used = templora("sessions", "rm", "calm", "storm-0002", "--yes")
    assert "storm-0002 is being written by another process" in message_of(used)
    assert len(list(Store().folder.iterdir())) == 3
    lines = templora("sessions", "rm", "calm", "calm-0003", "storm-0001", "-y").stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == ["calm-0003 deleted", "storm-0001 deleted"]
    assert [path.name for path in Store().folder.iterdir()] == ["storm-0002"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "is_deleted"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_deletion_asks_for_confirmation(answer: str, is_deleted: bool) -> None:
    create("storm-0001").lock.release()
    terminal, stdin = pty.openpty()
    os.write(terminal, answer.encode())
    done = subprocess.run(
        [sys.executable, "-m", "templora_cli", "sessions", "rm", "storm"],
        stdin=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(terminal)
    os.close(stdin)
    assert done.returncode == 0 and "storm-0001: " in done.stderr and "[y/N]" in done.stderr
    assert (Store().folder / "storm-0001").exists() != is_deleted
    assert ("nothing was deleted" in done.stderr) != is_deleted and ("freed" in done.stdout) == is_deleted


# --- exporting again ---------------------------------------------------------------------------------


def test_an_export_is_overwritten_but_an_edited_one_is_not(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1", "--name", "storm", "-q")
    for _ in range(2):
        assert templora("sessions", "export", "--out", "book.txt").exit_code == 0
        assert Path("book.txt").read_text() == text_of(only_session()).strip() + "\n"
        templora("resume", "--chunks", "1", "-q")
    Path("book.txt").write_text("my own words\n")
    refused = templora("sessions", "export", "--out", "book.txt")
    assert "it was changed or is not from session storm" in message_of(refused)
    assert (
        hint_of(refused)
        == f"--force renames it to book.edited-1.txt; or --out {Path('book-2.txt').absolute()}"
    )
    assert Path("book.txt").read_text() == "my own words\n"
    forced = templora("sessions", "export", "--out", "book.txt", "--force")
    assert forced.exit_code == 0 and "book.edited-1.txt" in forced.stderr
    assert Path("book.edited-1.txt").read_text() == "my own words\n"
    assert Path("book.txt").read_text() == text_of(only_session()).strip() + "\n"


# --- unlearnt chunks and damaged sessions ------------------------------------------------------------

MEASUREMENTS: dict[str, Any] = {
    "train_losses": [2.0],
    "repetition": 0.1,
    "seconds": {"train": 1.0},
    "rejection_reason": None,
}


class Looping(EagerBackend):
    """Writes the same letter for ever."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        super().__init__(model.module)

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        yield from [DecodedToken(ord("a"))] * max_tokens


def test_unlearnt_chunks_are_shown(tiny_model: Path) -> None:
    loops = replace(EXACT, backend=Looping)
    unlearnt = events_of(write(tiny_model, "--chunks", "3", "--json", engine=loops))[-1]["not_learnt"]
    assert [chunk["index"] for chunk in unlearnt] == [0, 1, 2]
    assert all("it loops" in chunk["rejection_reason"] for chunk in unlearnt)
    shown = templora("sessions", "show")
    assert "not learnt: 3 of 3 chunks\n" in shown.stdout
    assert f"  chunk 1: {unlearnt[0]['rejection_reason']}\n" in shown.stdout
    assert json.loads(templora("sessions", "show", "--json").stdout)["not_learnt"] == unlearnt
    summary = templora("resume", "--chunks", "1", engine=loops).stderr
    assert "4 of 4 chunks were not learnt: chunk 1 (it loops: " in summary
    assert "and 1 more\n" in summary and f"templora sessions show {only_session().name}\n" in summary


def create_session(name: str) -> Path:
    with create(name) as session:
        append_chunks(session.path, [{**chunk(), **MEASUREMENTS, "index": index} for index in range(2)])
    return session.path


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def commit_incomplete_chunk(session: Path) -> None:
    """Replace a chunk by one with a valid checksum that lacks measurements."""
    shutil.rmtree(session / "steps" / "000001")
    append_chunks(session, [{"text": "", "tokens": [], "origin": "generated"}])


def commit_list(session: Path) -> None:
    """Replace a chunk by a JSON list with a valid checksum."""
    shutil.rmtree(session / "steps" / "000001")
    append_chunks(session, [[]])  # type: ignore[list-item]


DAMAGES: dict[str, Any] = {
    "an invalid chunk": lambda path: (path / "steps/000001/chunk.json").write_text("{"),
    "a missing chunk": lambda path: (path / "steps/000001/chunk.json").unlink(),
    "a missing step": lambda path: shutil.rmtree(path / "steps/000000"),
    "invalid checksums": lambda path: (path / "steps/000000/checksums.json").write_text("[]"),
    "a file in place of a step": lambda path: (path / "steps/000002").write_text(""),
    "an incomplete chunk": commit_incomplete_chunk,
    "a chunk that is a list": commit_list,
    "a manifest that is not JSON": lambda path: (path / "session.json").write_text("{"),
    "a manifest that is not an object": lambda path: (path / "session.json").write_text("[]"),
    "a mistyped field": lambda path: rewrite(path / "session.json", threads="many"),
    "a newer format": lambda path: rewrite(path / "session.json", format=99),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_session_is_reported_with_a_hint(damage: str) -> None:
    path = create_session("storm-0001")
    create_session("calm-0002")
    assert templora("sessions", "show", "storm").exit_code == 0
    DAMAGES[damage](path)
    for arguments in (["show", "storm"], ["show", "storm", "--json"]):
        result = templora("sessions", *arguments)
        assert result.exit_code != 0 and result.stdout == ""
        message, hint = message_of(result), hint_of(result)
        assert "session storm-0001" in message and "\n" not in message
        assert hint in (
            "templora resume storm-0001",
            "to save its text: templora sessions export storm-0001",
            "pip install --upgrade templora",
        )
    listed = templora("sessions", "list")
    assert listed.exit_code == 0 and "calm-0002" in listed.stdout, "intact sessions are listed too"
    assert "storm-0001" in listed.stdout + listed.stderr
    assert "damaged" in listed.stdout + listed.stderr or damage in (
        "a newer format",
        "a manifest that is not an object",
    )
    assert templora("sessions", "rm", "storm", "--yes").exit_code == 0 and not path.exists()


@pytest.mark.parametrize(
    "changes", [{"config": {"train": []}}, {"config": {}}, {"request": {}}, {"task": "?"}]
)
def test_a_session_with_an_unexpected_manifest_is_shown(changes: dict[str, Any]) -> None:
    rewrite(create_session("storm-0001") / "session.json", **changes)
    for arguments in (["show"], ["show", "--json"], ["list"], ["list", "--json"]):
        result = templora("sessions", *arguments)
        assert result.exit_code == 0 and "storm-0001" in result.stdout


@pytest.mark.parametrize("command", ["show", "path", "export"])
def test_an_unknown_id_is_reported_with_a_hint(command: str) -> None:
    create_session("storm-0001")
    result = templora("sessions", command, "calm")
    assert message_of(result) == "no session is called calm" and hint_of(result) == "templora sessions list"


@pytest.mark.parametrize("command", ["sessions show", "sessions rm", "resume", "review", "sync", "retry"])
@pytest.mark.parametrize(
    ("name", "typed"), [("ferry", "fery"), ("lighthouse-keeper-3fa2", "lighthuose-keeper"), ("ferry", "fre")]
)
def test_a_mistyped_id_is_corrected(name: str, typed: str, command: str) -> None:
    create_session(name)
    create_session("zzz-0001")
    result = templora(*command.split(), typed)
    assert f"no session is called {typed}" in message_of(result)
    assert hint_of(result) == f"did you mean {name}? To list all: templora sessions list"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("export ferry --out 'a b.md'", "templora sessions export ferry --out 'a b.md'"),
        ("rm ferry", "templora sessions rm ferry"),
        ("list", "templora sessions list, or templora models list"),
        ("pull x", "templora models pull x"),
    ],
)
def test_a_command_without_its_group_is_completed(typed: str, hint: str) -> None:
    result = templora(*shlex.split(typed))
    assert str(result.exception) == f"there is no command {shlex.split(typed)[0]}"
    assert hint_of(result) == hint


def test_a_command_that_does_not_exist_is_an_error() -> None:
    assert "No such command" in templora("exprot").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("command", ["rm", "shrink"])
def test_a_session_in_use_is_refused_before_the_question(command: str) -> None:
    session = create("storm-0001")
    terminal, stdin = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "templora_cli", "sessions", command, "storm"],
        stdin=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(terminal)
    os.close(stdin)
    session.lock.release()
    assert done.returncode == 2 and "is being written by another process" in done.stderr
    assert "[y/N]" not in done.stderr


@pytest.mark.parametrize("stop", [False, True], ids=["at the next commit", "by Ctrl-C"])
def test_a_session_that_is_deleted_while_it_is_written_ends_with_an_error(
    stop: bool, tiny_model: Path
) -> None:
    class Deleting(EagerBackend):
        def reset(self) -> None:
            if committed_steps(Store().folder / "storm" / "steps"):
                shutil.rmtree(Store().folder / "storm")
                if stop:
                    raise KeyboardInterrupt

    engine = replace(EXACT, backend=lambda model, name: Deleting(model.module))
    result = write(tiny_model, "--chunks", "3", "--name", "storm", engine=engine)
    assert result.exit_code == (130 if stop else 2)
    assert "storm was deleted, moved or replaced while" in message_of(result).replace("\n", " ")
    assert "templora resume storm" in hint_of(result) and not list(Store().folder.iterdir())


def test_the_kind_of_a_session_is_listed() -> None:
    rewrite(create_session("storm-0001") / "session.json", task="translation")
    create_session("calm-0002")
    lines = [line.split("\t")[:2] for line in templora("sessions", "list").stdout.splitlines()]
    assert lines[0] == ["session", "kind"]
    assert sorted(lines[1:]) == [["calm-0002", "novel"], ["storm-0001", "translation"]]


def test_an_incomplete_step_does_not_hide_other_sessions() -> None:
    commit_incomplete_chunk(create_session("storm-0001"))
    create_session("calm-0002")
    states = {
        row["session"]: row["state"] for row in json.loads(templora("sessions", "list", "--json").stdout)
    }
    assert states == {"storm-0001": "damaged", "calm-0002": "finished"}


@pytest.mark.parametrize("folder", ["/", ".", ".."])
def test_a_folder_is_no_file_for_a_book(folder: str) -> None:
    with create("storm") as session:
        append_chunks(session.path, [chunk()])
    for command in (("sessions", "export", "storm"), ("resume", "storm")):
        refused = templora(*command, "--out", folder)
        assert refused.exit_code and f"{folder} is a folder" in message_of(refused)


def test_a_chunk_without_tokens_has_no_likelihood() -> None:
    empty = {**chunk(adapter=None), "index": 0, "tokens": [], "nll_base": float("nan"), "repetition": 0.0}
    with create("storm") as session:
        append_chunks(session.path, [{**empty, "train_losses": [], "seconds": {}}])
    shown = templora("sessions", "show", "storm")
    assert "nan" not in shown.stdout and shown.stdout.splitlines()[-1].split("\t")[3:7] == ["-"] * 4


def test_an_edited_book_is_set_aside_audibly(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1", "--name", "storm", "--out", "storm.md", "-q")
    for number, more in enumerate((["--chunks", "1"], []), 1):  # the second finds the book finished
        Path("storm.md").write_text("mine")
        resumed = templora("resume", "storm", "-q", *more)
        notice = "note: storm.md was edited: your version is saved as"
        assert notice in resumed.stderr and f"storm.edited-{number}.md" in resumed.stderr
