"""`templora fork`: a second session that shares its beginning with another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from templora_cli.engine.models.loading import LanguageModel
from templora_cli.prepare import ENGINE, Engine
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.steps import committed_steps, read_whole_chunks
from templora_cli.sessions.store import Store
from tests.commands.test_cli import EXACT, events_of, small_adapter, templora, write  # noqa: F401
from tests.test_undo import state_of

pytestmark = pytest.mark.usefixtures("small_adapter")


@pytest.fixture
def book(tiny_model: Path) -> Path:
    """The folder of a book of five chunks, of which the last two have weights."""
    settings = ("--set", "grid_checkpoints=0", "--out", "book.md")
    assert write(tiny_model, "--tokens", "80", "--name", "storm", *settings).exit_code == 0
    return Store().find("storm")


def forked(*arguments: str, engine: Engine = EXACT) -> Path:
    result = templora("fork", "storm", "--name", "other", *arguments, engine=engine)
    assert result.exit_code == 0, result.stderr
    return Store().find("other")


@pytest.mark.parametrize("keep", [5, 4, 3, 1])
def test_a_fork_has_text_and_weights_of_its_parent(book: Path, keep: int) -> None:
    whole = read_whole_chunks(book / "steps")
    fork = forked("--chunks", str(keep))
    assert read_whole_chunks(fork / "steps") == whole[:keep]
    assert templora("undo", "storm", str(5 - keep)).exit_code == (0 if keep < 5 else 2)
    assert state_of(fork) == state_of(book), "the weights are those of the place where it was forked"


def test_parent_and_fork_go_their_own_ways(book: Path) -> None:
    before = state_of(book)
    fork = forked("--chunks", "3")
    assert load_manifest(fork).parent == "storm"
    assert templora("resume", "other").exit_code == 0
    assert state_of(book) == before
    mine, theirs = (read_whole_chunks(path / "steps") for path in (fork, book))
    assert len(mine) == 5 and mine[:3] == theirs[:3] and mine[3]["tokens"] != theirs[3]["tokens"]
    book_file, fork_file = Path("book.md"), Path("book-2.md")
    assert book_file.read_bytes() != fork_file.read_bytes()
    assert templora("sessions", "rm", "storm", "--yes").exit_code == 0
    assert templora("resume", "other", "--tokens", "16").exit_code == 0


def test_forks_of_one_place_are_not_the_same_book(book: Path) -> None:
    texts = set()
    for name in ("one", "two"):
        assert templora("fork", "storm", "--chunks", "3", "--name", name).exit_code == 0
        assert Path(str(load_manifest(Store().find(name)).out)).name == f"book-{2 if name == 'one' else 3}.md"
        assert templora("resume", name).exit_code == 0
        texts.add(templora("sessions", "export", name, "--out", "-").stdout)
    assert len(texts) == 2


def test_steps_are_on_the_disk_once(book: Path) -> None:
    fork = forked()
    shared = [file for step in committed_steps(fork / "steps") for file in step.iterdir()]
    assert shared and all(file.stat().st_nlink == 2 for file in shared)
    plain = [file for file in fork.iterdir() if file.is_file()]
    assert all(file.stat().st_nlink == 1 for file in plain)


def test_the_model_is_loaded_only_where_weights_are_missing(book: Path) -> None:
    def load(folder: Path, config: Any) -> LanguageModel:
        raise AssertionError("the model was loaded")

    forked("--chunks", "4", engine=Engine(load=load, kinds=EXACT.kinds))
    with pytest.raises(AssertionError, match="was loaded"):
        templora("fork", "storm", "--chunks", "2", engine=Engine(load=load, kinds=EXACT.kinds))
    assert [path.name for path in Store().folder.iterdir() if path.name.startswith("storm-")] == []


def test_a_fork_that_is_stopped_leaves_nothing(book: Path) -> None:
    def press(then: Callable[[Path, Any], LanguageModel]) -> Callable[[Path, Any], LanguageModel]:
        def load(folder: Path, config: Any) -> LanguageModel:
            raise KeyboardInterrupt

        return load

    engine = Engine(load=press(ENGINE.load), kinds=EXACT.kinds)
    result = templora("fork", "storm", "--name", "other", "--chunks", "2", engine=engine)
    assert result.exit_code == 130 and "nothing was forked" in result.stderr
    assert sorted(path.name for path in Store().folder.iterdir()) == ["storm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--chunks", "6"), "storm has 5 chunks, and 6 were asked for"),
        (("--chunks", "-1"), "storm has 5 chunks, and -1 were asked for"),
        (("--chapter", "1"), "storm has no chapters"),
        (("--chapter", "1", "--chunks", "1"), "cannot be combined"),
        (("--name", "storm"), "a session called storm already exists"),
        (("--name", "Sto/rm"), "a name has lower-case letters"),
    ],
)
def test_what_cannot_be_forked_is_refused(book: Path, arguments: tuple[str, ...], message: str) -> None:
    result = templora("fork", "storm", *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert sorted(path.name for path in Store().folder.iterdir()) == ["storm"]


def test_a_fork_has_a_name_and_an_event(book: Path) -> None:
    last = events_of(templora("fork", "--json"))[-1]
    assert last["event"] == "forked" and last["session"].startswith("storm-") and last["chunks"] == 5
    assert Path(last["out"]).name == "book-2.md"
    assert [manifest.id for manifest in Store().manifests()].count("storm") == 1
