"""`templora rewrite`: one chapter is written again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.steps import read_chunks
from templora_cli.sessions.store import Store
from tests.commands.test_cli import events_of, small_adapter, templora  # noqa: F401

pytestmark = pytest.mark.usefixtures("small_adapter")
SMALL = ("--chunk-tokens", "32", "--context-tokens", "48", "--no-recall")


@pytest.fixture
def book(tiny_model: Path) -> Path:
    """The folder of a book of two short chapters."""
    Path("plan.md").write_text("# The Light\n\n## Storm (10 words)\n\n## Calm (10 words)\n", "utf-8")
    result = templora("write", "--plan", "plan.md", "--model", tiny_model, "--name", "light", *SMALL)
    assert result.exit_code == 0, result.stderr
    return Store().find("light")


def text_of(book: Path, chapter: int) -> str:
    chunks = read_chunks(book / "steps")
    return "".join(chunk["text"] for chunk in chunks if chunk["record"]["chapter"] == chapter)


def test_a_chapter_is_written_again_and_its_note_is_of_it_alone(book: Path) -> None:
    first, second = text_of(book, 0), text_of(book, 1)
    result = templora("rewrite", "light", "--chapter", "1", "--note", "Short.", "--json")
    assert result.exit_code == 0, result.stderr
    last: dict[str, Any] = events_of(result)[-1]
    assert (last["event"], last["kind"]) == ("changed", "rewrite")
    assert text_of(book, 0) != first and text_of(book, 1) == second
    assert load_manifest(book).request["note"] == ""
    log = templora("sessions", "log", "light")
    assert "rewrite chapter 1" in log.stdout
    assert templora("sessions", "restore", "light", "1").exit_code == 0
    assert (text_of(book, 0), text_of(book, 1)) == (first, second)


def test_what_cannot_be_written_again_is_refused(book: Path) -> None:
    nameless = templora("rewrite", "light")
    assert nameless.exit_code == 2 and "--chapter" in nameless.stderr, (
        "no chapter is written again by default"
    )
    absent = templora("rewrite", "--chapter", "3")
    assert absent.exit_code == 2 and "light has 2 chapters so far, and no chapter 3" in absent.stderr
    assert "templora rewrite light --chapter 2" in absent.stderr
    chunks = len(read_chunks(book / "steps"))
    if sum(chunk["record"]["chapter"] == 1 for chunk in read_chunks(book / "steps")) > 1:
        assert templora("undo").exit_code == 0
        unfinished = templora("rewrite", "--chapter", "2")
        assert unfinished.exit_code == 2 and "chapter 2 of light is not finished" in unfinished.stderr
        assert len(read_chunks(book / "steps")) == chunks - 1
