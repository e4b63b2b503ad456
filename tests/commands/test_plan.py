"""`templora plan`: a new plan on both streams and in its file, and the plan of a session shown and edited."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.novel.kind import PlannedRequest
from templora_cli.novel.plan import read_plan
from templora_cli.prepare import ENGINE, Engine
from templora_cli.runner import begin
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, templora
from tests.novel.test_proposal import CHAPTERS, TITLE, Answering
from tests.sessions.steps import commit

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
    assert "book.plan.md" in result.stderr
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
