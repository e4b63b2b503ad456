"""`templora undo`, `sessions restore` and `sessions log`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from templora_cli.novel.kind import Novel, PlannedNovel
from templora_cli.sessions.steps import committed_steps
from templora_cli.sessions.store import Store
from tests.commands.test_cli import events_of, small_adapter, templora, write  # noqa: F401

pytestmark = pytest.mark.usefixtures("small_adapter")


@pytest.fixture
def book(tiny_model: Path) -> Path:
    """The folder of a book of four chunks."""
    assert write(tiny_model, "--tokens", "64", "--name", "storm").exit_code == 0
    return Store().find("storm")


def count(book: Path) -> int:
    return len(committed_steps(book / "steps"))


@pytest.mark.parametrize(
    ("arguments", "left"), [((), 3), (("2",), 2), (("storm",), 3), (("storm", "3"), 1), (("sto", "4"), 0)]
)
def test_chunks_are_taken_back(book: Path, arguments: tuple[str, ...], left: int) -> None:
    result = templora("undo", *arguments)
    assert result.exit_code == 0 and count(book) == left
    taken = 4 - left
    assert f"{taken} chunk{'s' if taken > 1 else ''} taken back (" in result.stderr
    assert "templora resume storm" in result.stderr
    assert "templora sessions restore storm 1" in result.stderr
    assert not result.stdout


def test_what_was_taken_back_is_listed_and_comes_back(book: Path) -> None:
    text = templora("sessions", "export", "storm", "--out", "-").stdout
    assert templora("undo", "2").exit_code == 0
    assert templora("resume").exit_code == 0 and count(book) == 4
    rows = json.loads(templora("sessions", "log", "--json").stdout)
    assert [row.get("change") or row["chunk"] for row in rows] == [1, 2, 1, 3, 4]
    changes = [row for row in rows if "change" in row]
    assert [(row["what"], row["chunks"]) for row in changes] == [("undo 2 chunks", 2)]
    table = templora("sessions", "log", "storm")
    assert "undo 2 chunks, leaving 2 chunks" in table.stdout and "restore storm NUMBER" in table.stderr
    restored = templora("sessions", "restore", "storm", "1", "--json")
    assert restored.exit_code == 0
    last: dict[str, Any] = events_of(restored)[-1]
    assert (last["event"], last["kind"], last["chunks"], last["chunks_before"]) == (
        "changed",
        "restore",
        4,
        4,
    )
    assert last["restore_command"] == "templora sessions restore storm 2"
    assert templora("sessions", "export", "storm", "--out", "-").stdout == text


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("undo", "5"), "storm has 4 chunks: 5 cannot be taken back", "templora undo storm 4"),
        (("undo", "0"), "storm has 4 chunks: 0 cannot be taken back", "templora undo storm 1"),
        (("undo", "--chapter", "1"), "storm has no chapters", "templora sessions log storm"),
        (("undo", "2", "--chapter", "1"), "cannot be combined", "use one of them"),
        (("undo", "nothing"), "no session is called nothing", "templora sessions list"),
        (
            ("sessions", "restore", "storm", "1"),
            "storm has no change number 1",
            "templora sessions log storm",
        ),
        (
            ("sessions", "restore", "storm", "0"),
            "storm has no change number 0",
            "templora sessions log storm",
        ),
    ],
)
def test_what_cannot_be_taken_back_is_refused(
    book: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    result = templora(*arguments)
    assert result.exit_code == 2 and message in result.stderr and hint in result.stderr
    assert count(book) == 4 and not (book / "versions").exists()


def test_the_opening_stays(tiny_model: Path) -> None:
    Path("opening.txt").write_text("It was a dark and stormy night, and it rained.", "utf-8")
    result = templora(
        *("write", "--from", "opening.txt", "--model", tiny_model, "--name", "storm"),
        *("--chunk-tokens", "16", "--context-tokens", "24", "--tokens", "16"),
    )
    assert result.exit_code == 0
    refused = templora("undo", "2")
    assert refused.exit_code == 2
    assert "storm has 1 chunk after its opening, which has 3 chunks: 2 cannot be taken back" in refused.stderr
    assert templora("undo").exit_code == 0
    again = templora("undo")
    assert again.exit_code == 2 and "storm has no chunk to take back" in again.stderr


def test_a_session_that_is_measured_is_not_changed(tiny_model: Path) -> None:
    drift = (
        "eval",
        "drift",
        "--premise",
        "A storm.",
        "--tokens",
        "16",
        "--seeds",
        "1",
        "--model",
        tiny_model,
    )
    assert templora(*drift, "--chunk-tokens", "16", "--context-tokens", "24").exit_code == 0
    result = templora("undo")
    assert result.exit_code == 2 and "only be changed by the command that measures it" in result.stderr


def test_what_is_no_book_is_not_changed(tiny_model: Path) -> None:
    Path("diary.txt").write_text("The rain fell on the harbour.", "utf-8")
    arguments = (
        "write",
        "--premise",
        "A storm.",
        "--model",
        tiny_model,
        "--chunk-tokens",
        "16",
        "--tokens",
        "16",
    )
    assert templora(*arguments, "--context-tokens", "24", "--prime", "diary.txt").exit_code == 0
    for command in (("undo",), ("fork",)):
        result = templora(*command, "prime-diary")
        assert result.exit_code == 2 and "is no book" in result.stderr


def test_the_chunks_of_chapters_are_known() -> None:
    chapters = [None, 0, 0, 1, 2, 2]
    chunks = [{"record": None if chapter is None else {"chapter": chapter}} for chapter in chapters]
    assert PlannedNovel("planned novel").chapter_starts(chunks) == [1, 3, 4]
    assert Novel().chapter_starts(chunks) == []
