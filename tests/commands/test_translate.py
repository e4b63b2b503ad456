"""The commands for translations with the tiny model: files, sessions, corrections, exit statuses."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from benchmarks.tiny_model import byte_tokenizer
from templora_cli import runner
from templora_cli.config import Config
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.events import ChunkRelearnt, Event, RebuildStarted, Working
from templora_cli.prepare import Engine
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Session, Store, now
from templora_cli.task_kinds import KINDS
from templora_cli.translation import translated_book
from templora_cli.translation.checks import FailedCheck
from templora_cli.translation.kind import Translation
from templora_cli.translation.task import best_translations
from tests.commands import test_cli
from tests.commands.test_cli import events_of, message_of, only_session
from tests.sessions.test_store import create

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
OPTIONS = ("--from", "de", "--to", "en", "--chunk-tokens", "100", "--set", "context_tokens=200")


@pytest.fixture(autouse=True)
def small_settings(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "translation.toml").write_text(PROMPTS)  # the packaged ones have many tokens of one byte
    config = f'prompts = "{prompts}"\n[train]\nrank = 2\nalpha = 2\ngradient_checkpointing = false\n'
    config += '[decode]\nbackend = "eager"\n'
    (tmp_path / "config.toml").write_text(config)
    Path("book.txt").write_text(BOOK)


TOKENIZER = byte_tokenizer()
LETTERS = torch.full((len(TOKENIZER),), -1e9)
LETTERS[ord("a") : ord("z") + 1] = 0.0


class Loud(EagerBackend):
    """Decodes the source in capitals and a sampled letter, in place of the tiny model's noise."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        assert name == "eager"
        super().__init__(model.module)
        self.chunks = 0

    def reset(self) -> None:
        self.chunks += 1

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        text = text_of(prompt).rsplit("<|user|>", 1)[1].split("<|end|>")[0].upper()
        for token in [*text.encode(), sampler.draw(prompt, LETTERS), TOKENIZER.eos_token_id][:max_tokens]:
            yield DecodedToken(token)


