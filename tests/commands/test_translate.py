"""Translating on the command line, on the tiny model: files, sessions, corrections, exit statuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from benchmarks.tiny_model import byte_tokenizer
from templora_cli import runner
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import Sampler, Stop, TokenOut
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.events import ChunkRelearnt, Event, RebuildStarted, Working
from templora_cli.prepare import Engine
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Session, Store
from templora_cli.task_kinds import KINDS
from templora_cli.translation import translated_book as translated
from templora_cli.translation.checks import FailedCheck
from templora_cli.translation.kind import Translation
from templora_cli.translation.task import best_of
from tests.commands import test_cli
from tests.commands.test_cli import events_of, message_of, only_session

BOOK = "Chapter 1\n\nEins ist gut.\n\nZwei ist gut.\n\nChapter 2\n\nDrei ist schlecht.\n\nVier ist gut.\n"
PROMPTS = """
[pair]
before = "{source}:"
[chat]
system = "Into {target_language}."
glossary = "{terms}"
term = "{source}: {target}"
term_with_note = "{source}: {target} ({note})"
"""
HOW = ("--from", "de", "--to", "en", "--chunk-tokens", "100", "--set", "context_tokens=200")


@pytest.fixture(autouse=True)
def small(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "translation.toml").write_text(PROMPTS)  # the packaged ones are long in single bytes
    config = f'prompts = "{prompts}"\n[train]\nrank = 2\nalpha = 2\ngradient_checkpointing = false\n'
    config += '[decode]\nbackend = "eager"\n'
    (tmp_path / "config.toml").write_text(config)
    Path("book.txt").write_text(BOOK)


TOKENIZER = byte_tokenizer()
LETTERS = torch.full((len(TOKENIZER),), -1e9)
LETTERS[ord("a") : ord("z") + 1] = 0.0


class Loud(EagerBackend):
    """In place of the tiny model's noise: the source in capitals, and a letter that is drawn."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        assert name == "eager"
        super().__init__(model.module)
        self.chunks = 0

    def chunk_begins(self) -> None:
        self.chunks += 1

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        said = shown_in(prompt).rsplit("<|user|>", 1)[1].split("<|end|>")[0].upper()
        for token in [*said.encode(), sampler.draw(prompt, LETTERS), TOKENIZER.eos_token_id][:max_tokens]:
            yield TokenOut(token)


