"""`templora edit`, `sync` and `accept`: what the author of a book changes and keeps."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from templora_cli import runner
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.novel.revised_chunks import ChunkReviser
from templora_cli.novel.revision import revise
from templora_cli.sessions.steps import committed_steps, read_chunks, readable_text
from templora_cli.sessions.store import Store
from tests.commands.test_cli import EXACT, events_of, message_of, small_adapter, write  # noqa: F401
from tests.commands.test_cli import templora as run
from tests.commands.test_sessions import Looping
from tests.test_undo import state_of

pytestmark = pytest.mark.usefixtures("small_adapter")


class Prose(Looping):
    """A backend that writes sentences, each of them only once in a book."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        after = sum(prompt) % 9973
        sentences = (
            f"The {word} came in at {n}, {n * 7} saw, and {n * 11} heard. "
            for n, word in enumerate(cycle(WORDS), after)
        )
        paragraphs = (s.rstrip() + "\n\n" if n % 3 == 2 else s for n, s in enumerate(sentences))
        for token in islice((token for text in paragraphs for token in text.encode()), max_tokens):
            yield DecodedToken(token)


WORDS = ("tide", "storm", "boat", "wind", "night")
PROSE = replace(EXACT, backend=Prose)


def templora(*arguments: str | Path) -> Result:
    return run(*arguments, engine=PROSE)


@pytest.fixture
def book(tiny_model: Path) -> Path:
    """The folder of a book of four chunks with the book file storm.md."""
    arguments = ("--chunk-tokens", "192", "--tokens", "768", "--name", "storm", "--out", "storm.md")
    arguments += ("--set", "gate.enabled=false")
    written = write(tiny_model, *arguments, engine=PROSE)
    assert written.exit_code == 0, written.stderr
    return Store().find("storm")


def text_of(book: Path) -> str:
    return readable_text(book / "steps")[0]


def edited(path: Path, change: Callable[[str], str]) -> Path:
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    return path


def with_words(text: str) -> str:
    """The text with three words in the middle."""
    words = text.split(" ")
    middle = len(words) // 2
    return " ".join([*words[:middle], "Words of a person.", *words[middle:]])


def by_script(tmp_path: Path, code: str) -> str:
    """An editor that runs `code` on the file at `path`."""
    script = tmp_path / "editor.py"
    script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[-1])\n{code}\n")
    return f"python3 {script}"


def test_the_edited_book_file_is_learnt_and_stays(book: Path) -> None:
    before, path = text_of(book), edited(Path("storm.md"), with_words)
    result = templora("sync", path)
    assert result.exit_code == 0, result.stderr
    assert "Words of a person." in text_of(book) and text_of(book) != before
    assert text_of(book).split() == path.read_text("utf-8").split()
    assert [file.name for file in Path().glob("storm*")] == ["storm.md"], "it was not set aside"
    assert "1 paragraph changed" in result.stderr and "to learn again, about" in result.stderr
    chunks = read_chunks(book / "steps")
    changed = [chunk for chunk in chunks if chunk["human"]]
    assert changed and all(chunk["origin"] == "generated" for chunk in chunks)
    rates = {chunk["lr"] for chunk in chunks if not chunk["human"]}
    assert all(len(chunk["train_losses"]) == 2 for chunk in changed), "a pass for each author"
    assert len(rates) <= 2
    again = templora("sync", path)
    assert again.exit_code == 0 and "has no changes" in again.stderr


def test_weights_after_an_edit_are_those_of_a_book_that_always_had_it(book: Path, tiny_model: Path) -> None:
    assert templora("sync", edited(Path("storm.md"), with_words)).exit_code == 0
    once = state_of(book)
    chunks = read_chunks(book / "steps")
    for chunk in chunks[1:]:
        for name in ("adapter.safetensors", "optimizer.safetensors", "state.json"):
            (book / "steps" / f"{chunk['index']:06d}" / name).unlink(missing_ok=True)
    assert templora("undo", "1").exit_code == 0, "the rest is learnt again from the first chunk"
    assert templora("sessions", "restore", "storm", "2").exit_code == 0
    assert state_of(book) == once