class Stopped(Loud):
    """Raises KeyboardInterrupt at the end of the first paragraph of the second chunk."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        for token in super().decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop):
            if self.chunks == 2 and token.id == TOKENIZER.eos_token_id:
                raise KeyboardInterrupt
            yield token


def text_of(prompt: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(prompt)))


def reject_schlecht(source: str, *_: Any) -> list[FailedCheck]:
    return [FailedCheck("numbers", "it is bad")] if "schlecht" in source else []


def with_translation(kind: Translation, backend: type[Loud] = Loud) -> Engine:
    return Engine(backend=backend, kinds={**KINDS, "translation": kind})


LOUD = with_translation(Translation(check=reject_schlecht))
STOPPED = with_translation(Translation(check=reject_schlecht), Stopped)
UNCHECKED = with_translation(Translation(check=lambda *_: []))


def templora(*arguments: str | Path, engine: Engine = LOUD) -> Result:
    return test_cli.templora(*arguments, engine=engine)


def translate(model: Path, *arguments: str, engine: Engine = LOUD) -> Result:
    return templora("translate", "book.txt", "--model", model, *OPTIONS, *arguments, engine=engine)


def records() -> list[Any]:
    return [chunk["record"]["paragraphs"] for chunk in read_chunks(only_session() / "steps")]


def targets() -> dict[int, str]:
    return {index: record["target"] for index, record in best_translations(chunk_records()).items()}


def chunk_records() -> list[Any]:
    return [chunk["record"] for chunk in read_chunks(only_session() / "steps")]


def tensors(session: Path) -> dict[str, torch.Tensor]:
    newest = committed_steps(session / "steps")[-1]
    return {**load_file(newest / "adapter.safetensors"), **load_file(newest / "optimizer.safetensors")}


def test_a_book_is_translated_checked_and_reported(tiny_model: Path) -> None:
    result = translate(tiny_model)
    assert result.exit_code == 3, result.output
    assert "6 paragraphs, 5 good, 0 good after a retry, 1 failed" in result.stderr
    written = Path("book (English).txt").read_text().split("\n\n")
    assert [part.strip() for part in written] == [targets()[index].strip() for index in range(6)]
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["good"], report["failed"], report["checks"]) == (5, 1, {"numbers": 1})
    assert report["paragraphs"][4]["attempts"] == 3
    assert "paragraph 5: it is bad" in (only_session() / "report.txt").read_text()
    page = (only_session() / "report.html").read_text()
    assert page.count('<tr class="failed">') == 1 and "Drei ist schlecht." in page
    assert len(records()) > 1, "several chunks"


def test_failed_paragraphs_are_not_learnt(tiny_model: Path) -> None:
    translate(tiny_model)
    for chunk in read_chunks(only_session() / "steps"):
        good = [record for record in chunk["record"]["paragraphs"] if not record["failed_checks"]]
        assert bool(chunk["train_losses"]) == bool(good)
        assert (chunk["rejection_reason"] is None) == bool(good)


def stop_in_the_second_chunk(model: Path) -> None:
    assert translate(model, engine=STOPPED).exit_code == 130


def test_a_resumed_translation_is_the_same_as_an_uninterrupted_one(tiny_model: Path) -> None:
    assert translate(tiny_model, "--out", "uninterrupted.txt").exit_code == 3
    uninterrupted = only_session()
    stop_in_the_second_chunk(tiny_model)
    assert not Path("book (English).txt").exists()
    assert only_session() != uninterrupted
    assert templora("resume").exit_code == 3
    assert Path("book (English).txt").read_text() == Path("uninterrupted.txt").read_text()
    expected, actual = tensors(uninterrupted), tensors(only_session())
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_chapters_and_limits(tiny_model: Path) -> None:
    assert translate(tiny_model, "--start", "1", "--end", "1").exit_code == 0
    assert sorted(targets()) == [0, 1, 2]
    assert "Drei ist schlecht." in Path("book (English).txt").read_text(), "the rest is unchanged"
    assert translate(tiny_model, "--limit", "2", "--out", "two.txt").exit_code == 0
    assert sorted(targets()) == [0, 1]


def test_a_file_in_another_language_than_the_given_one_is_told(tiny_model: Path) -> None:
    Path("book.txt").write_text("The old man set the lamp on the sill and waited for his son all night.\n")
    result = translate(tiny_model, "--from", "klingon")
    notice = "the file seems to be in English, not in Klingon as --from says; if so, use --from en"
    assert f"note: {notice}" in result.stderr.splitlines()
    assert "Klingon → English · " in result.stderr
    assert "seems to be" not in translate(tiny_model, "--from", "auto", "--to", "fr").stderr


def test_a_bilingual_file(tiny_model: Path) -> None:
    translate(tiny_model, "--bilingual", "--limit", "2")
    text = Path("book (English).txt").read_text()
    assert text.index("Eins ist gut.") < text.index("EINS IST GUT.") < text.index("Zwei ist gut.")


def test_events_are_printed_one_per_line(tiny_model: Path) -> None:
    result = translate(tiny_model, "--json", "--limit", "2")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    paragraphs = [
        (event["paragraph"], event["source"]) for event in events if event["event"] == "paragraph_translated"
    ]
    assert paragraphs == [(0, "Chapter 1"), (1, "Eins ist gut.")]
    assert events[0]["unit"] == "paragraphs" and events[0]["goal"] == 2
    assert events[-1]["event"] == "translation_finished" and events[-1]["good"] == 2


def correct(targets: dict[int, str]) -> Path:
    """Write a review file with new translations of some paragraphs, by their number from 1."""
    path = Path(templora("review").stdout.strip())
    lines = path.read_text().split("\n")
    for number, target in targets.items():
        start = next(i for i, line in enumerate(lines) if line.startswith(f"@{number} "))
        lines[start + 2] = f"> {target}"
    path.write_text("\n".join(lines))
    return path


def test_corrections_are_learnt_and_in_the_book(tiny_model: Path) -> None:
    translate(tiny_model)
    before, first = records(), tensors(only_session())
    path = correct({5: "Three is bad."})
    result = templora("sync", only_session().name, path)
    assert result.exit_code == 0, result.output
    assert "1 paragraph corrected or approved" in result.stderr
    assert "Three is bad." in Path("book (English).txt").read_text()
    report = json.loads((only_session() / "report.json").read_text())
    assert report["failed"] == 0
    after = records()
    assert [record["paragraph"] for chunk in after for record in chunk] == list(range(6))
    [corrected] = [record for chunk in after for record in chunk if record["origin"] == "human"]
    [original] = [record for chunk in before for record in chunk if record["paragraph"] == 4]
    assert corrected["before"] == original["target"]
    second = tensors(only_session())
    assert any(not torch.equal(second[name], first[name]) for name in first)


def test_a_pair_is_forgotten(tiny_model: Path) -> None:
    translate(tiny_model)
    before = records()
    result = templora("forget", "--pair", "2", "--json")
    assert result.exit_code == 0, result.output
    names = [event["event"] for event in events_of(result)]
    assert names[-2:] == ["changed", "forgotten"] and "chunk_relearnt" in names
    after = records()
    assert [[each["target"] for each in chunk] for chunk in after] == [
        [each["target"] for each in chunk] for chunk in before
    ], "the document stays as it is"
    [forgotten] = [each for chunk in after for each in chunk if each["paragraph"] == 1]
    assert [failed["check"] for failed in forgotten["failed_checks"]] == ["forgotten"]
    chunks = read_chunks(only_session() / "steps")
    learnt = bytes(token for chunk in chunks for token in chunk["tokens"] if token < 256)
    assert b"Eins ist gut." not in learnt and b"Zwei ist gut." in learnt
    assert "has no translated paragraph 99" in templora("forget", "--pair", "99").stderr
    assert "is a translation" in templora("forget", "--text", "Eins").stderr


def test_a_sync_as_events(tiny_model: Path) -> None:
    stop_in_the_second_chunk(tiny_model)
    path = correct({1: "Chapter the first"})
    result = templora("sync", only_session().name, path, "--json")
    started, relearnt, synced = events_of(result)
    assert (started["event"], started["first"], started["chunks"]) == ("rebuild_started", 0, 1)
    assert (relearnt["event"], relearnt["index"]) == ("chunk_relearnt", 0) and relearnt["train_losses"]
    assert (synced["event"], synced["paragraphs"], synced["chunks"]) == ("synced", 1, 1)
    assert synced["resume_command"] == f"templora resume {only_session().name}"
    assert templora("resume").exit_code == 3
    path.unlink()
    last = events_of(templora("sync", only_session().name, correct({5: "Three is bad."}), "--json"))[-1]
    assert (last["event"], last["corrected"], last["failed"]) == ("translation_finished", 2, 0)


def test_a_retry_as_events(tiny_model: Path) -> None:
    translate(tiny_model)
    events = events_of(templora("retry", "--json"))
    assert events[0]["event"] == "session_opened" and (events[0]["goal"], events[0]["done"]) == (7, 6)
    [translated] = [event for event in events if event["event"] == "paragraph_translated"]
    assert translated["paragraph"] == 4 and translated["failed_checks"] == ["it is bad"]
    assert events[-1]["event"] == "translation_finished" and events[-1]["failed"] == 1


def test_relearning_an_unchanged_book_gives_the_same_adapter(tiny_model: Path) -> None:
    translate(tiny_model)
    expected = tensors(only_session())
    with Store().open(None) as session:
        run = runner.reopen(session, engine=LOUD)
        for step in committed_steps(session.steps):  # as if they had been thinned
            (step / "state.json").unlink(missing_ok=True)
        chunks = run.chunks
        chunks[0]["record"]["paragraphs"][0]["attempts"] += 1
        events = [event for event in run.relearn(chunks) if not isinstance(event, Working)]
        assert isinstance(events[0], RebuildStarted) and events[0].chunks == len(chunks)
        assert all(isinstance(event, ChunkRelearnt) for event in events[1:])
        assert [event.index for event in events[1:]] == [*range(len(chunks))]  # type: ignore[attr-defined]
    actual = tensors(only_session())
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_corrections_are_in_the_prompts_of_later_chunks(tiny_model: Path) -> None:
    class Watched(Loud):
        def decode(self, prompt: Sequence[int], **options: Any) -> Iterator[DecodedToken]:
            prompts.append(text_of(prompt))
            return super().decode(prompt, **options)

    prompts: list[str] = []
    watched = with_translation(Translation(check=reject_schlecht), Watched)
    stop_in_the_second_chunk(tiny_model)
    done = sorted(targets())
    path = correct({done[-1] + 1: "One is well."})
    assert templora("sync", only_session().name, path, engine=watched).exit_code == 0
    assert not prompts and not Path("book (English).txt").exists(), "sync neither decodes nor finishes"
    assert templora("resume", engine=watched).exit_code == 3
    assert "One is well." in prompts[0]
    assert sorted(targets()) == list(range(6)) and "One is well." in Path("book (English).txt").read_text()


def test_failed_paragraphs_are_retried(tiny_model: Path) -> None:
    assert translate(tiny_model).exit_code == 3
    assert templora("retry").exit_code == 3, "still bad"
    result = templora("retry", engine=UNCHECKED)
    assert result.exit_code == 0, result.output
    assert "German → English · " in result.stderr and "translates 1 paragraph once more" in result.stderr
    assert "8 paragraphs" not in result.stderr and "of 8" not in result.stderr
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["good"], report["retried"], report["failed"]) == (5, 1, 0)
    assert report["done"] == report["total"] == 6
    result = templora("retry")
    assert result.exit_code == 2 and "has no failed paragraphs" in message_of(result)


def test_bare_commands_take_the_translation_that_was_worked_on_last(tiny_model: Path) -> None:
    novel = ("--model", tiny_model, "--chunk-tokens", "16", "--context-tokens", "24", "--chunks", "1")
    for name in ("first", "second"):
        translate(tiny_model, "--name", name, "--out", f"{name}.txt", "--seed", str(len(name)))
    test_cli.templora("write", "--premise", "A", *novel, "--name", "tale")
    assert Path(templora("review").stdout.strip()).name == "second.review.txt"
    assert Store().last() == "second"
    assert templora("review", "first").exit_code == 0 and Store().last() == "first"
    assert templora("retry", "second").exit_code == 3 and Store().last() == "second"
    templora("review", "first")
    review = correct({1: "Chapter the first"})
    assert review.name == "first.review.txt"
    with Store().open("second") as session:
        session.update(opened=now())
    assert templora("sync", "first", review).exit_code == 3 and Store().last() == "first"


@pytest.mark.parametrize("command", ["review", "retry"])
def test_without_a_translation_there_is_a_hint(command: str) -> None:
    create("novel-0001").lock.release()
    result = templora(command)
    assert "there is no translation in" in message_of(result)
    assert "templora translate FILE --to en" in (str(getattr(result.exception, "hint", "")) + result.stderr)


def test_a_missing_editor_is_reported_before_the_review_is_written(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translate(tiny_model)
    monkeypatch.setenv("EDITOR", "no-such-editor")
    monkeypatch.delenv("VISUAL", raising=False)
    result = templora("review", "--edit")
    assert "there is no command no-such-editor" in message_of(result)
    assert not list(Path().glob("*.review.txt"))


def test_a_model_that_has_moved(tiny_model: Path) -> None:
    translate(Path(shutil.copytree(tiny_model, "model")))
    name, review = only_session().name, correct({1: "Chapter the first"})
    Path("model").rename("moved")
    lost = templora("sync", name, review)
    assert f"if it has moved: templora sync {name} {review} --model PATH" in lost.stderr.replace("\n", " ")
    assert templora("sync", name, review, "--model", "moved").exit_code == 3
    Path("moved").rename("model")
    lost = templora("retry", name)
    assert f"if it has moved: templora retry {name} --only failed --model PATH" in lost.stderr.replace(
        "\n", " "
    )
    assert templora("retry", name, "--model", "model", engine=UNCHECKED).exit_code == 0


def test_a_review_is_written_again_and_corrections_are_not_lost(tiny_model: Path) -> None:
    translate(tiny_model)
    name = only_session().name
    for only in ("all", "failed", "all"):
        assert templora("review", name, "--only", only).exit_code == 0
    review = correct({1: "Chapter the first"})
    corrected = review.read_text()
    refused = templora("review", name)
    assert "was changed or is not from session" in message_of(refused) and review.read_text() == corrected
    assert templora("review", name, "--force").exit_code == 0
    (aside,) = Path().glob("*.edited-1.txt")
    assert aside.read_text() == corrected
    renamed = templora("sessions", "rename", name, "harbour")
    assert renamed.exit_code == 0
    aside.replace(review)
    assert templora("sync", "harbour").exit_code == 3, "the file still has the name that the session had"
    assert "Chapter the first" in Path("book (English).txt").read_text()


def test_a_review_whose_corrections_are_in_the_book_is_written_again(tiny_model: Path) -> None:
    translate(tiny_model)
    name = only_session().name
    assert templora("review", name).exit_code == 0
    review = correct({1: "Chapter the first"})
    assert templora("sync", name).exit_code == 3
    assert templora("review", name).exit_code == 0 and not list(Path().glob("*.edited-*"))
    assert "> Chapter the first" in review.read_text()
    review.write_text(review.read_text() + "\n")
    assert "contains no corrections" in templora("sync", name).stderr.replace("\n", " ")
    assert templora("review", name).exit_code == 0, "it has nothing that the book has not"
    correct({1: "Chapter one"})
    assert "was changed" in message_of(templora("review", name)), "these corrections are in no book"


def test_a_translation_is_written_to_another_file(tiny_model: Path) -> None:
    translate(tiny_model, "--name", "harbour")
    wrong = templora("resume", "harbour", "--out", "other.md")
    assert "a translation has the format of its source, .txt" in message_of(wrong)
    assert templora("resume", "harbour", "--out", "other.txt").exit_code == 3
    assert Path("other.txt").read_text() == Path("book (English).txt").read_text()


def test_an_edited_file_is_renamed(tiny_model: Path) -> None:
    translate(tiny_model)
    Path("book (English).txt").write_text("mine")
    templora("sync", only_session().name, correct({1: "Chapter the first"}))
    assert Path("book (English).edited-1.txt").read_text() == "mine"
    assert Path("book (English).txt").read_text().startswith("Chapter the first")


def test_a_translation_is_exported(tiny_model: Path) -> None:
    translate(tiny_model, "--limit", "3")
    name = only_session().name
    assert templora("sessions", "export", name).stdout.strip().endswith(f"{name}.txt")
    assert Path(f"{name}.txt").read_text() == Path("book (English).txt").read_text()
    assert "3/3" not in templora("sessions", "list").stdout
    assert "finished" in templora("sessions", "list").stdout


def test_an_estimate_writes_nothing(tiny_model: Path) -> None:
    result = translate(tiny_model, "--estimate")
    assert result.exit_code == 0, result.output
    assert re.search("paragraphs +6\n", result.stdout) and re.search("time +about 0 h", result.stdout)
    assert not Path("book (English).txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "de"), "source and target are both German"),
        (("--to", "nowherish"), "'nowherish' is not a language"),
        (("--start", "9"), "--start 9: the book has 2 chapters"),
        (("--to", "frensh"), "'frensh' is not a language; did you mean French?"),
        (("--start", "2", "--end", "1"), "--end 1 is before --start 2"),
        (("--limit", "0"), "--limit 0: must be at least 1"),
        (("--out", "book.epub"), "a translation has the format of its source, .txt"),
        (("--glossary", "none.csv"), "none.csv"),
        (("--encoding", "latin-17"), "latin-17"),
    ],
)
def test_bad_arguments_are_errors(tiny_model: Path, arguments: tuple[str, ...], message: str) -> None:
    result = translate(tiny_model, *arguments)
    assert result.exit_code == 2 and message in message_of(result), result.output


def test_a_book_of_one_chapter_is_called_so(tiny_model: Path) -> None:
    Path("book.txt").write_text("Eins ist gut.\n\nZwei ist gut.\n")
    assert "--start 9: the book has 1 chapter\n" in message_of(translate(tiny_model, "--start", "9"))


def test_an_existing_file_is_not_overwritten(tiny_model: Path) -> None:
    Path("book (English).txt").write_text("mine")
    result = translate(tiny_model)
    assert result.exit_code == 2 and "does not overwrite" in message_of(result)


def test_a_damaged_copy_of_the_source(tiny_model: Path) -> None:
    translate(tiny_model, "--limit", "2")
    (only_session() / "source.txt").write_text("other")
    result = templora("resume")
    assert result.exit_code == 2 and "source.txt is damaged" in message_of(result)


def test_the_glossary_is_used_and_frozen(tiny_model: Path) -> None:
    Path("terms.csv").write_text("source,target\nEins,One\n")
    translate(tiny_model, "--glossary", "terms.csv", "--limit", "2")
    manifest = json.loads((only_session() / "session.json").read_text())
    assert manifest["config"]["generated"]["context_tokens"] == 256, "the context has the sources"
    assert manifest["request"]["terms"] == [{"source": "Eins", "target": "One", "note": "", "forbidden": []}]


def test_without_learning(tiny_model: Path) -> None:
    translate(tiny_model, "--no-learn")
    assert all(not chunk["train_losses"] for chunk in read_chunks(only_session() / "steps"))


def test_the_same_command_resumes_and_a_changed_file_is_reported(tiny_model: Path) -> None:
    stop_in_the_second_chunk(tiny_model)
    session = only_session()
    Path("book.txt").write_text(BOOK.replace("Zwei", "Zehn"))
    other = translate(tiny_model, "--limit", "1", "--out", "other.txt")
    assert f"book.txt has changed since session {session.name} began" in other.stderr
    Path("book.txt").write_text(BOOK)
    again = translate(tiny_model)
    assert again.exit_code == 3 and f"session {session.name}" in again.stderr
    assert "so far: 1 chunk" in again.stderr


def test_a_session_continues_with_its_copy_of_a_changed_file(tiny_model: Path) -> None:
    stop_in_the_second_chunk(tiny_model)
    name = only_session().name
    Path("book.txt").write_text(BOOK.replace("Vier", "Zehn"))
    notice = f"book.txt has changed since session {name} began; it continues with its copy"
    resumed = templora("resume")
    assert resumed.exit_code == 3 and notice in resumed.stderr
    assert "VIER IST GUT." in Path("book (English).txt").read_text()
    for again in (templora("sync", name, correct({2: "One is well."})), templora("retry")):
        assert again.exit_code == 3 and again.stderr.count(notice) == 1
    Path("book.txt").unlink()
    without_file = templora("resume")
    assert without_file.exit_code == 3 and "has changed" not in without_file.stderr


def test_a_repeated_title_is_translated_once(tiny_model: Path) -> None:
    page = "<html><head><title>Turm</title></head><body><h1>Turm</h1><p>Turm</p><h2>Turm</h2></body></html>"
    Path("page.html").write_text(page)
    result = templora("translate", "page.html", "--model", tiny_model, *OPTIONS)
    assert result.exit_code == 0, result.output
    written = Path("page (English).html").read_text()
    heading, again = (written.split(f"<{tag}>")[1].split("<")[0] for tag in ("h1", "h2"))
    assert heading == again and heading.startswith("TURM")
    assert [record["paragraph"] for chunk in records() for record in chunk] == [0, 1]


def test_corrected_paragraphs_are_not_retried(tiny_model: Path) -> None:
    translate(tiny_model)
    templora("sync", only_session().name, correct({5: "Three is bad."}))
    result = templora("retry", "--only", "retried")
    assert result.exit_code == 2 and "has no retried paragraphs" in message_of(result)
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["good"], report["corrected"], report["failed"]) == (5, 1, 0)
    path = Path(templora("review", "--out", "again.txt").stdout.strip())
    unedited = templora("sync", only_session().name, path)
    assert unedited.exit_code == 0 and "contains no corrections or approvals" in unedited.stderr


def test_the_prompts_of_a_session_are_frozen(tiny_model: Path, tmp_path: Path) -> None:
    translate(tiny_model, "--limit", "1")
    (tmp_path / "prompts" / "translation.toml").write_text(PROMPTS.replace("Into", "Now into"))
    with runner.resume(engine=LOUD) as run:
        prompt = run.task.next_turn((), ()).prompt  # type: ignore[union-attr]
    assert "<|system|>Into English." in text_of(prompt.header)


def test_a_damaged_step_is_reported_and_the_rest_can_be_exported(tiny_model: Path) -> None:
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


def test_a_resumed_translation_prints_nothing_on_standard_output(tiny_model: Path) -> None:
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
    notice = "paragraph 2 is too long for a chunk (more than 50 tokens): translated in 6 parts, split at the"
    assert notice in result.stderr
    parts = Path("book (English).txt").read_text().split("\n\n")
    assert len(parts) == 3 and parts[1].count("DAS MEER WAR STILL.") == 10
    assert all(chunk["rejection_reason"] is None for chunk in read_chunks(only_session() / "steps")), (
        "each part is learnt"
    )
    report = json.loads((only_session() / "report.json").read_text())
    assert (report["total"], report["failed"], report["checks"]) == (8, 1, {"numbers": 1})
    numbers = ["1", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3"]
    assert [paragraph["number"] for paragraph in report["paragraphs"]] == numbers, "as in the file"
    assert "paragraph 2.6 failed: " in result.stderr
    assert "paragraph 2.6: " in (only_session() / "report.txt").read_text()
    assert "<td>2.6</td>" in (only_session() / "report.html").read_text()
    assert templora("review", "--out", "review.txt").exit_code == 0
    assert re.findall("^@([0-9.]+) ", Path("review.txt").read_text(), re.MULTILINE) == numbers
    before = len(records())
    assert templora("retry").exit_code == 3
    [retried] = [record for chunk in records()[before:] for record in chunk]
    assert retried["target"].startswith("ES IST SCHLECHT."), "only the part that failed"
    review = Path("review.txt").read_text()
    Path("review.txt").write_text(re.sub("(@2.6 .*\n< .*\n> ).*", r"\1It is bad.", review))
    assert templora("sync", only_session().name, "review.txt").exit_code == 0
    assert Path("book (English).txt").read_text().split("\n\n")[1].endswith(" It is bad.")
    Path("limited.txt").write_text(Path("book.txt").read_text())
    limited = templora("translate", "limited.txt", "--model", tiny_model, *OPTIONS, "--limit", "2")
    assert limited.exit_code == 3 and "7 paragraphs" in limited.stderr, "all parts of the second one"


def test_several_long_paragraphs_are_reported_at_once(tiny_model: Path) -> None:
    long = "Das Meer war still. " * 5
    Path("book.txt").write_text(f"Vorher.\n\n{long}\n\nKurz.\n\n{long}\n")
    stderr = translate(tiny_model, "--limit", "1").stderr
    assert "2 paragraphs, the first of them paragraph 2, are too long for a chunk (more than 50" in stderr
    assert "translated in 6 parts" in stderr


def test_ctrl_c_while_the_document_is_written(tiny_model: Path) -> None:
    class StoppedAtTheEnd(Translation):
        def end(self, session: Session, chunks: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
            yield next(super().end(session, chunks))
            raise KeyboardInterrupt

    result = translate(
        tiny_model, "--limit", "2", "--json", engine=with_translation(StoppedAtTheEnd(check=reject_schlecht))
    )
    last = events_of(result)[-1]
    assert result.exit_code == 130 and last["event"] == "interrupted" and last["chunks"] == 1
    assert last["resume_command"] == f"templora resume {only_session().name}"
    assert not Path("book (English).txt").exists()
    assert templora("resume").exit_code == 0 and Path("book (English).txt").exists()


def test_a_sync_that_is_stopped_changes_nothing(tiny_model: Path) -> None:
    class StoppedInTheSecond(Loud):
        def reset(self) -> None:
            super().reset()
            if self.chunks == 2:
                assert list(Store().folder.glob("*/steps.new/000000")), "the first is learnt again"
                raise KeyboardInterrupt

    translate(tiny_model)
    session, before, adapter = only_session(), records(), tensors(only_session())
    path = correct({2: "One is well."})
    stopping = with_translation(Translation(check=reject_schlecht), StoppedInTheSecond)
    result = templora("sync", session.name, path, engine=stopping)
    assert result.exit_code == 130 and "the session has not changed" in result.stderr
    assert records() == before and all(torch.equal(t, adapter[n]) for n, t in tensors(session).items())
    assert templora("sync", session.name, path).exit_code == 3
    assert not (session / "steps.new").exists() and not (session / "steps.old").exists()
    assert records()[0][1]["target"] == "One is well."


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("translate", "stopped before the translation began"),
        ("resume", "stopped before anything was changed"),
        ("sync", "stopped before anything was changed"),
        ("retry", "stopped before anything was changed"),
    ],
)
def test_ctrl_c_while_the_model_loads_changes_nothing(command: str, message: str, tiny_model: Path) -> None:
    def press_ctrl_c(folder: Path, config: Config) -> LanguageModel:
        raise KeyboardInterrupt

    engine = replace(LOUD, load=press_ctrl_c)
    if command == "translate":
        result = translate(tiny_model, engine=engine)
        assert not Store().folder.exists()
    else:
        translate(tiny_model)
        arguments = [correct({2: "One is well."})] if command == "sync" else []
        before = (only_session() / "session.json").read_bytes()
        result = templora(command, only_session().name, *arguments, engine=engine)
        assert (only_session() / "session.json").read_bytes() == before
    assert result.exit_code == 130
    assert f"{message}; type the same command again" in result.stderr


def test_a_session_that_is_deleted_during_a_sync_ends_with_an_error(tiny_model: Path) -> None:
    class Deleting(Loud):
        def adapter_changed(self) -> None:
            shutil.rmtree(only_session(), ignore_errors=True)

    translate(tiny_model, "--name", "storm")
    path = correct({2: "One is well."})
    deleting = with_translation(Translation(check=reject_schlecht), Deleting)
    result = templora("sync", "storm", path, engine=deleting)
    assert result.exit_code == 2 and "was deleted, moved or replaced while" in result.stderr
    assert not list(Store().folder.iterdir())


stopping_at: list[str] = []
"""Names of folders: renaming one raises KeyboardInterrupt, once."""


def on_rename(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.rename" and stopping_at and Path(str(args[0])).name == stopping_at[0]:
        stopping_at.clear()
        raise KeyboardInterrupt


sys.addaudithook(on_rename)  # a hook cannot be removed


def test_a_sync_that_is_stopped_after_its_last_step(tiny_model: Path) -> None:
    translate(tiny_model)
    session, path = only_session(), correct({2: "One is well."})
    stopping_at.append("steps.new")
    result = templora("sync", session.name, path)
    assert result.exit_code == 130 and "the corrections are saved and learnt" in result.stderr
    assert not stopping_at and "One is well." not in Path("book (English).txt").read_text()
    assert templora("resume").exit_code == 3
    assert "One is well." in Path("book (English).txt").read_text()


def test_a_manifest_with_an_incomplete_request(tiny_model: Path) -> None:
    translate(tiny_model, "--limit", "1")
    path = only_session() / "session.json"
    manifest = json.loads(path.read_text())
    assert manifest["request"].keys() == translated_book.REQUEST_KEYS
    del manifest["request"]["terms"]
    path.write_text(json.dumps(manifest))
    for command in ("review", "resume", "sync"):
        result = templora(command)
        assert result.exit_code != 0 and "lacks terms" in message_of(result)


def test_a_guessed_encoding_is_announced(tiny_model: Path) -> None:
    Path("book.txt").write_bytes("Der König ging über die Straße.".encode("cp1252"))
    notice = "reading book.txt as Windows-1252; if that is wrong, name the right one: --encoding NAME"
    Path("terms.csv").write_bytes("source,target\nKönig,king\n".encode("cp1252"))
    done = translate(tiny_model, "--glossary", "terms.csv").stderr.replace("\n", " ")
    assert notice in done and "reading terms.csv as Windows-1252; if that is wrong, save the file as" in done
    Path("book.txt").write_bytes("Der König ging über die Straße. Der König schlief.".encode("cp1252"))
    proposed = templora("glossary", "extract", "book.txt", "--from", "de")
    assert f"note: {notice}" in proposed.stderr
