"""`templora plan`: a new plan on both streams and in its file, and the plan of a session shown and edited."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.novel.kind import PlannedRequest, check_written
from templora_cli.novel.plan import read_plan
from templora_cli.prepare import ENGINE, Engine
from templora_cli.runner import begin
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, templora
from tests.novel.test_proposal import CHAPTERS, TITLE, Answering

PLAN = """# The Light

## The Storm (1,800 words)

Anna rows out.

## The Boat

She finds a boat.

## The Port
"""
NEW = ("plan", "--premise", "A storm.")


def answering(*answers: str) -> Engine:
    backend = Answering(*answers)
    return replace(ENGINE, backend=lambda model, name: backend)


# --- a new plan ------------------------------------------------------------------------------------------


def test_a_plan_is_printed_and_saved(tiny_model: Path) -> None:
    arguments = (*NEW, "--chapters", "3", "--model", tiny_model, "--out", "book.plan.md")
    result = templora(*arguments, engine=answering(TITLE, *CHAPTERS))
    assert result.exit_code == 0, result.stderr
    plan = read_plan(Path("book.plan.md").read_text("utf-8"))
    assert [chapter.title for chapter in plan.chapters] == ["The Storm", "The Boat", "The Port"]
    assert (plan.title, plan.premise) == ("The Light", "A storm.")
    assert result.stdout == Path("book.plan.md").read_text("utf-8")
    assert "to write it: templora write --plan " in result.stderr
    assert not Store().folder.exists()


def test_without_a_file_it_is_only_printed(tiny_model: Path) -> None:
    result = templora(*NEW, "--chapters", "1", "--model", tiny_model, engine=answering(TITLE, CHAPTERS[0]))
    assert result.exit_code == 0 and read_plan(result.stdout).chapters[0].title == "The Storm"
    assert not list(Path().iterdir())


def test_a_plan_that_cannot_be_completed_is_saved_as_far_as_it_is(tiny_model: Path) -> None:
    arguments = (*NEW, "--chapters", "3", "--model", tiny_model, "--out", "book.plan.md")
    result = templora(*arguments, engine=answering(TITLE, *CHAPTERS[:2], "", "", "", ""))
    assert result.exit_code == 2
    path = Path("book.plan.md").absolute()
    assert f"2 chapters are in {path}" in result.stderr and "--seed" in result.stderr
    assert [chapter.title for chapter in read_plan(path.read_text()).chapters] == ["The Storm", "The Boat"]


def test_a_plan_without_a_chapter_is_not_saved(tiny_model: Path) -> None:
    arguments = (*NEW, "--chapters", "3", "--model", tiny_model, "--out", "book.plan.md")
    result = templora(*arguments, engine=answering(TITLE, "", "", "", ""))
    assert result.exit_code == 2 and "no chapter was planned" in result.stderr
    assert not Path("book.plan.md").exists()


class Stopping(Answering):
    """Is stopped by Ctrl-C at the second chapter."""

    def decode(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
        if len(self.answers) == 1:
            raise KeyboardInterrupt
        return super().decode(*arguments, **named)  # type: ignore[arg-type]


def test_ctrl_c_leaves_the_chapters_so_far(tiny_model: Path) -> None:
    backend = Stopping(TITLE, *CHAPTERS[:2])
    engine = replace(ENGINE, backend=lambda model, name: backend)
    result = templora(*NEW, "--chapters", "2", "--model", tiny_model, "--out", "book.plan.md", engine=engine)
    assert result.exit_code == 130
    assert "stopped; 1 chapter is in" in result.stderr
    assert len(read_plan(Path("book.plan.md").read_text()).chapters) == 1


def test_a_base_model_is_told_plainly_that_it_cannot(tiny_base_model: Path) -> None:
    result = templora(*NEW, "--model", tiny_base_model)
    assert result.exit_code == 2
    assert "is a base model" in result.stderr and "# The Title / ## The First Chapter" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--chapters", "3"), "a premise is missing"),
        (("--out", "book.md"), "a premise is missing"),
        (("--premise", " "), "the premise is empty"),
        (("--premise", "a", "--chapters", "0"), "--chapters 0: must be from 1 to 500"),
        (("--premise", "a", "--chapters", "501"), "--chapters 501: must be from 1 to 500"),
        (("--premise", "a", "--out", "old.md"), "old.md exists, and templora does not overwrite it"),
        (("--premise", "a", "--out", "book.txt"), "book.txt: a plan is written as .md"),
        (("--premise", "a", "--out", "nowhere/book.md"), "does not exist"),
        (("--premise", "a", "--edit"), "--edit and the flags of a new plan cannot be combined"),
        (("book", "--premise", "a"), "the session book and the flags of a new plan cannot be combined"),
        (("--seed", "3"), "--seed is for a new plan, which needs --premise"),
        (("nosuch",), "there is no session"),
        (("old.md",), "old.md is a file, not a session"),
        ((), "no session in"),
        (("--edit",), "no session in"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], message: str) -> None:
    Path("old.md").write_text("old")
    result = templora("plan", *arguments)
    assert result.exit_code != 0 and message in message_of(result), message_of(result)
    assert Path("old.md").read_text() == "old"


# --- the plan of a session -------------------------------------------------------------------------------


@pytest.fixture
def session(tiny_model: Path) -> Path:
    """A session whose first of three chapters is written, and whose second is begun."""
    config = {"model": {"name": str(tiny_model)}, "decode": {"chunk_tokens": 16, "context_tokens": 24}}
    with begin(PlannedRequest(plan=read_plan(PLAN)), config, name="light") as run:
        path = run.session.path
    for index, (chapter, title, is_end) in enumerate(
        [(0, "The Storm", False), (0, "The Storm", True), (1, "The Boat", False)]
    ):
        record = {"chapter": chapter, "title": title, "heading": 0, "body": 0, "chapter_end": is_end}
        step = path / "steps" / f"{index:06d}"
        step.mkdir()
        chunk = {"text": "Anna.", "tokens": [65], "origin": "generated", "record": record}
        (step / "chunk.json").write_text(json.dumps(chunk))
    return path


def edit_with(monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str], status: int = 0) -> None:
    """Set an editor that makes these replacements."""
    script = Path("editor.py").absolute()
    script.write_text(
        "import sys, pathlib\n"
        "path = pathlib.Path(sys.argv[1]); text = path.read_text('utf-8')\n"
        f"for old, new in {changes!r}:\n    assert old in text, text\n    text = text.replace(old, new)\n"
        f"path.write_text(text, 'utf-8'); sys.exit({status})\n"
    )
    monkeypatch.setenv("VISUAL", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")


def test_a_plan_is_shown_with_marks_for_written_chapters(session: Path) -> None:
    result = templora("plan", "light")
    assert result.exit_code == 0
    assert result.stdout == (
        "The Light\n\n[x] 1. The Storm (1,800 words)\n    Anna rows out.\n\n[~] 2. The Boat\n"
        "    She finds a boat.\n\n[ ] 3. The Port\n\n1 of 3 chapters written\n"
    )
    assert templora("plan").stdout == result.stdout


def test_parts_and_facts_are_shown(session: Path) -> None:
    (session / "plan.md").write_text(
        "---\nauthor: Jane\ntense: past\n---\n\n# T\n\nA lamp.\n\n## Part One\n### The Storm\n### B\n## C\n"
    )
    stdout = templora("plan", "light").stdout
    assert stdout.startswith(
        "T\nJane · past\nA lamp.\n\nPart One\n\n[x] 1. The Storm\n\n[~] 2. B\n\n[ ] 3. C\n"
    )


def test_headings_are_marked_in_the_file_of_the_book(session: Path) -> None:
    (session / "plan.md").write_text(f"---\nauthor: Jane\n---\n{PLAN}")
    for index, heading in ((0, "Chapter 1: The Storm\n\n"), (2, "\n\nChapter 2: The Boat\n\n")):
        path = session / "steps" / f"{index:06d}" / "chunk.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "text": f"{heading}Anna."}))
    text = "Chapter 1: The Storm\n\nAnna.Anna.\n\nChapter 2: The Boat\n\nAnna.\n"
    for name, book in (
        ("book.md", "# The Light\n\nJane\n\n" + text.replace("Chapter", "## Chapter")),
        ("book.txt", f"The Light\n\nJane\n\n{text}"),
    ):
        assert templora("sessions", "export", "light", "--out", name).exit_code == 0
        assert Path(name).read_text("utf-8") == book
    (session / "plan.md").write_text("no plan")
    assert templora("sessions", "export", "light", "--out", "damaged.txt").exit_code == 0
    assert Path("damaged.txt").read_text("utf-8") == text


def test_a_session_without_a_plan_is_an_error(session: Path) -> None:
    (session / "plan.md").unlink()
    with_message = message_of(templora("plan", "light"))
    assert "session light has no plan" in with_message


def test_a_damaged_plan_names_its_file_and_line(session: Path) -> None:
    (session / "plan.md").write_text("## A\n\n## A\n")
    assert f"{session / 'plan.md'}, line 3: a chapter called" in message_of(templora("plan", "light"))


def test_an_edit_changes_the_plan_and_says_what_changed(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_with(monkeypatch, ("## The Port", "## The Reef\n\n<!-- ? -->\n\n## The Port (900 words)"))
    result = templora("plan", "light", "--edit")
    assert result.exit_code == 0, message_of(result)
    assert result.stdout == (
        'added: chapter 3, "The Reef"\nchapter 4, "The Port": length 1,500 words -> 900 words\n'
    )
    assert "<!-- ? -->" in (session / "plan.md").read_text()
    assert load_manifest(session).goal_amount == 4
    assert not (session / "plan.edited.md").exists()


def test_a_written_chapter_that_was_changed_by_hand_is_noticed(session: Path) -> None:
    plan = read_plan(PLAN)
    step = session / "steps" / "000001" / "chunk.json"
    chunk = json.loads(step.read_text())
    chunk["record"]["digest"] = plan.chapters[0].digest
    step.write_text(json.dumps(chunk))
    with Store().open("light") as book:
        check_written(book, plan)
        for old, new in (
            ("Anna rows out", "Anna stays"),
            ("(1,800 words)", "(900 words)"),
            ("Storm", "Gale"),
        ):
            with pytest.raises(TemploraError, match="chapter 1, The Storm, is written and must stay"):
                check_written(book, read_plan(PLAN.replace(old, new)))
        check_written(book, read_plan(PLAN.replace("She finds a boat.", "She sinks.")))
        with pytest.raises(TemploraError, match="chapter 2, The Boat, is begun and must keep"):
            check_written(book, read_plan(PLAN.replace("The Boat", "The Ship")))


def test_a_damaged_step_does_not_stop_the_plan(session: Path) -> None:
    step = session / "steps" / "000000" / "chunk.json"
    chunk = json.loads(step.read_text())
    del chunk["record"]
    step.write_text(json.dumps(chunk))
    assert templora("plan", "light").exit_code == 0


def test_an_edit_without_a_change(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (session / "plan.md").read_bytes()
    edit_with(monkeypatch)
    assert templora("plan", "light", "--edit").stdout == "the plan is unchanged\n"
    assert (session / "plan.md").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("## The Port", "## The Boat"), "line 11: a chapter called"),
        (("Anna rows out", "Anna stays"), 'chapter 1, "The Storm", is written and cannot be changed'),
        (("## The Storm", "## Fog\n\n## The Storm"), "is written and cannot be changed: moved to position 2"),
        (("## The Boat", "## The Ship"), "chapter 2, The Boat, is begun"),
        (("#", ""), "has no headings"),
    ],
)
def test_an_edit_with_a_mistake_is_not_lost(
    change: tuple[str, str], message: str, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, draft = (session / "plan.md").read_bytes(), session / "plan.edited.md"
    edit_with(monkeypatch, change)
    with pytest.raises(TemploraError) as raised:
        raise templora("plan", "light", "--edit").exception or AssertionError
    assert message in raised.value.message and str(draft) in raised.value.message
    assert str(raised.value.hint).endswith("templora plan light --edit")
    assert (session / "plan.md").read_bytes() == before and change[1] in draft.read_text()
    draft.write_bytes(before)
    edit_with(monkeypatch)
    again = templora("plan", "light", "--edit")
    assert again.exit_code == 0 and again.stdout == "the plan is unchanged\n"
    assert "your last edit" in again.stderr and not draft.exists()


def test_an_editor_that_fails_changes_nothing(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (session / "plan.md").read_bytes()
    edit_with(monkeypatch, ("## The Port", "## The Reef"), status=3)
    result = templora("plan", "light", "--edit")
    assert "the plan is unchanged" in message_of(result)
    assert (session / "plan.md").read_bytes() == before


def test_a_session_that_is_being_written_keeps_its_plan(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_with(monkeypatch, ("## The Port", "## The Reef"))
    with Store().open("light"):
        result = templora("plan", "light", "--edit")
    assert "being written by another process" in message_of(result)
    assert not (session / "plan.edited.md").exists()  # the editor was not opened
    assert "The Reef" not in (session / "plan.md").read_text()