class Stopped(Loud):
    """Ctrl-C comes with the end of the first paragraph of the second chunk."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        for token in super().decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop):
            if self.chunks == 2 and token.id == TOKENIZER.eos_token_id:
                raise KeyboardInterrupt
            yield token


def shown_in(prompt: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(prompt)))


def bad(source: str, *_: Any) -> list[FailedCheck]:
    return [FailedCheck("numbers", "it is bad")] if "schlecht" in source else []


def with_translation(kind: Translation, backend: type[Loud] = Loud) -> Engine:
    return Engine(backend=backend, kinds={**KINDS, "translation": kind})


LOUD = with_translation(Translation(check=bad))
STOPPED = with_translation(Translation(check=bad), Stopped)
CONTENT = with_translation(Translation(check=lambda *_: []))


def templora(*arguments: str | Path, engine: Engine = LOUD) -> Result:
    return test_cli.templora(*arguments, engine=engine)


def translate(model: Path, *arguments: str, engine: Engine = LOUD) -> Result:
    return templora("translate", "book.txt", "--model", model, *HOW, *arguments, engine=engine)


def records() -> list[Any]:
    return [chunk["record"]["paragraphs"] for chunk in read_chunks(only_session() / "steps")]


def targets() -> dict[int, str]:
    return {number: one["target"] for number, one in best_of(chunk_records()).items()}


def chunk_records() -> list[Any]:
    return [chunk["record"] for chunk in read_chunks(only_session() / "steps")]


def tensors(session: Path) -> dict[str, torch.Tensor]:
    newest = committed_steps(session / "steps")[-1]
    return {**load_file(newest / "adapter.safetensors"), **load_file(newest / "optimizer.safetensors")}


def test_a_book_is_translated_checked_and_reported(tiny_model: Path) -> None:
    result = translate(tiny_model)
    assert result.exit_code == 3, result.output
    assert "6 paragraphs, 5 good, 0 good after another try, 1 failed" in result.stderr
    written = Path("book (English).txt").read_text().split("\n\n")
    assert [part.strip() for part in written] == [targets()[number].strip() for number in range(6)]
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["good"], report["failed"], report["checks"]) == (5, 1, {"numbers": 1})
    assert report["lines"][4]["attempts"] == 3
    assert "paragraph 5: it is bad" in (only_session() / "report.txt").read_text()
    page = (only_session() / "report.html").read_text()
    assert page.count('<tr class="failed">') == 1 and "Drei ist schlecht." in page
    assert len(records()) > 1, "several chunks"


def test_what_failed_is_not_learnt(tiny_model: Path) -> None:
    translate(tiny_model)
    for chunk in read_chunks(only_session() / "steps"):
        good = [one for one in chunk["record"]["paragraphs"] if not one["failed_checks"]]
        assert bool(chunk["train_losses"]) == bool(good)
        assert (chunk["rejection_reason"] is None) == bool(good)


def stopped_in_the_second_chunk(model: Path) -> None:
    assert translate(model, engine=STOPPED).exit_code == 130


def test_a_translation_that_was_stopped_goes_on_as_if_it_had_not_been(tiny_model: Path) -> None:
    assert translate(tiny_model, "--out", "whole.txt").exit_code == 3
    whole = only_session()
    stopped_in_the_second_chunk(tiny_model)
    assert not Path("book (English).txt").exists()
    assert only_session() != whole
    assert templora("resume").exit_code == 3
    assert Path("book (English).txt").read_text() == Path("whole.txt").read_text()
    ours, theirs = tensors(only_session()), tensors(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_chapters_and_limits(tiny_model: Path) -> None:
    assert translate(tiny_model, "--start", "1", "--end", "1").exit_code == 0
    assert sorted(targets()) == [0, 1, 2]
    assert "Drei ist schlecht." in Path("book (English).txt").read_text(), "the rest stays as it is"
    assert translate(tiny_model, "--limit", "2", "--out", "two.txt").exit_code == 0
    assert sorted(targets()) == [0, 1]


def test_both_languages_in_one_file(tiny_model: Path) -> None:
    translate(tiny_model, "--bilingual", "--limit", "2")
    text = Path("book (English).txt").read_text()
    assert text.index("Eins ist gut.") < text.index("EINS IST GUT.") < text.index("Zwei ist gut.")


def test_events_are_told_a_line_each(tiny_model: Path) -> None:
    result = translate(tiny_model, "--json", "--limit", "2")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    told = [event for event in events if event["event"] == "paragraph_translated"]
    assert [(one["paragraph"], one["source"]) for one in told] == [(0, "Chapter 1"), (1, "Eins ist gut.")]
    assert events[0]["unit"] == "paragraphs" and events[0]["goal"] == 2
    assert events[-1]["event"] == "translated" and events[-1]["good"] == 2


def correct(numbers: dict[int, str]) -> Path:
    """Write translations of a person after the `>` of some paragraphs (from 1)."""
    path = Path(templora("review").stdout.strip())
    rows = path.read_text().split("\n")
    for number, target in numbers.items():
        place = next(i for i, row in enumerate(rows) if row.startswith(f"@{number} "))
        rows[place + 2] = f"> {target}"
    path.write_text("\n".join(rows))
    return path


def test_corrections_are_learnt_and_stand_in_the_book(tiny_model: Path) -> None:
    translate(tiny_model)
    before, first = records(), tensors(only_session())
    path = correct({5: "Three is bad."})
    result = templora("sync", only_session().name, path)
    assert result.exit_code == 0, result.output
    assert "1 paragraph taken back" in result.stderr
    assert "Three is bad." in Path("book (English).txt").read_text()
    report = json.loads((only_session() / "report.json").read_text())
    assert report["failed"] == 0
    after = records()
    assert [one["paragraph"] for chunk in after for one in chunk] == list(range(6))
    [corrected] = [one for chunk in after for one in chunk if one["by"] == "person"]
    assert corrected["before"] == next(o["target"] for c in before for o in c if o["paragraph"] == 4)
    second = tensors(only_session())
    assert any(not torch.equal(second[name], first[name]) for name in first)


def test_a_sync_as_events(tiny_model: Path) -> None:
    stopped_in_the_second_chunk(tiny_model)
    path = correct({1: "Chapter the first"})
    result = templora("sync", only_session().name, path, "--json")
    begun, relearnt, synced = events_of(result)
    assert (begun["event"], begun["first"], begun["chunks"]) == ("rebuild_started", 0, 1)
    assert (relearnt["event"], relearnt["index"]) == ("chunk_relearnt", 0) and relearnt["train_losses"]
    assert (synced["event"], synced["paragraphs"], synced["chunks"]) == ("synced", 1, 1)
    assert synced["resume_command"] == f"templora resume {only_session().name}"
    assert templora("resume").exit_code == 3
    path.unlink()
    last = events_of(templora("sync", only_session().name, correct({5: "Three is bad."}), "--json"))[-1]
    assert (last["event"], last["corrected"], last["failed"]) == ("translated", 2, 0)


def test_another_try_as_events(tiny_model: Path) -> None:
    translate(tiny_model)
    events = events_of(templora("retry", "--json"))
    assert events[0]["event"] == "session_opened" and (events[0]["goal"], events[0]["done"]) == (7, 6)
    [told] = [event for event in events if event["event"] == "paragraph_translated"]
    assert told["paragraph"] == 4 and told["failed_checks"] == ["it is bad"]
    assert events[-1]["event"] == "translated" and events[-1]["failed"] == 1


def test_what_is_rebuilt_is_what_would_have_been_learnt(tiny_model: Path) -> None:
    """Replaying a book in which nothing changed gives the same adapter."""
    translate(tiny_model)
    was = tensors(only_session())
    with Store().open(None) as session:
        run = runner.reopen(session, engine=LOUD)
        for step in committed_steps(session.steps):  # as if they had been thinned
            (step / "state.json").unlink(missing_ok=True)
        kept = run.chunks
        kept[0]["record"]["paragraphs"][0]["attempts"] += 1
        told = [event for event in run.relearn(kept) if not isinstance(event, Working)]
        assert told[0] == RebuildStarted(session.id, 0, len(kept))
        assert all(isinstance(event, ChunkRelearnt) for event in told[1:])
        assert [event.index for event in told[1:]] == [*range(len(kept))]  # type: ignore[attr-defined]
    now = tensors(only_session())
    assert all(torch.equal(now[name], was[name]) for name in was)


def test_what_comes_after_a_correction_sees_it(tiny_model: Path) -> None:
    class Watched(Loud):
        def decode(self, prompt: Sequence[int], **how: Any) -> Iterator[TokenOut]:
            shown.append(shown_in(prompt))
            return super().decode(prompt, **how)

    shown: list[str] = []
    watched = with_translation(Translation(check=bad), Watched)
    stopped_in_the_second_chunk(tiny_model)
    done = sorted(targets())
    path = correct({done[-1] + 1: "One is well."})
    assert templora("sync", only_session().name, path, engine=watched).exit_code == 0
    assert not shown and not Path("book (English).txt").exists(), "nothing is decoded, nothing is finished"
    assert templora("resume", engine=watched).exit_code == 3
    assert "One is well." in shown[0]
    assert sorted(targets()) == list(range(6)) and "One is well." in Path("book (English).txt").read_text()


def test_failed_paragraphs_are_tried_again(tiny_model: Path) -> None:
    assert translate(tiny_model).exit_code == 3
    assert templora("retry").exit_code == 3, "still bad"
    result = templora("retry", engine=CONTENT)
    assert result.exit_code == 0, result.output
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["good"], report["retried"], report["failed"]) == (5, 1, 0)
    assert report["done"] == report["paragraphs"] == 6
    result = templora("retry")
    assert result.exit_code == 2 and "has no paragraphs that are failed" in message_of(result)


def test_an_edited_file_is_kept(tiny_model: Path) -> None:
    translate(tiny_model)
    Path("book (English).txt").write_text("mine")
    templora("sync", only_session().name, correct({1: "Chapter the first"}))
    assert Path("book (English).edited-1.txt").read_text() == "mine"
    assert Path("book (English).txt").read_text().startswith("Chapter the first")


def test_exports_a_translation_that_is_not_finished(tiny_model: Path) -> None:
    translate(tiny_model, "--limit", "3")
    name = only_session().name
    assert templora("sessions", "export", name).stdout.strip().endswith(f"{name}.txt")
    assert Path(f"{name}.txt").read_text() == Path("book (English).txt").read_text()
    assert "3/3" not in templora("sessions", "list").stdout
    assert "finished" in templora("sessions", "list").stdout


def test_an_estimate_writes_nothing(tiny_model: Path) -> None:
    result = translate(tiny_model, "--estimate")
    assert result.exit_code == 0, result.output
    assert "paragraphs     6" in result.stdout and "time           about 0 h" in result.stdout
    assert not Path("book (English).txt").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "de"), "source and target are both German"),
        (("--to", "nowherish"), "no language is called 'nowherish'"),
        (("--start", "9"), "--start 9: the book has 2 chapters"),
        (("--start", "2", "--end", "1"), "--end 1 lies before --start 2"),
        (("--limit", "0"), "--limit 0: must be at least 1"),
        (("--out", "book.epub"), "a translation has the form of its source, .txt"),
        (("--glossary", "none.csv"), "none.csv"),
        (("--encoding", "latin-17"), "latin-17"),
    ],
)
def test_bad_input_is_a_line(tiny_model: Path, arguments: tuple[str, ...], says: str) -> None:
    result = translate(tiny_model, *arguments)
    assert result.exit_code == 2 and says in message_of(result), result.output


def test_what_is_there_is_not_overwritten(tiny_model: Path) -> None:
    Path("book (English).txt").write_text("mine")
    result = translate(tiny_model)
    assert result.exit_code == 2 and "does not overwrite" in message_of(result)


def test_a_source_copy_that_was_damaged(tiny_model: Path) -> None:
    translate(tiny_model, "--limit", "2")
    (only_session() / "source.txt").write_text("other")
    result = templora("resume")
    assert result.exit_code == 2 and "source.txt is damaged" in message_of(result)


def test_the_glossary_is_used_and_frozen(tiny_model: Path) -> None:
    Path("terms.csv").write_text("source,target\nEins,One\n")
    translate(tiny_model, "--glossary", "terms.csv", "--limit", "2")
    manifest = json.loads((only_session() / "session.json").read_text())
    assert manifest["config"]["generated"]["context_tokens"] == 256, "else the sources would not be seen"
    assert manifest["request"]["terms"] == [{"source": "Eins", "target": "One", "note": "", "forbidden": []}]


def test_without_learning(tiny_model: Path) -> None:
    translate(tiny_model, "--no-learn")
    assert all(not chunk["train_losses"] for chunk in read_chunks(only_session() / "steps"))


def test_the_same_command_goes_on_and_a_changed_file_is_told(tiny_model: Path) -> None:
    stopped_in_the_second_chunk(tiny_model)
    begun = only_session()
    Path("book.txt").write_text(BOOK.replace("Zwei", "Zehn"))
    other = translate(tiny_model, "--limit", "1", "--out", "other.txt")
    assert f"book.txt has changed since session {begun.name} began" in other.stderr
    Path("book.txt").write_text(BOOK)
    again = translate(tiny_model)
    assert again.exit_code == 3 and f"session {begun.name}" in again.stderr
    assert "already there: 1 chunk" in again.stderr


def test_a_session_goes_on_with_its_own_copy_of_a_changed_file(tiny_model: Path) -> None:
    stopped_in_the_second_chunk(tiny_model)
    name = only_session().name
    Path("book.txt").write_text(BOOK.replace("Vier", "Zehn"))
    told = f"book.txt has changed since session {name} began, which goes on with its own copy"
    resumed = templora("resume")
    assert resumed.exit_code == 3 and told in resumed.stderr
    assert "VIER IST GUT." in Path("book (English).txt").read_text()
    for again in (templora("sync", name, correct({2: "One is well."})), templora("retry")):
        assert again.exit_code == 3 and again.stderr.count(told) == 1
    Path("book.txt").unlink()
    gone = templora("resume")
    assert gone.exit_code == 3 and "has changed" not in gone.stderr


def test_a_title_that_comes_twice_is_translated_once(tiny_model: Path) -> None:
    page = "<html><head><title>Turm</title></head><body><h1>Turm</h1><p>Turm</p><h2>Turm</h2></body></html>"
    Path("page.html").write_text(page)
    result = templora("translate", "page.html", "--model", tiny_model, *HOW)
    assert result.exit_code == 0, result.output
    written = Path("page (English).html").read_text()
    heading, again = (written.split(f"<{tag}>")[1].split("<")[0] for tag in ("h1", "h2"))
    assert heading == again and heading.startswith("TURM")
    assert [one["paragraph"] for chunk in records() for one in chunk] == [0, 1]


def test_what_a_person_says_outlasts_another_try(tiny_model: Path) -> None:
    translate(tiny_model)
    templora("sync", only_session().name, correct({5: "Three is bad."}))
    result = templora("retry", "--only", "retried")
    assert result.exit_code == 2 and "has no paragraphs that are retried" in message_of(result)
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["good"], report["corrected"], report["failed"]) == (5, 1, 0)
    path = Path(templora("review", "--out", "again.txt").stdout.strip())
    nothing = templora("sync", only_session().name, path)
    assert nothing.exit_code == 0 and "changes and approves nothing" in nothing.stderr


def test_the_prompts_of_a_session_are_frozen(tiny_model: Path, tmp_path: Path) -> None:
    translate(tiny_model, "--limit", "1")
    (tmp_path / "prompts" / "translation.toml").write_text(PROMPTS.replace("Into", "Now into"))
    with runner.resume(engine=LOUD) as run:
        prompt = run.task.next_turn((), ()).prompt  # type: ignore[union-attr]
    assert "<|system|>Into English." in shown_in(prompt.header)


def test_a_damaged_step_is_told_and_the_rest_can_be_exported(tiny_model: Path) -> None:
    translate(tiny_model)
    session = only_session()
    chunk = committed_steps(session / "steps")[-1] / "chunk.json"
    chunk.write_text(chunk.read_text() + " ")
    result = templora("review")
    assert result.exit_code != 0 and "does not match its checksum" in message_of(result)
    assert templora("sessions", "export", session.name).exit_code == 0
    assert "EINS IST GUT." in Path(f"{session.name}.txt").read_text()
    Path("book.txt").write_text(BOOK.replace("Zwei", "Zehn"))
    assert translate(tiny_model, "--limit", "1", "--out", "new.txt").exit_code == 0


def test_prose_of_a_resumed_translation_does_not_go_to_standard_output(tiny_model: Path) -> None:
    translate(tiny_model)
    step = committed_steps(only_session() / "steps")[-1]
    for file in step.iterdir():
        file.unlink()
    step.rmdir()
    result = templora("resume")
    assert result.stdout == "" and "translated: 6 paragraphs" in result.stderr


def test_a_paragraph_that_is_longer_than_a_chunk(tiny_model: Path) -> None:
    Path("book.txt").write_text("Vorher.\n\n" + "Das Meer war still. " * 10 + "Es ist schlecht.\n\nKurz.\n")
    result = translate(tiny_model, "--set", "gate.enabled=false")
    assert result.exit_code == 3, result.output
    told = "paragraph 2 is too long for a chunk (50 tokens): translated in 6 parts, cut at the ends"
    assert told in result.stderr
    parts = Path("book (English).txt").read_text().split("\n\n")
    assert len(parts) == 3 and parts[1].count("DAS MEER WAR STILL.") == 10
    assert all(chunk["rejection_reason"] is None for chunk in read_chunks(only_session() / "steps")), (
        "each part is learnt"
    )
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["paragraphs"], report["failed"], report["checks"]) == (8, 1, {"numbers": 1})
    numbers = ["1", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3"]
    assert [line["number"] for line in report["lines"]] == numbers, "as the file counts them"
    assert "paragraph 2.6 failed: " in result.stderr
    assert "paragraph 2.6: " in (only_session() / "report.txt").read_text()
    assert "<td>2.6</td>" in (only_session() / "report.html").read_text()
    assert templora("review", "--out", "review.txt").exit_code == 0
    assert re.findall("^@([0-9.]+) ", Path("review.txt").read_text(), re.MULTILINE) == numbers
    before = len(records())
    assert templora("retry").exit_code == 3
    [again] = [one for chunk in records()[before:] for one in chunk]
    assert again["target"].startswith("ES IST SCHLECHT."), "only the part that failed"
    review = Path("review.txt").read_text()
    Path("review.txt").write_text(re.sub("(@2.6 .*\n< .*\n> ).*", r"\1It is bad.", review))
    assert templora("sync", only_session().name, "review.txt").exit_code == 0
    assert Path("book (English).txt").read_text().split("\n\n")[1].endswith(" It is bad.")
    Path("limited.txt").write_text(Path("book.txt").read_text())
    limited = templora("translate", "limited.txt", "--model", tiny_model, *HOW, "--limit", "2")
    assert limited.exit_code == 3 and "7 paragraphs" in limited.stderr, "the whole of the second one"


def test_several_long_paragraphs_are_told_of_at_once(tiny_model: Path) -> None:
    long = "Das Meer war still. " * 5
    Path("book.txt").write_text(f"Vorher.\n\n{long}\n\nKurz.\n\n{long}\n")
    said = translate(tiny_model, "--limit", "1").stderr
    assert "2 paragraphs are too long for a chunk (50 tokens), paragraph 2 the first of them" in said
    assert "translated in 6 parts" in said


def test_ctrl_c_while_the_document_is_written(tiny_model: Path) -> None:
    class StoppedAtTheEnd(Translation):
        def end(self, session: Session, chunks: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
            yield next(super().end(session, chunks))
            raise KeyboardInterrupt

    result = translate(
        tiny_model, "--limit", "2", "--json", engine=with_translation(StoppedAtTheEnd(check=bad))
    )
    last = events_of(result)[-1]
    assert result.exit_code == 130 and last["event"] == "interrupted" and last["chunks"] == 1
    assert last["resume_command"] == f"templora resume {only_session().name}"
    assert not Path("book (English).txt").exists()
    assert templora("resume").exit_code == 0 and Path("book (English).txt").exists()


def test_a_sync_that_is_stopped_changes_nothing(tiny_model: Path) -> None:
    class StoppedInTheSecond(Loud):
        def chunk_begins(self) -> None:
            super().chunk_begins()
            if self.chunks == 2:
                assert list(Store().folder.glob("*/steps.new/000000")), "the first is learnt anew"
                raise KeyboardInterrupt

    translate(tiny_model)
    session, before, was = only_session(), records(), tensors(only_session())
    path = correct({2: "One is well."})
    stopping = with_translation(Translation(check=bad), StoppedInTheSecond)
    result = templora("sync", session.name, path, engine=stopping)
    assert result.exit_code == 130 and "the session is as it was" in result.stderr
    assert records() == before and all(torch.equal(t, was[n]) for n, t in tensors(session).items())
    assert templora("sync", session.name, path).exit_code == 3
    assert not (session / "steps.new").exists() and not (session / "steps.old").exists()
    assert records()[0][1]["target"] == "One is well."


stopping_at: list[str] = []
"""Renaming a folder of this name is stopped by Ctrl-C, once."""


def on_rename(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.rename" and stopping_at and Path(str(args[0])).name == stopping_at[0]:
        stopping_at.clear()
        raise KeyboardInterrupt


sys.addaudithook(on_rename)  # it stays for ever


def test_a_sync_that_is_stopped_when_all_is_in_its_place(tiny_model: Path) -> None:
    translate(tiny_model)
    session, path = only_session(), correct({2: "One is well."})
    stopping_at.append("steps.new")
    result = templora("sync", session.name, path)
    assert result.exit_code == 130 and "the corrections are taken back and learnt" in result.stderr
    assert not stopping_at and "One is well." not in Path("book (English).txt").read_text()
    assert templora("resume").exit_code == 3
    assert "One is well." in Path("book (English).txt").read_text()


def test_a_manifest_that_does_not_say_what_was_asked(tiny_model: Path) -> None:
    translate(tiny_model, "--limit", "1")
    path = only_session() / "session.json"
    manifest = json.loads(path.read_text())
    assert manifest["request"].keys() == translated.ASKED
    del manifest["request"]["terms"]
    path.write_text(json.dumps(manifest))
    for command in ("review", "resume", "sync"):
        result = templora(command)
        assert result.exit_code != 0 and "lacks terms of its request" in message_of(result)