def test_an_edit_is_learnt_later(book: Path) -> None:
    before = read_chunks(book / "steps")
    result = templora("sync", "--later", edited(Path("storm.md"), with_words))
    assert result.exit_code == 0, result.stderr
    assert "1 chunk learnt again" in result.stderr and "Words of a person." in text_of(book)
    chunks = read_chunks(book / "steps")
    assert any(chunk["human"] for chunk in chunks) and len(chunks) >= len(before)
    changed = next(n for n, chunk in enumerate(before) if chunks[n]["tokens"] != chunk["tokens"])
    assert chunks[:changed] == before[:changed]
    weights = [(step / "state.json").exists() for step in committed_steps(book / "steps")]
    assert weights[changed:] == [False] * (len(weights) - changed - 1) + [True]
    assert templora("resume", "storm", "--chunks", "1").exit_code == 0
    assert templora("undo", "storm", "2").exit_code == 0, (
        "what follows the change is learnt again, in its place"
    )
    assert "Words of a person." in text_of(book)
    assert all(chunk["train_losses"] for chunk in read_chunks(book / "steps"))


@pytest.mark.parametrize("events", [0, 1, 2])
def test_a_stop_while_an_edit_is_learnt_later_changes_nothing(book: Path, events: int) -> None:
    before = state_of(book)
    with Store().open("storm") as session:
        opened = runner.reopen(session, engine=PROSE)
        text = opened.text
        reviser = ChunkReviser(opened.model.tokenizer, session.manifest.longest_chunk)
        chunks = reviser.revised(opened.chunks, revise(text, with_words(text)))
        learning = opened.learn_later(chunks)
        assert len(list(islice(learning, events))) == events
        learning.close()
    with Store().open("storm"):
        assert state_of(book) == before and not list(book.glob("steps.*"))


def test_without_new_words_there_is_nothing_to_learn_later(book: Path) -> None:
    path = edited(Path("storm.md"), lambda text: "\n\n".join(text.split("\n\n")[1:]))
    before = state_of(book)
    result = templora("sync", "storm", path, "--later")
    assert result.exit_code == 2 and "you added no words" in result.stderr and state_of(book) == before


def test_form_alone_changes_nothing(book: Path) -> None:
    path = edited(
        Path("storm.md"), lambda text: "\ufeff" + text.replace(" ", "\n", 2).replace("\n\n", "\r\n\r\n")
    )
    before = state_of(book)
    result = templora("sync", "storm", path)
    assert result.exit_code == 0 and "has no changes" in result.stderr
    assert state_of(book) == before


