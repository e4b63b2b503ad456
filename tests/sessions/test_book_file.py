"""The file of `--out` is kept up to date, and edits of it are never lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from templora_cli.documents.book import book_of_prose
from templora_cli.errors import TemploraError
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.checkpoint import commit_step
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.store import Session, Store, now
from templora_cli.task_kinds import KINDS
from tests.sessions.test_checkpoint import state_of
from tests.sessions.test_store import VALUES

BOOK = Path("book.txt")


@pytest.fixture
def session(tiny_model: Path) -> Session:
    """A session with the chunks "One. " and "Two. " whose book goes to book.txt."""
    manifest = Manifest(**{**VALUES, "id": "a-book", "opened": now(), "out": str(BOOK.absolute())})
    session = Store().create(manifest, opening=(), source=None)
    state = state_of(tiny_model)
    for index, text in enumerate(("One. ", "Two. ")):
        chunk = {"text": text, "tokens": [index], "origin": "generated", "prompt": {}}
        commit_step(session.steps, index, chunk, state)
    return session


def test_the_file_holds_the_book(session: Session) -> None:
    book = BookFile(session, BOOK)
    assert book.write() is None and BOOK.read_text() == "One. Two.\n"
    book.add("Three.")
    assert book.write() is None and BOOK.read_text() == "One. Two. Three.\n"


@pytest.mark.parametrize("content", ["One.\n", "One. Two.\n"])
def test_a_version_left_by_a_kill_is_not_an_edit(session: Session, content: str) -> None:
    BOOK.write_text(content)
    assert BookFile(session, BOOK).write() is None
    assert [path.name for path in Path().iterdir()] == ["book.txt"]


def test_a_file_with_the_text_of_a_damaged_step_is_not_an_edit(session: Session) -> None:
    assert BookFile(session, BOOK).write() is None
    (session.steps / "000001").rename(session.steps / "000001.damaged")
    assert BookFile(session, BOOK).write() is None and BOOK.read_text() == "One.\n"


def test_a_version_with_another_title_is_not_an_edit(session: Session) -> None:
    def titled(title: str) -> BookFile:
        return BookFile(session, BOOK, lambda text: book_of_prose(text, title))

    assert titled("The Lamp").write() is None
    assert titled("The Light").write() is None and BOOK.read_text() == "The Light\n\nOne. Two.\n"
    BOOK.write_text("Mine.")
    assert "was edited" in str(titled("The Lamp").write())


def test_each_edited_version_is_renamed(session: Session) -> None:
    for number in (1, 2):
        BOOK.write_text(f"Mine {number}.")
        notice = BookFile(session, BOOK).write()
        assert notice is not None and f"book.edited-{number}.txt" in notice
        assert Path(f"book.edited-{number}.txt").read_text() == f"Mine {number}."
    assert BOOK.read_text() == "One. Two.\n"


def test_a_write_error_says_that_the_session_is_safe(session: Session) -> None:
    BOOK.mkdir()
    with pytest.raises(TemploraError, match="The session itself is safe") as caught:
        BookFile(session, BOOK).write()
    assert caught.value.hint == f"name another file: {session.resume_command} --out FILE"


def test_without_a_file_nothing_is_written(session: Session) -> None:
    """A translation has the format of its source and is written at the end."""
    assert KINDS["novel"].book_file(session) is not None
    assert KINDS["translation"].book_file(session) is None
    session.manifest = replace(session.manifest, out=None)
    assert KINDS["novel"].book_file(session) is None
