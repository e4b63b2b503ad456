"""The command line with the tiny model: results, streams, exit codes, errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner, Result

from templora_cli.cli import app
from templora_cli.commands.terminal import computing_with
from templora_cli.config import Config
from templora_cli.engine.decoding import runtime
from templora_cli.engine.decoding.protocols import Backend, DecodedToken, Sampler, Stop
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.novel.kind import Novel
from templora_cli.prepare import ENGINE, Engine
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from templora_cli.task_kinds import KINDS
from tests.random_text import RANDOM_TEXT

SMALL = ("--chunk-tokens", "16", "--context-tokens", "24")
EXACT = Engine(kinds={**KINDS, "novel": Novel(whole_sentences=False)})
"""Books end exactly at their goal, because a model with random weights hardly ever ends a sentence."""


@pytest.fixture(autouse=True)
def small_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(RANDOM_TEXT + "[train]\nrank = 2\nalpha = 2\n")


def templora(
    *arguments: str | Path, stdin: str | bytes | None = None, engine: Engine | None = EXACT
) -> Result:
    with computing_with(engine):
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        # cli.main() shows a TemploraError that a command raises outside of a view.
        from templora_cli.errors import TemploraError

        if not isinstance(result.exception, TemploraError):
            raise result.exception
    return result


def write(
    model: Path, *arguments: str | Path, stdin: str | bytes | None = None, engine: Engine | None = EXACT
) -> Result:
    premise = (
        () if "--from" in arguments or stdin or "--premise-file" in arguments else ("--premise", "A storm.")
    )
    return templora("write", "--model", model, *SMALL, *premise, *arguments, stdin=stdin, engine=engine)


def events_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def only_session() -> Path:
    return Store().find(None)


def message_of(result: Result) -> str:
    return str(result.exception) if not isinstance(result.exception, SystemExit) else result.stderr


# --- writing -----------------------------------------------------------------------------------------


def test_only_prose_is_on_standard_output(tiny_model: Path) -> None:
    result = write(tiny_model, "--chunks", "3")
    assert result.exit_code == 0
    session = only_session()
    text = "".join(chunk["text"] for chunk in read_chunks(session / "steps"))
    assert result.stdout.rstrip("\n") == text.rstrip("\n")
    lines = result.stderr.splitlines()
    assert session.name in lines[0], "the session id comes first"
    assert lines[-1] == f"templora resume {session.name} --chunks 4"
    assert sum(line.startswith("chunk") and "gain" in line for line in lines) == 3


def test_json_events_describe_the_whole_book(tiny_model: Path) -> None:
    events = events_of(write(tiny_model, "--chunks", "2", "--json"))
    names = [event["event"] for event in events]
    assert names[0] == "session_opened" and names[-1] == "finished"
    committed = [event for event in events if event["event"] == "chunk_committed"]
    assert [c["index"] for c in committed] == [0, 1]
    for chunk in committed:
        assert chunk["tokens"] == 16 and len(chunk["train_losses"]) == 1
        assert chunk["gain"] == pytest.approx(chunk["nll_base"] - chunk["nll_adapter"])
        assert 0 <= chunk["repetition"] <= 1 and chunk["nll_base"] > 0
        assert {"decode", "score", "train", "commit"} <= chunk["seconds"].keys()
        texts = [e["text"] for e in events if e["event"] == "text_decoded" and e["index"] == chunk["index"]]
        assert "".join(texts) == chunk["text"]
    assert committed[1]["step_bytes"] == sum(
        f.stat().st_size for f in committed_steps(only_session() / "steps")[1].iterdir()
    )


def test_a_book_depends_on_its_seed_only(tiny_model: Path) -> None:
    books = [write(tiny_model, "--chunks", "2", "--seed", seed, "--quiet") for seed in ("1", "1", "2")]
    assert books[0].stdout == books[1].stdout != books[2].stdout
    assert all(book.stderr == "" for book in books)


def test_learning_changes_the_book_and_no_learn_switches_it_off(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        RANDOM_TEXT + "[train]\nrank = 2\nalpha = 2\n[generated]\nlr = 0.05\n"
    )
    learnt, unlearnt = (write(tiny_model, "--chunks", "4", "-q", *f).stdout for f in ([], ["--no-learn"]))
    assert learnt != unlearnt
    chunks = read_chunks(only_session() / "steps")
    assert all(c["nll_adapter"] is None and c["train_losses"] == [] and c["nll_base"] > 0 for c in chunks)
    assert not list(only_session().rglob("*.safetensors"))


def test_lengths_in_tokens_and_words(tiny_model: Path) -> None:
    write(tiny_model, "--tokens", "40")
    assert [len(c["tokens"]) for c in read_chunks(only_session() / "steps")] == [16, 16, 8]
    assert events_of(write(tiny_model, "--words", "5", "--json"))[-1]["words"] >= 5


def test_a_premise_can_come_from_a_flag_standard_input_or_a_file(tiny_model: Path) -> None:
    Path("premise.txt").write_text("A calm.\n")
    books = []
    for result in (
        write(tiny_model, "--premise", "-", "--chunks", "1", "-q", stdin="A calm.\n"),
        write(tiny_model, "--premise-file", "premise.txt", "--chunks", "1", "-q"),
        templora("write", "--model", tiny_model, *SMALL, "--premise", "A calm.", "--chunks", "1", "-q"),
    ):
        assert result.exit_code == 0, result.stderr
        books.append(result.stdout)
    assert books[0] == books[1] == books[2]


def test_an_opening_is_learnt_and_continued(tiny_model: Path) -> None:
    Path("opening.txt").write_text("It was a dark and stormy night. The rain fell.")
    result = write(tiny_model, "--from", "opening.txt", "--chunks", "1", "--out", "book.txt")
    assert result.exit_code == 0, result.stderr
    chunks = read_chunks(only_session() / "steps")
    assert [c["origin"] for c in chunks] == ["human"] * 3 + ["generated"]
    book = Path("book.txt").read_text()
    assert book.startswith("It was a dark and stormy night. The rain fell.")
    assert result.stdout.strip() == book.strip(), "with the opening"
    assert (only_session() / "source.txt").read_text().startswith("It was a dark")


def test_the_book_file_is_updated_and_edits_are_saved(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1", "--out", "book.md")
    first = Path("book.md").read_text()
    assert first.strip()
    Path("book.md").write_text("my own words\n")
    result = templora("resume", "--chunks", "1")
    assert result.exit_code == 0, result.stderr
    assert Path("book.edited-1.md").read_text() == "my own words\n"
    assert "book.edited-1.md" in result.stderr.replace("\n", "")
    assert len(Path("book.md").read_text()) > len(first)
    templora("resume", "--chunks", "1")
    assert not Path("book.edited-2.md").exists(), "a file that templora wrote is not an edit"


def test_settings_of_the_working_folder_override_those_of_the_user(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        RANDOM_TEXT + f"[model]\nname = {str(tiny_model)!r}\n[decode]\nchunk_tokens = 8\n"
    )
    Path("templora.toml").write_text("[decode]\nchunk_tokens = 9\ncontext_tokens = 16\n[train]\nrank = 3\n")
    result = templora("write", "--premise", "A storm.", "--chunks", "1", "--json")
    assert result.exit_code == 0, result.stderr
    assert events_of(result)[0]["chunk_tokens"] == 9
    config = json.loads((only_session() / "session.json").read_text())["config"]
    assert config["train"]["rank"] == 3 and config["decode"]["context_tokens"] == 16


# --- resuming ----------------------------------------------------------------------------------------


def test_a_finished_book_is_extended_on_request(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1")
    name = only_session().name
    finished = templora("resume")
    assert finished.exit_code == 2 and f"{name} is finished" in finished.stderr
    assert f"templora resume {name} --chunks 4" in finished.stderr
    assert templora("resume", name[:8], "--tokens", "20").exit_code == 0
    assert [len(c["tokens"]) for c in read_chunks(only_session() / "steps")] == [16, 16, 4]


def test_a_resume_into_a_file_reports_that_it_gets_only_new_text(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1")
    resumed = templora("resume", "--chunks", "1")
    command = f"templora sessions export {only_session().name} --out -"
    assert f"standard output gets only the new text; the whole book: {command}" in resumed.stderr
    assert resumed.stdout.rstrip() == read_chunks(only_session() / "steps")[1]["text"].rstrip()
    assert "only the new text" not in templora("resume", "--chunks", "1", "--json").output


def test_an_extended_book_equals_one_written_at_once(tiny_model: Path) -> None:
    at_once = write(tiny_model, "--chunks", "3", "-q").stdout
    in_parts = (
        write(tiny_model, "--chunks", "1", "-q").stdout + templora("resume", "--chunks", "2", "-q").stdout
    )
    assert at_once.replace("\n", "") == in_parts.replace("\n", "")


def test_a_session_in_use_is_refused(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1")
    with FileLock(only_session() / "lock"):
        result = templora("resume", "--chunks", "1")
    assert result.exit_code == 2
    assert f"session {only_session().name} is being written by another process" in result.stderr


def test_a_changed_model_in_the_same_folder_is_refused(tiny_model: Path, tiny_base_model: Path) -> None:
    folder = shutil.copytree(tiny_model, "model")
    write(Path(folder), "--chunks", "1")
    shutil.rmtree(folder)
    shutil.copytree(tiny_base_model, folder)
    result = templora("resume", "--chunks", "1")
    assert result.exit_code == 2 and "has changed since session" in result.stderr.replace("\n", " ")


def test_a_damaged_step_is_reported_and_written_again(tiny_model: Path) -> None:
    uninterrupted = write(tiny_model, "--chunks", "4", "-q").stdout
    write(tiny_model, "--chunks", "3")
    step = committed_steps(only_session() / "steps")[-1]
    (step / "adapter.safetensors").write_bytes(b"damaged")
    result = templora("resume", "--chunks", "1")
    assert result.exit_code == 0, result.stderr
    assert "adapter.safetensors does not match its checksum" in result.stderr.replace("\n", " ")
    text = "".join(c["text"] for c in read_chunks(only_session() / "steps"))
    assert text.replace("\n", "") == uninterrupted.replace("\n", "")


def test_a_damaged_last_chunk_does_not_shorten_an_extension(tiny_model: Path) -> None:
    uninterrupted = write(tiny_model, "--chunks", "4", "-q").stdout
    write(tiny_model, "--chunks", "2")
    (committed_steps(only_session() / "steps")[-1] / "chunk.json").write_text("{")
    result = templora("resume", "--chunks", "3", "-q")
    assert result.exit_code == 0, result.stderr
    text = "".join(c["text"] for c in read_chunks(only_session() / "steps"))
    assert text.replace("\n", "") == uninterrupted.replace("\n", ""), "three chunks after the intact one"


def test_a_finished_book_with_an_outdated_file_is_updated(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "2", "--out", "book.txt")
    complete = Path("book.txt").read_bytes()
    first = read_chunks(only_session() / "steps")[0]["text"]
    Path("book.txt").write_text(first.strip() + "\n", "utf-8")
    result = templora("resume")
    assert result.exit_code == 2 and "is finished" in result.stderr
    assert Path("book.txt").read_bytes() == complete
    assert [path.name for path in Path().glob("book*")] == ["book.txt"]


def test_a_resumed_book_uses_its_original_number_of_threads(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1")
    threads = torch.get_num_threads()
    try:
        with Store().open(None) as session:
            session.update(threads=threads + 1)
        assert templora("resume", "--chunks", "1").exit_code == 0
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_changed_hardware_and_versions_are_reported(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "1")
    with Store().open(None) as session:
        versions = {**session.manifest.versions, "torch": "1.0"}
        session.update(hardware="NVIDIA H200", versions=versions)
    result = templora("resume", "--chunks", "1")
    notice = result.stderr.replace("\n", " ")
    assert result.exit_code == 0 and "NVIDIA H200 -> " in notice and "torch 1.0 -> " in notice
    assert "not necessarily token for token" in notice


def test_a_missing_compiler_is_reported(tiny_model: Path) -> None:
    """Without Triton, logits on a GPU differ in their last bits."""
    pytest.importorskip("triton")
    gpu = torch.device("cuda", 0)
    compiled, without = (
        runtime.versions_of(["torch"], gpu, compiles=lambda device, works=works: works)
        for works in (True, False)
    )
    assert compiled["triton"] and compiled == {**without, "triton": compiled["triton"]}
    assert "triton" not in runtime.versions_of(["torch"], torch.device("cpu"), compiles=lambda device: True)
    write(tiny_model, "--chunks", "1")
    with Store().open(None) as session:
        session.update(versions={**session.manifest.versions, "triton": "3.6.0"})
    result = templora("resume", "--chunks", "1")
    assert result.exit_code == 0 and "triton 3.6.0 -> none" in result.stderr.replace("\n", " ")


def run_process(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "templora_cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=None if sys.platform == "win32" else handle_interrupts,
    )


def handle_interrupts() -> None:
    """Handle Ctrl-C: background jobs of a shell ignore it, and their child processes inherit this."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_leaves_the_committed_chunks_and_shows_the_resume_command(tiny_model: Path) -> None:
    process = run_process(
        "write", "--model", tiny_model, *SMALL, "--premise", "A", "--tokens", "100000", "--json"
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "text_decoded" and (event["index"], event["tokens"]) == (2, 3):
            process.send_signal(signal.SIGINT)
        if event["event"] == "interrupted":
            break
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert event["resume_command"] == f"templora resume {only_session().name}"
    assert event["chunks"] == len(committed_steps(only_session() / "steps")) >= 2
    assert not list((only_session() / "steps").glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_not_lost(tiny_model: Path) -> None:
    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # the handler runs here, and its exception is ignored

    class InterruptingBackend:
        """Raises Ctrl-C with the twentieth token."""

        def __init__(self, backend: Backend) -> None:
            self.backend, self.exact = backend, backend.exact
            self.reset, self.free_cache = backend.reset, backend.free_cache
            self.adapter_changed = backend.adapter_changed

        def decode(
            self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
        ) -> Iterator[DecodedToken]:
            for token in self.backend.decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop):
                decoded.append(token.id)
                if len(decoded) == 20:
                    Finalised()
                yield token

    handle_interrupts()
    decoded: list[int] = []
    engine = replace(EXACT, backend=lambda model, name: InterruptingBackend(ENGINE.backend(model, name)))
    result = write(tiny_model, "--chunks", "4", engine=engine)
    assert result.exit_code == 130, result.stderr
    assert len(decoded) == 20 and len(committed_steps(only_session() / "steps")) == 1


# --- listing and exporting ---------------------------------------------------------------------------


def test_sessions_are_listed_shown_and_located(tiny_model: Path) -> None:
    assert templora("sessions", "list").stderr.startswith("no sessions yet")
    write(tiny_model, "--chunks", "2")
    name = only_session().name
    (row,) = json.loads(templora("sessions", "list", "--json").stdout)
    assert row["session"] == name and row["state"] == "finished" and row["chunks"] == 2
    assert row["tokens"] == 32 and row["gain"] == pytest.approx(0, abs=0.1)
    assert name in templora("sessions", "list").stdout
    shown = json.loads(templora("sessions", "show", name[:7], "--json").stdout)
    assert [step["index"] for step in shown["steps"]] == [0, 1] and "text" not in shown["steps"][0]
    assert "finished" in templora("sessions", "show").stdout
    assert templora("sessions", "path").stdout.strip() == str(only_session())


def test_an_unfinished_book_is_listed_with_its_progress(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "2")
    shutil.rmtree(committed_steps(only_session() / "steps")[-1])
    (row,) = json.loads(templora("sessions", "list", "--json").stdout)
    assert row["state"] == "1 of 2 chunks"


def test_the_length_of_a_book_with_an_opening_is_the_same_everywhere(tiny_model: Path) -> None:
    Path("opening.txt").write_text("The keeper went up the stairs. " * 3)
    done = write(tiny_model, "--from", "opening.txt", "--chunks", "2")
    shown = json.loads(templora("sessions", "show", "--json").stdout)
    length = f"2 of 2 new chunks, {shown['words']:,} words with your opening"
    assert f"finished: {length}, in all " in done.stderr
    assert f"is finished: {length}\n" in message_of(templora("resume"))
    assert f"{shown['words']} with your opening" in templora("sessions", "show").stdout
    for _ in range(2):
        shutil.rmtree(committed_steps(only_session() / "steps")[-1])
    (row,) = json.loads(templora("sessions", "list", "--json").stdout)
    assert row["state"] in ("0 of 2 new chunks", "1 of 2 new chunks")


def test_a_book_is_exported_as_markdown_text_or_to_standard_output(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "2")
    name = only_session().name
    assert templora("sessions", "export").stdout.strip() == str(Path(f"{name}.md").absolute())
    text = "".join(c["text"] for c in read_chunks(only_session() / "steps"))
    assert templora("sessions", "export", name, "--out", "b.txt").exit_code == 0
    assert Path("b.txt").read_bytes() == (text.strip() + "\n").encode()
    wrong = templora("sessions", "export", name, "--out", "b.pdf")
    assert "written as .md or .txt" in message_of(wrong) and not Path("b.pdf").exists()
    assert templora("sessions", "export", "--out", "-").stdout.strip() == text.strip()


def test_the_readable_text_of_a_damaged_book_is_exported(tiny_model: Path) -> None:
    write(tiny_model, "--chunks", "2")
    steps = committed_steps(only_session() / "steps")
    text = json.loads((steps[0] / "chunk.json").read_text())["text"]
    (steps[1] / "chunk.json").write_text("{")
    result = templora("sessions", "export", "--out", "-")
    assert result.stdout.startswith(text.strip()) and "[a chunk is missing here]" in result.stdout
    assert "step 000001" in result.stderr
    assert json.loads(templora("sessions", "list", "--json").stdout)[0]["state"] == "damaged"


# --- files and streams that fail ---------------------------------------------------------------------


def test_a_summary_that_cannot_be_written_does_not_stop_a_book(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_at(".summary.json.tmp", monkeypatch)
    assert write(tiny_model, "--chunks", "2").exit_code == 0
    assert not (only_session() / "summary.json").exists()
    (row,) = json.loads(templora("sessions", "list", "--json").stdout)
    assert row["state"] == "finished" and row["chunks"] == 2


def full_at(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail every fsync while a session has a file that matches the pattern `written`."""
    fsync = os.fsync

    def full(handle: int) -> None:
        if list(Store().folder.glob(f"*/{written}")):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("written", [".session.json.tmp", "steps/.*.tmp/adapter.safetensors"])
def test_a_full_disk_loses_no_committed_chunk(
    written: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = write(tiny_model, "--chunks", "3", "-q").stdout
    write(tiny_model, "--chunks", "1")
    name = only_session().name
    with monkeypatch.context() as patch:
        full_at(written, patch)
        result = templora("resume", "--chunks", "2")
    assert result.exit_code == 2
    assert "full" in result.stderr or "No space left" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("hint: free disk space, then: templora resume")
    assert len(committed_steps(only_session() / "steps")) == 1
    again = templora("resume", name, "--chunks", "2", "-q")
    assert again.exit_code == 0, again.stderr
    text = "".join(c["text"] for c in read_chunks(only_session() / "steps"))
    assert text.replace("\n", "") == uninterrupted.replace("\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_under_standard_output_is_reported(form: list[str], tiny_model: Path) -> None:
    book = ["--premise", "A", "--chunks", "2", *SMALL, *form]
    with Path("/dev/full").open("w") as output:
        process = subprocess.run(
            [sys.executable, "-m", "templora_cli", "write", "--model", tiny_model, *book],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 2
    assert "Traceback" not in process.stderr and "Exception" not in process.stderr
    assert "No space left on device" in process.stderr
    assert f"templora resume {only_session().name}" in process.stderr


# --- invalid input -----------------------------------------------------------------------------------

BAD_WRITES: dict[str, tuple[list[str], str]] = {
    "no premise": ([], "a premise is missing"),
    "an empty premise": (["--premise", "  "], "the premise is empty"),
    "two premises": (
        ["--premise", "a", "--premise-file", "b"],
        "--premise and --premise-file cannot be combined",
    ),
    "a missing file": (["--premise-file", "nowhere.txt"], "there is no file nowhere.txt"),
    "a folder": (["--from", "."], "is a folder"),
    "a binary file": (["--from", "binary.txt"], "is a program, not a text"),
    "an empty opening": (["--from", "empty.txt"], "is empty"),
    "an unknown model": (["--premise", "a", "--model", "smolm2-135m"], "unknown model 'smolm2-135m'"),
    "a model that was not downloaded": (
        ["--premise", "a", "--model", "smollm2-135m"],
        "is not on this machine",
    ),
    "a premise that is not UTF-8": (["--premise", "caf\udce9"], "the premise is not UTF-8"),
    "an absurd length": (["--premise", "a", "--chunks", "9" * 30], "--chunks 999"),
    "a file name that is too long": (["--premise", "a", "--out", "b" * 300 + ".md"], "cannot be written"),
    "two lengths": (
        ["--premise", "a", "--words", "5", "--chunks", "2"],
        "--words and --chunks cannot be combined",
    ),
    "a length of 0": (["--premise", "a", "--tokens", "0"], "--tokens 0: must be at least 1"),
    "a chunk that is too small": (
        ["--premise", "a", "--chunk-tokens", "2"],
        "--chunk-tokens 2: must be at least 8",
    ),
    "a probability above 1": (["--premise", "a", "--top-p", "1.5"], "--top-p 1.5: must be at most 1"),
    "an unknown recipe": (["--premise", "a", "--recipe", "hot"], "--recipe hot: must be one of"),
    "a format without a writer": (
        ["--premise", "a", "--out", "book.pdf"],
        "a book is written as .md or .txt",
    ),
    "a missing folder": (["--premise", "a", "--out", "no/book.md"], "no does not exist"),
    "an existing file": (["--premise", "a", "--out", "existing.md"], "does not overwrite it"),
}


@pytest.mark.parametrize(("arguments", "complaint"), BAD_WRITES.values(), ids=BAD_WRITES.keys())
def test_invalid_input_is_reported_with_a_hint(arguments: list[str], complaint: str) -> None:
    Path("binary.txt").write_bytes(b"\x7fELF\0")
    Path("empty.txt").write_text("")
    Path("existing.md").write_text("mine")
    result = templora("write", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr.replace("\n", " ")
    assert result.stderr.startswith("error: ") and "\nhint: " in result.stderr
    assert result.stdout == "" and not Store().folder.exists()
    assert Path("existing.md").read_text() == "mine"


def test_invalid_settings_of_all_layers_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[decode]\ntop_p = 2\n")
    Path("templora.toml").write_text("[generated]\nlr = -1\n[train]\nspeed = 3\n")
    result = templora("write", "--premise", "a", "--top-k", "-1")
    assert result.exit_code == 2
    for setting in (
        "config.toml: [decode] top_p",
        "templora.toml: [generated] lr",
        "[train] speed",
        "--top-k",
    ):
        assert setting in result.stderr, setting


def test_a_config_file_that_is_not_toml_is_refused() -> None:
    Path("templora.toml").write_text("[decode\n")
    result = templora("write", "--premise", "a")
    assert result.exit_code == 2 and "templora.toml is not valid TOML" in result.stderr


def test_a_context_longer_than_the_window_of_the_model_is_refused(tiny_model: Path) -> None:
    result = write(tiny_model, "--context-tokens", "5000")
    assert result.exit_code == 2
    assert "reads at most 4096 tokens" in result.stderr and "hint: --context-tokens 3" in result.stderr


def test_a_backend_that_cannot_run_the_model_is_refused(tiny_model: Path) -> None:
    def load(folder: Path, config: Config) -> LanguageModel:
        model = ENGINE.load(folder, config)
        model.module.config.hidden_act = "relu"  # not supported by the int8 backend
        return model

    Path("templora.toml").write_text('[decode]\nbackend = "int8"\n')
    result = write(tiny_model, engine=replace(EXACT, load=load))
    assert result.exit_code == 2 and "the int8 backend decodes llama" in result.stderr.replace("\n", " ")
    assert not Store().folder.exists(), "a session that cannot run is not created"


def test_with_json_an_error_is_an_event() -> None:
    result = templora("write", "--json", "--premise", "")
    assert result.exit_code == 2
    assert events_of(result) == [
        {
            "event": "error",
            "message": "the premise is empty",
            "hint": 'templora write --premise "A lighthouse keeper..."',
        }
    ]


@pytest.mark.parametrize("command", [["resume"], ["sessions", "show"], ["sessions", "export", "x"]])
def test_commands_report_that_there_is_no_session(command: list[str]) -> None:
    result = templora(*command)
    assert "there is no session" in message_of(result)


def test_a_traceback_is_shown_only_with_debug() -> None:
    debug = subprocess.run(
        [sys.executable, "-m", "templora_cli", "--debug", "resume"], capture_output=True, text=True
    )
    assert "Traceback" in debug.stderr and "TemploraError" in debug.stderr
    normal = subprocess.run([sys.executable, "-m", "templora_cli", "resume"], capture_output=True, text=True)
    assert normal.returncode == 2
    assert normal.stderr.startswith("error: there is no session") and "hint: templora write" in normal.stderr


def test_a_closed_pipe_loses_nothing(tiny_model: Path) -> None:
    process = run_process("write", "--model", tiny_model, *SMALL, "--premise", "A", "--chunks", "30")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(60) != 0
    assert "Traceback" not in stderr
    assert f"templora resume {only_session().name}" in stderr
