"""A change that is killed at any moment leaves the book as it was, or as it was to be."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from templora_cli.sessions.store import Store
from templora_cli.sessions.versions import changes_of
from tests.commands.test_cli import small_adapter  # noqa: F401
from tests.commands.test_edit import book, edited, parts_of, planned, templora, with_words  # noqa: F401
from tests.test_undo import state_of

pytestmark = pytest.mark.usefixtures("small_adapter")
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}
COPIES = 40
"""The disk is copied at about so many moments."""


class Moments:
    """Copies a folder at moments at which a file in it is about to change. Its hook stays for ever."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.copies: Path | None = None
        self.every = self.count = 0
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        folder, copies = self.folder, self.copies
        if folder is None or event not in FILE_EVENTS or str(folder) not in str(args[0]):
            return
        if copies is not None and self.count % self.every == 0:
            self.folder = None  # copying opens files too
            shutil.copytree(folder, copies / str(self.count))
            self.folder = folder
        self.count += 1

    @contextmanager
    def watching(self, folder: Path, copies: Path | None = None, every: int = 1) -> Iterator[None]:
        self.folder, self.copies, self.every, self.count = folder, copies, every, 0
        try:
            yield
        finally:
            self.folder = None


MOMENTS = Moments()


def undo(folder: Path) -> tuple[str, ...]:
    return ("undo", "storm", "1")


def undo_of_what_is_thinned(folder: Path) -> tuple[str, ...]:
    (folder / "steps" / "000000" / "state.json").unlink()
    return ("undo", "storm", "3")


def sync(folder: Path) -> tuple[str, ...]:
    return ("sync", "storm", str(edited(Path("storm.md"), with_words)))


def later(folder: Path) -> tuple[str, ...]:
    return (*sync(folder), "--later")


def accept(folder: Path) -> tuple[str, ...]:
    return ("accept", "storm")


def forget(folder: Path) -> tuple[str, ...]:
    words = Path("storm.md").read_text("utf-8").split()
    return ("forget", "storm", "--text", " ".join(words[5:12]))


def outcomes(folder: Path) -> tuple[Any, str, int]:
    plan = folder / "plan.md"
    return state_of(folder), plan.read_text("utf-8") if plan.exists() else "", len(changes_of(folder))


def check(folder: Path, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a change in copies of the disk, and look at each moment of it."""
    home = folder.parents[1]
    before, start = outcomes(folder), tmp_path / "start"
    shutil.copytree(home, start)
    files = {path: path.read_bytes() for path in Path().glob("*.md")}
    with MOMENTS.watching(home):
        assert templora(*arguments).exit_code == 0
    after, count = outcomes(folder), MOMENTS.count
    assert after != before
    shutil.rmtree(home)
    shutil.copytree(start, home)
    for path, content in files.items():
        path.write_bytes(content)
    with MOMENTS.watching(home, tmp_path / "copies", max(1, count // COPIES)):
        assert templora(*arguments).exit_code == 0
    assert outcomes(folder) == after
    seen = set()
    for copy in sorted((tmp_path / "copies").iterdir()):
        monkeypatch.setenv("TEMPLORA_HOME", str(copy))
        with Store().open("storm") as session:
            found = outcomes(session.path)
        assert found in (before, after), copy.name
        seen.add(found == after)
        assert not list(session.path.glob("steps.*"))
    assert seen == {False, True}


@pytest.mark.parametrize("change", [undo, undo_of_what_is_thinned, sync, later, accept, forget])
def test_a_kill_leaves_the_old_book_or_the_new_one(
    book: Path,  # noqa: F811
    change: Callable[[Path], tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(book, change(book), tmp_path, monkeypatch)


def test_a_kill_keeps_plan_and_chapters_together(
    planned: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, one, two, three = parts_of(Path("mine.md"))
    Path("mine.md").write_text(head + three.rstrip() + "\n\n" + one + two)
    check(planned, ("sync", "mine.md"), tmp_path, monkeypatch)
