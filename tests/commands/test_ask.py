"""`--ask`: after each page its author decides what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import Result

from templora_cli.sessions.steps import committed_steps, proposed_in, read_chunks, read_whole_chunk
from templora_cli.sessions.store import Store
from templora_cli.sessions.versions import changes_of
from tests.commands.test_cli import message_of, small_adapter, write  # noqa: F401
from tests.commands.test_cli import templora as run
from tests.commands.test_edit import PLAN, PROSE, by_script
from tests.test_undo import state_of

pytestmark = pytest.mark.usefixtures("small_adapter")
SETTINGS = ("--chunk-tokens", "192", "--chunks", "3", "--set", "gate.enabled=false")


def ask(model: Path, *answers: str, name: str = "storm", arguments: tuple[str, ...] = ("--ask",)) -> Result:
    """Write a book and give these answers; then the input ends."""
    text = "".join(f"{answer}\n" for answer in answers)
    options = ("--premise", "A storm.", "--name", name, *SETTINGS, *arguments)
    result = run("write", "--model", model, "--context-tokens", "64", *options, stdin=text, engine=PROSE)
    assert result.exit_code == 0, result.stderr
    return result


def resume(*answers: str, arguments: tuple[str, ...] = ("--ask",)) -> Result:
    text = "".join(f"{answer}\n" for answer in answers)
    result = run("resume", "storm", *arguments, stdin=text, engine=PROSE)
    assert result.exit_code == 0, result.stderr
    return result


def folder(name: str = "storm") -> Path:
    return Store().find(name)


def origins() -> list[str]:
    return [chunk["origin"] for chunk in read_chunks(folder() / "steps")]


def test_pages_that_are_kept_are_learnt_as_accepted(tiny_model: Path) -> None:
    result = ask(tiny_model, "", "", "")
    assert "finished: " in result.stderr and result.stderr.count("[Enter] keep") == 3
    assert result.stdout == "", "a pipe gets no pages that may be changed"
    chunks = read_chunks(folder() / "steps")
    assert origins() == ["accepted"] * 3 and not proposed_in(chunks)
    assert all(chunk["train_losses"] for chunk in chunks) and not changes_of(folder())
    state = state_of(folder())
    for step in committed_steps(folder() / "steps")[:2]:
        (step / "state.json").unlink()  # the book is learnt again from its beginning
    assert run("undo", "1", engine=PROSE).exit_code == 0
    assert run("sessions", "restore", "storm", "1", engine=PROSE).exit_code == 0
    assert state_of(folder()) == state, "it is the book that was accepted from the beginning"


def test_a_page_that_nobody_decided_about_is_kept_as_the_models(tiny_model: Path) -> None:
    ask(tiny_model, "q")
    (chunk,) = read_chunks(folder() / "steps")
    assert chunk["proposed"] and not chunk["train_losses"]
    result = resume(arguments=())
    assert "a chunk that you did not decide about is kept, and learnt as the model's" in result.stderr
    ask(tiny_model, name="other", arguments=())
    assert state_of(folder()) == state_of(folder("other")), "as if nobody had been asked"


def test_a_page_waits_for_its_author(tiny_model: Path) -> None:
    stopped = ask(tiny_model, "", "q")
    assert "this page waits for you: templora resume storm --ask" in stopped.stderr
    before = read_chunks(folder() / "steps")
    assert [bool(chunk["proposed"]) for chunk in before] == [False, True]
    result = resume("")
    assert result.stderr.count("[Enter] keep") == 2
    assert read_chunks(folder() / "steps")[1]["text"] == before[1]["text"] and origins()[1] == "accepted"


def test_a_page_is_edited(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = by_script(tmp_path, "path.write_text(path.read_text().replace('tide', 'mayor', 1))")
    monkeypatch.setenv("EDITOR", editor)
    result = ask(tiny_model, "e", "", "q")
    first = read_chunks(folder() / "steps")[0]
    assert "The mayor came in" in result.stderr and "The mayor came in" in first["text"]
    assert first["human"] and first["origin"] == "accepted" and len(first["train_losses"]) == 2
    (change,) = changes_of(folder()).values()
    assert (change.kind, change.detail) == ("edit", "a page: 1 paragraph")
    assert "tide" in change.replaced[0]["text"] and not list(folder().glob("page-*.md"))


def test_a_failed_edit_loses_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = by_script(tmp_path, "path.write_text('Mine. ' + path.read_text())\nsys.exit(1)")
    monkeypatch.setenv("EDITOR", editor)
    result = ask(tiny_model, "e", "q")
    assert "ended with status 1" in result.stderr and next(folder().glob("page-*.md")).read_text().startswith(
        "Mine. "
    )
    monkeypatch.setenv("EDITOR", by_script(tmp_path, ""))
    result = resume("e", "", "q")
    assert "your last edit of this page was not applied" in result.stderr
    assert read_chunks(folder() / "steps")[0]["text"].startswith("Mine. ")


def test_an_edit_that_was_not_applied_is_not_that_of_another_page(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", by_script(tmp_path, "path.write_text('Mine.')\nsys.exit(1)"))
    ask(tiny_model, "e", "", "q")
    second = read_chunks(folder() / "steps")[1]["text"]
    monkeypatch.setenv("EDITOR", by_script(tmp_path, ""))
    result = resume("e", "", "q")
    assert "your edit of another page was not applied; it is in" in result.stderr
    assert read_chunks(folder() / "steps")[1]["text"] == second


def test_a_page_is_written_again(tiny_model: Path) -> None:
    ask(tiny_model, "r", "q")
    (change,) = changes_of(folder()).values()
    assert (change.kind, change.redraws, change.after) == ("rewrite", True, 0)
    assert len(read_chunks(folder() / "steps")) == 1


def test_one_of_three_versions_is_chosen(tiny_model: Path) -> None:
    result = ask(tiny_model, "r3", "7", "2", "q")
    assert "--- 3 ---" in result.stderr and result.stderr.count("which one? [1-3]") == 2
    (step,) = committed_steps(folder() / "steps")
    chunk = read_whole_chunk(step)
    assert chunk["proposed"] and len(chunk["others"]) == 2
    numbers = {chunk["candidate"], *(other["number"] for other in chunk["others"])}
    assert numbers == {0, 1, 2}
    assert chunk["text"].strip() == result.stderr.partition("--- 2 ---")[2].partition("---")[0].strip()
    assert resume("").exit_code == 0 and origins()[0] == "accepted"


def test_the_page_before_is_decided_again(tiny_model: Path) -> None:
    result = ask(tiny_model, "u", "", "u", "q")
    assert "there is no page before this one to take back" in result.stderr
    (chunk,) = read_chunks(folder() / "steps")
    assert chunk["proposed"] and chunk["origin"] == "generated" and not chunk["train_losses"]


def test_a_note_and_the_prompt(tiny_model: Path) -> None:
    result = ask(tiny_model, "n", "It gets dark.", "p", "", "p", "?", "what", "q")
    assert "[premise]\nA storm." in result.stderr and "nothing yet" in result.stderr
    assert "r3 writes three versions to choose from" in result.stderr
    assert "there is no answer what" in result.stderr
    steps = committed_steps(folder() / "steps")
    sections = [read_whole_chunk(step)["prompt"]["sections"] for step in steps]
    assert [section.get("note") for section in sections] == [None, ["It gets dark."]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ask", "--json"), "--ask and --json cannot be combined"),
        (("--ask", "chapter"), "--ask chapter needs a plan of chapters"),
    ],
)
def test_mistakes_are_refused(tiny_model: Path, arguments: tuple[str, ...], message: str) -> None:
    result = write(tiny_model, "--name", "storm", *arguments, engine=PROSE)
    assert result.exit_code == 2 and message in message_of(result) + result.stdout


def test_a_book_is_decided_about_chapter_by_chapter(tiny_model: Path) -> None:
    Path("plan.md").write_text(PLAN)
    planned = ("--plan", "plan.md", "--name", "storm", "--chunk-tokens", "96", "--set", "gate.enabled=false")
    arguments = ("--model", tiny_model, "--context-tokens", "64", *planned, "--ask", "chapter")
    result = run("write", *arguments, stdin="\nr3\nq\n", engine=PROSE)
    assert result.exit_code == 0, result.stderr
    assert "versions to choose from are written page by page" in result.stderr
    chunks = read_chunks(folder() / "steps")
    states = {(chunk["record"]["chapter"], chunk["origin"], chunk["proposed"]) for chunk in chunks}
    assert states == {(0, "accepted", False), (1, "generated", True)}
    assert len(proposed_in(chunks)) > 1 and all(not chunks[n]["train_losses"] for n in proposed_in(chunks))
    taken = resume("u", "q", arguments=("--ask", "chapter"))
    assert taken.exit_code == 0
    states = {(c["record"]["chapter"], c["proposed"]) for c in read_chunks(folder() / "steps")}
    assert states == {(0, True)}
    kept = resume("", "q", arguments=("--ask", "chapter"))
    assert kept.stderr.count("[Enter] keep") == 2


def test_a_page_that_became_too_long_stays_one_page(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = "path.write_text(path.read_text() + ' ' + ' '.join(f'And {n} more.' for n in range(40)))"
    monkeypatch.setenv("EDITOR", by_script(tmp_path, added))
    ask(tiny_model, "e", "", "q")
    chunks = read_chunks(folder() / "steps")
    parts = len(chunks) - 1
    assert parts > 2 and [bool(c.get("continues")) for c in chunks] == [False, *[True] * (parts - 1), False]
    result = resume("u", "q")
    assert len(proposed_in(read_chunks(folder() / "steps"))) == parts
    shown = resume("q")
    assert "And 0 more." in shown.stderr and "And 39 more." in shown.stderr, "the whole page is shown"
    assert result.exit_code == 0
    finished = resume("", "", "")
    assert "finished: " in finished.stderr, "it is one of the three chunks of the goal"
    assert len(read_chunks(folder() / "steps")) == parts + 2


def test_an_emptied_page_is_as_it_was(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", by_script(tmp_path, "path.write_text('')"))
    result = ask(tiny_model, "e", "q")
    assert "nothing was left of the page: it is as it was" in result.stderr
    monkeypatch.setenv("EDITOR", by_script(tmp_path, ""))
    assert "nothing was changed" in resume("e", "q").stderr


def test_pages_before_a_damaged_one_are_learnt(tiny_model: Path) -> None:
    """Two pages of a chapter wait; the second is damaged: it is set aside, and the first is not forgotten."""
    Path("plan.md").write_text(PLAN)
    planned = ("--plan", "plan.md", "--name", "storm", "--chunk-tokens", "96", "--set", "gate.enabled=false")
    arguments = ("--model", tiny_model, "--context-tokens", "64", *planned, "--ask", "chapter")
    assert run("write", *arguments, stdin="q\n", engine=PROSE).exit_code == 0
    steps = committed_steps(folder() / "steps")
    assert len(proposed_in(read_chunks(folder() / "steps"))) == len(steps) > 1
    (steps[-1] / "chunk.json").write_text("{}")
    result = resume(arguments=())
    assert "its chunk will be made again" in result.stderr
    assert all(chunk["train_losses"] for chunk in read_chunks(folder() / "steps"))