def test_a_book_is_edited_in_the_editor(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", by_script(tmp_path, "path.write_text(path.read_text() + ' More of it.')"))
    result = templora("edit", "storm", "--json")
    assert result.exit_code == 0, result.stderr
    changed = events_of(result)[-1]
    assert (changed["event"], changed["kind"], changed["detail"]) == (
        "changed",
        "sync",
        "1 paragraph changed",
    )
    assert changed["relearnt"] >= 1 and text_of(book).endswith("More of it.")
    assert not (book / "edit.md").exists()
    assert Path("storm.md").read_text("utf-8").endswith("More of it.\n"), "the book file has it too"


def test_an_editor_that_changes_nothing_does_nothing(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", by_script(tmp_path, ""))
    before = state_of(book)
    result = templora("edit", "storm")
    assert result.exit_code == 0 and "has no changes" in result.stderr and state_of(book) == before


def test_an_edit_that_was_not_applied_is_not_lost(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "path.write_text(path.read_text() + ' Not lost.')\nsys.exit(3)"
    monkeypatch.setenv("EDITOR", by_script(tmp_path, code))
    failed = templora("edit", "storm")
    assert failed.exit_code == 2 and "your text is safe" in failed.stderr
    monkeypatch.setenv("EDITOR", by_script(tmp_path, ""))
    result = templora("edit", "storm")
    assert result.exit_code == 0 and "your last edit was not applied" in result.stderr
    assert text_of(book).endswith("Not lost.")


def test_a_file_for_editing_is_written_and_applied(book: Path) -> None:
    result = templora("edit", "storm", "--out", "mine.md")
    assert result.exit_code == 0 and "templora sync storm" in result.stdout
    edited(Path("mine.md"), with_words)
    assert templora("sync", "mine.md").exit_code == 0
    assert "Words of a person." in text_of(book)


def test_a_file_of_before_the_book_grew_takes_nothing_away(book: Path) -> None:
    templora("edit", "storm", "--out", "marked.md")
    plain = Path("plain.md")
    plain.write_text(Path("storm.md").read_text("utf-8"), "utf-8")
    assert templora("resume", "storm", "--chunks", "2").exit_code == 0
    end = text_of(book)[-10:]
    result = templora("sync", "storm", edited(plain, with_words))
    assert result.exit_code == 0, result.stderr
    assert "the last 2 chunks of the book are not in it and will stay" in result.stderr
    assert text_of(book).endswith(end) and "Words of a person." in text_of(book)
    merged = templora(
        "sync", edited(Path("marked.md"), lambda text: text.replace("-->\n\n", "-->\n\nFirst. "))
    )
    assert merged.exit_code == 0, merged.stderr
    assert text_of(book).startswith("First. ") and "Words of a person." in text_of(book)
    assert text_of(book).endswith(end)


def test_changes_of_two_people_come_together(tiny_model: Path) -> None:
    Path("opening.txt").write_text("One morning it rained.\n\nHe went out.\n\nShe slept until noon.\n\n")
    written = write(tiny_model, "--from", "opening.txt", "--tokens", "32", "--name", "storm", engine=PROSE)
    assert written.exit_code == 0, written.stderr
    for name in ("one.md", "two.md"):
        assert templora("edit", "storm", "--out", name).exit_code == 0
    edited(Path("one.md"), lambda text: text.replace("it rained", "it snowed"))
    edited(Path("two.md"), lambda text: text.replace("until noon", "all day"))
    for name in ("one.md", "two.md"):
        result = templora("sync", "storm", name)
        assert result.exit_code == 0, result.stderr
    text = text_of(Store().find("storm"))
    assert "it snowed" in text and "slept all day" in text
    for name, word in (("one.md", "hailed"), ("two.md", "poured")):
        edited(Path(name), lambda text, word=word: text.replace("snowed", word).replace("rained", word))
    assert templora("sync", "storm", "one.md").exit_code == 0
    clash = templora("sync", "storm", "two.md")
    assert (
        clash.exit_code == 2 and "both changed 1 paragraph, first “One morning it hailed.…”" in clash.stderr
    )
    assert templora("resume", "storm", "--chunks", "1").exit_code == 0
    text = text.replace("snowed", "hailed")
    chunks = read_chunks(Store().find("storm") / "steps")
    origins = [chunk["origin"] for chunk in chunks]
    assert origins == sorted(origins, reverse=True), "the edited opening is followed by the model's text"
    assert text_of(Store().find("storm")).startswith(text)


def test_a_file_of_another_book_is_refused(book: Path) -> None:
    before = state_of(book)
    Path("other.md").write_text("A wholly different book, with nothing of the first one in it. " * 9)
    result = templora("sync", "storm", "other.md")
    assert result.exit_code == 2 and "does not look like storm" in result.stderr
    Path("marked.md").write_text("<!-- templora ferry-1a2b: 3 chunks, change 0, file 00c0ffee -->\n\nText.\n")
    result = templora("sync", "storm", "marked.md")
    assert result.exit_code == 2 and "is of ferry-1a2b, not of storm" in result.stderr
    assert "templora sync ferry-1a2b marked.md" in result.stderr
    assert state_of(book) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sync", "storm", "missing.md"), "there is no file missing.md"),
        (("sync", "storm", "empty.md"), "is empty"),
        (("edit", "storm", "--chapter", "1", "--out", "x.md"), "storm has no chapters"),
        (("accept", "storm", "--chapter", "1"), "storm has no chapters"),
        (("edit", "nothing", "--out", "x.md"), "no session is called nothing"),
        (("edit", "storm", "--out", "storm.md"), "already exists"),
        (("edit", "storm", "--out", "storm.docx"), "a book is edited as .md or .txt"),
    ],
)
def test_mistakes_are_refused(book: Path, arguments: tuple[str, ...], message: str) -> None:
    Path("empty.md").write_text("  \n")
    before = state_of(book)
    result = templora(*arguments)
    assert result.exit_code == 2 and message in message_of(result)
    assert state_of(book) == before


def test_accepted_text_is_learnt_more_strongly(book: Path) -> None:
    before = read_chunks(book / "steps")
    result = templora("accept", "storm", "--json")
    assert result.exit_code == 0, result.stderr
    changed: dict[str, Any] = events_of(result)[-1]
    assert (changed["kind"], changed["detail"], changed["relearnt"]) == ("accept", "4 chunks accepted", 4)
    after = read_chunks(book / "steps")
    assert [chunk["origin"] for chunk in after] == ["accepted"] * 4
    assert [chunk["text"] for chunk in after] == [chunk["text"] for chunk in before]
    config = json.loads((book / "session.json").read_text())["config"]
    generated, human = config["generated"], config["human"]
    assert generated["lr"] < generated["accepted_lr"] < human["lr"]
    assert after[-1]["lr"] == generated["accepted_lr"] and before[-1]["lr"] == generated["lr"]
    again = templora("accept", "storm")
    assert again.exit_code == 0 and "all of that was accepted before" in again.stderr
    assert templora("resume", "storm", "--chunks", "1").exit_code == 0
    assert read_chunks(book / "steps")[-1]["origin"] == "generated"
    assert "chunk 4, accepted" in templora("sessions", "log", "storm").stdout


def test_resume_says_what_was_edited_and_sets_it_aside(book: Path) -> None:
    edited(Path("storm.md"), with_words)
    result = templora("resume", "storm", "--chunks", "1")
    assert result.exit_code == 0, result.stderr
    assert "storm.md was edited: 1 paragraph changed" in result.stderr
    assert "templora sync storm" in result.stderr and "Words of a person." not in text_of(book)
    (aside,) = Path().glob("storm.edited-*.md")
    assert templora("sync", "storm", aside).exit_code == 0
    assert "Words of a person." in text_of(book)


def test_an_older_copy_does_not_take_back_a_later_edit(book: Path) -> None:
    """A file that was set aside is compared with the text that it was made of."""
    path = Path("storm.md")
    first, *_, last = path.read_text("utf-8").rstrip().split("\n\n")
    edited(path, lambda text: text.replace(first, f"Older. {first}"))
    assert templora("resume", "storm", "--chunks", "1").exit_code == 0
    (aside,) = Path().glob("storm.edited-*.md")
    assert (
        templora("sync", "storm", edited(path, lambda text: text.replace(last, f"Newer. {last}"))).exit_code
        == 0
    )
    result = templora("sync", "storm", aside)
    assert result.exit_code == 0, result.stderr
    assert "Older. " in text_of(book) and "Newer. " in text_of(book)
    edited(path, lambda text: text.replace("Older. ", "Oldest. "))
    assert templora("sync", "storm", path).exit_code == 0
    edited(aside, lambda text: text.replace("Older. ", "Eldest. "))
    clash = templora("sync", "storm", aside)
    assert clash.exit_code == 2 and "both changed" in clash.stderr and "Oldest. " in text_of(book)


def test_after_a_change_was_taken_back_its_file_can_be_applied_again(book: Path) -> None:
    assert templora("edit", "storm", "--out", "mine.md").exit_code == 0
    edited(Path("mine.md"), with_words)
    assert templora("sync", "mine.md").exit_code == 0
    assert templora("sessions", "restore", "storm", "1").exit_code == 0
    assert "Words of a person." not in text_of(book)
    assert templora("sync", "mine.md").exit_code == 0
    assert "Words of a person." in text_of(book)


def test_a_foreign_book_file_does_not_stop_a_resume(book: Path) -> None:
    Path("storm.md").write_text("A wholly different book, with nothing of the first one in it. " * 9)
    result = templora("resume", "storm", "--chunks", "1")
    assert result.exit_code == 0, result.stderr
    assert "what was edited is not learnt: storm.md does not look like storm" in result.stderr.replace(
        str(Path("storm.md").absolute()), "storm.md"
    )
    assert len(list(Path().glob("storm.edited-*.md"))) == 1


def test_an_opening_is_edited_when_it_is_read_to_its_end(tiny_model: Path) -> None:
    Path("opening.txt").write_text(
        "One morning it rained. He went out, and she slept until noon again.\n\n" * 3
    )
    stopped = write(tiny_model, "--from", "opening.txt", "--tokens", "32", "--name", "storm", engine=PROSE)
    assert stopped.exit_code == 0, stopped.stderr
    folder = Store().find("storm")
    for step in committed_steps(folder / "steps")[4:]:
        shutil.rmtree(step)
    (folder / "summary.json").unlink(missing_ok=True)
    assert templora("edit", "storm", "--out", "mine.md").exit_code == 0
    result = templora("sync", edited(Path("mine.md"), lambda text: text.replace("rained", "snowed", 1)))
    assert result.exit_code == 2 and "has not read its opening to the end yet" in result.stderr


def test_a_changed_title_is_not_lost(planned: Path) -> None:
    templora("edit", "storm", "--out", "mine.md")
    mine = edited(
        Path("mine.md"), lambda text: text.replace("# Storm", "# Calm", 1).replace(" saw", " looked", 1)
    )
    result = templora("sync", mine)
    assert result.exit_code == 0 and "the title 'Calm' is not taken" in result.stderr
    assert "# Calm" in mine.read_text("utf-8") and " looked" in text_of(planned)


PLAN = """# Storm

## The tide (40 words)

A boat is late.

## The wind (40 words)

It is found.

## The night (40 words)

All sleep.
"""


@pytest.fixture
def planned(tiny_model: Path) -> Path:
    """The folder of a book of three chapters."""
    Path("plan.md").write_text(PLAN)
    arguments = ("--plan", "plan.md", "--name", "storm", "--set", "gate.enabled=false")
    written = run(
        "write",
        "--model",
        tiny_model,
        "--chunk-tokens",
        "128",
        "--context-tokens",
        "64",
        *arguments,
        engine=PROSE,
    )
    assert written.exit_code == 0, written.stderr
    return Store().find("storm")


def chapters_of(book: Path) -> list[list[list[int]]]:
    chapters: dict[int, list[list[int]]] = {}
    for chunk in read_chunks(book / "steps"):
        chapters.setdefault(chunk["record"]["chapter"], []).append(chunk["tokens"])
    return list(chapters.values())


def test_one_chapter_is_edited(planned: Path) -> None:
    before = chapters_of(planned)
    assert templora("edit", "storm", "--chapter", "2", "--out", "two.md").exit_code == 0
    text = Path("two.md").read_text("utf-8")
    assert "The wind" in text and "The night" not in text.partition("-->")[2].splitlines()
    edited(Path("two.md"), lambda text: text.replace(" came in at", " came in, said a person, at", 1))
    result = templora("sync", "two.md")
    assert result.exit_code == 0, result.stderr
    after = chapters_of(planned)
    assert (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]
    tokens = [token for chunk in read_chunks(planned / "steps") for token in chunk["tokens"]]
    for chunk in read_chunks(planned / "steps"):
        heading = bytes(tokens[chunk["record"]["heading"] : chunk["record"]["body"]]).decode()
        assert chunk["record"]["title"] in heading, "headings are where the records say"
    assert templora("sync", "two.md").stderr.strip().endswith("has no changes")
    text = text_of(planned)
    assert templora("resume", "storm").exit_code == 0 and text_of(planned) == text, "it is still finished"


def titles_of(book: Path) -> list[str]:
    titles = {c["record"]["chapter"]: c["record"]["title"] for c in read_chunks(book / "steps")}
    return [titles[chapter] for chapter in sorted(titles)]


def check_headings(book: Path) -> None:
    """Headings are where the records say, and have numbers and titles of the plan."""
    chunks = read_chunks(book / "steps")
    tokens = [token for chunk in chunks for token in chunk["tokens"]]
    for chunk in chunks:
        record = chunk["record"]
        heading = bytes(tokens[record["heading"] : record["body"]]).decode().strip()
        assert heading == f"Chapter {record['chapter'] + 1}: {record['title']}"
    plan = (book / "plan.md").read_text("utf-8")
    assert [line[3:].partition(" (")[0] for line in plan.splitlines() if line.startswith("## ")] == titles_of(
        book
    )


def parts_of(path: Path) -> list[str]:
    """The mark and the title, and the chapters of a file for editing."""
    templora("edit", "storm", "--out", path)
    return re.split(r"(?m)^(?=## )", path.read_text("utf-8"))


def test_chapters_are_moved_added_renamed_and_taken_out(planned: Path) -> None:
    state, plan = state_of(planned), (planned / "plan.md").read_text("utf-8")
    bodies = chapters_of(planned)
    head, one, _, three = parts_of(Path("mine.md"))
    new = "## The letter\n\nNobody knew who had written it.\n\nIt lay there for a week.\n\n"
    renamed = one.replace("The tide", "The flood", 1)
    Path("mine.md").write_text(head + three.rstrip() + "\n\n" + new + renamed)
    result = templora("sync", "mine.md", "--yes")
    assert result.exit_code == 0, result.stderr
    assert titles_of(planned) == ["The night", "The letter", "The flood"]
    check_headings(planned)
    chunks = read_chunks(planned / "steps")
    added = [chunk for chunk in chunks if chunk["record"]["chapter"] == 1]
    assert "".join(chunk["text"] for chunk in added).split("\n\n", 2)[2].strip().startswith("Nobody knew")
    assert added[0]["human"] and added[-1]["record"]["chapter_end"]
    assert not [chunk for chunk in chunks if chunk["record"]["chapter"] != 1 and chunk["human"]]
    moved = [token for tokens in chapters_of(planned)[0] for token in tokens]
    before = [token for tokens in bodies[2] for token in tokens]
    assert bytes(moved).split(b"\n\n", 1)[1].strip() == bytes(before).strip().split(b"\n\n", 1)[1].strip()
    text = text_of(planned)
    assert templora("resume", "storm").exit_code == 0 and text_of(planned) == text, "it is finished"
    assert templora("plan", "storm").exit_code == 0
    again = templora("sync", "mine.md")
    assert again.exit_code == 0, again.stderr
    assert templora("sessions", "restore", "storm", "1").exit_code == 0
    assert state_of(planned) == state and (planned / "plan.md").read_text("utf-8") == plan


def test_chapters_cannot_lose_only_their_heading(planned: Path) -> None:
    before, plan = state_of(planned), (planned / "plan.md").read_text("utf-8")
    head, one, two, three = parts_of(Path("mine.md"))
    for version, message in (
        (
            head + one + two.replace("## Chapter 2: The wind\n", "") + three,
            "the heading of a chapter is gone",
        ),
        (head + one + "## Empty\n\n" + two + three, "a chapter of the file has no text: Empty"),
        (head + one + two.replace("The wind", "The tide") + three, "a chapter called"),
    ):
        Path("mine.md").write_text(version)
        result = templora("sync", "mine.md")
        assert result.exit_code == 2 and message in result.stderr
    assert state_of(planned) == before and (planned / "plan.md").read_text("utf-8") == plan


def test_one_chapter_is_accepted(planned: Path) -> None:
    assert templora("accept", "storm", "--chapter", "2").exit_code == 0
    origins = {(c["record"]["chapter"], c["origin"]) for c in read_chunks(planned / "steps")}
    assert origins == {(0, "generated"), (1, "accepted"), (2, "generated")}
