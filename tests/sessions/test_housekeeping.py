"""Removing, renaming and shrinking sessions: never partly, never outside the home, never one in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.files import bytes_below
from templora_cli.novel.kind import Novel
from templora_cli.sessions.checkpoint import commit_step, restore_latest
from templora_cli.sessions.housekeeping import REMOVED, older_checkpoints, remove, rename, shrink
from templora_cli.sessions.manifest import Manifest, load_manifest
from templora_cli.sessions.store import Session, Store
from tests.sessions.test_checkpoint import state_of
from tests.sessions.test_store import create

LINKS = pytest.mark.skipif(sys.platform == "win32", reason="links need special rights on Windows")


def ids() -> list[str]:
    return sorted(manifest.id for manifest in Store().manifests() if isinstance(manifest, Manifest))


def removed(*names: str) -> list[tuple[str, int]]:
    store = Store()
    return list(remove(store, [store.folder / name for name in names]))


# --- removing ----------------------------------------------------------------------------------------


def test_removed_sessions_are_deleted_and_their_bytes_reported() -> None:
    for name in ("storm-0001", "storm-0002", "calm-0003"):
        create(name).lock.release()
    (Store().folder / "storm-0001" / "steps" / "large").write_bytes(b"x" * 5000)
    sizes = [bytes_below(Store().folder / f"storm-000{n}") for n in (1, 2)]
    assert sizes[0] > 5000
    assert removed("storm-0001", "storm-0002") == [("storm-0001", sizes[0]), ("storm-0002", sizes[1])]
    assert [path.name for path in Store().folder.iterdir()] == ["calm-0003"]


def test_nothing_is_removed_if_one_session_is_in_use() -> None:
    create("storm-0001").lock.release()
    with create("calm-0002"):
        with pytest.raises(TemploraError, match="calm-0002 is being written by another process"):
            removed("storm-0001", "calm-0002")
        assert ids() == ["calm-0002", "storm-0001"]
    removed("storm-0001", "calm-0002")
    assert ids() == []


KILLED = """
import os, sys
from pathlib import Path
from templora_cli.sessions.housekeeping import remove
from templora_cli.sessions.store import Store
sys.addaudithook(lambda event, values: os._exit(9) if event == "shutil.rmtree" else None)
list(remove(Store(), [Store().folder / "storm-0001"]))
"""


def test_a_kill_leaves_no_half_session_and_the_next_one_cleans_up() -> None:
    for name in ("storm-0001", "calm-0002"):
        create(name).lock.release()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment)
    assert done.returncode == 9
    (leftover,) = Store().folder.glob(f"{REMOVED}*")
    assert (leftover / "session.json").exists() and ids() == ["calm-0002"]
    with pytest.raises(TemploraError, match="no session is called"):
        Store().find("storm-0001")
    with pytest.raises(TemploraError, match="no session is called"):
        Store().find(leftover.name)
    removed("calm-0002")
    assert list(Store().folder.iterdir()) == []


@LINKS
def test_targets_of_links_are_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("Dear you")
    with create("storm-0001") as session:
        (session.path / "steps" / "folder").symlink_to(mine, target_is_directory=True)
        (session.path / "file").symlink_to(mine / "letter.txt")
    (mine / "session.json").write_bytes((session.path / "session.json").read_bytes())
    (Store().folder / "elsewhere").symlink_to(mine, target_is_directory=True)
    before = sorted(mine.iterdir())
    with pytest.raises(TemploraError, match="elsewhere is a link to another folder") as caught:
        removed("storm-0001", "elsewhere")
    assert caught.value.hint == f"to remove it from the list: rm {Store().folder / 'elsewhere'}"
    assert ids() == ["elsewhere", "storm-0001"] and sorted(mine.iterdir()) == before
    (Store().folder / f"{REMOVED}0").symlink_to(mine, target_is_directory=True)
    removed("storm-0001")
    assert sorted(mine.iterdir()) == before and (mine / "letter.txt").read_text() == "Dear you"


# --- renaming ----------------------------------------------------------------------------------------


def test_renaming_keeps_the_session_and_updates_its_forks() -> None:
    with create("child-0002") as child:
        child.update(parent="storm-0001")
    with create("storm-0001") as session:
        (session.path / "steps" / "000000").mkdir()
        rename(Store(), session, "灯塔")
        assert session.id == "灯塔" and session.resume_command == "templora resume 灯塔"
        with pytest.raises(TemploraError, match="is being written"):
            Store().open("灯塔")
    with Store().open("灯") as again:
        assert again.manifest == session.manifest and again.opening() == (3, 1)
        assert (again.manifest.id, again.manifest.former_ids) == ("灯塔", ["storm-0001"])
        assert '"id": "灯塔"' in (again.path / "session.json").read_text("utf-8")
        assert (again.steps / "000000").is_dir()
        rename(Store(), again, "harbour")
        assert again.manifest.former_ids == ["storm-0001", "灯塔"]
    assert load_manifest(child.path).parent == "harbour" and ids() == ["child-0002", "harbour"]


@pytest.mark.parametrize("name", ["calm-0002", "CALM-0002", "storm-0001"])
def test_a_taken_name_is_refused(name: str) -> None:
    create("calm-0002").lock.release()
    with create("storm-0001") as session:
        with pytest.raises(TemploraError, match="already exists"):
            rename(Store(), session, name)
        assert session.path.is_dir() and ids() == ["calm-0002", "storm-0001"]


def test_a_name_of_another_folder_is_refused() -> None:
    with create("storm-0001") as session:
        (Store().folder / "harbour").mkdir()
        with pytest.raises(TemploraError, match="harbour already exists and is not a session"):
            rename(Store(), session, "harbour")


def test_renaming_is_refused_while_a_fork_is_in_use() -> None:
    with create("child-0002") as child, create("storm-0001") as session:
        child.update(parent="storm-0001")
        with pytest.raises(TemploraError, match="child-0002 is being written"):
            rename(Store(), session, "harbour")
        assert ids() == ["child-0002", "storm-0001"]


# --- making smaller ----------------------------------------------------------------------------------


@pytest.fixture
def session(tiny_model: Path) -> Session:
    """A session with three checkpoints, the second of which lacks its tensors as old ones do."""
    session = create("storm-0001")
    state = state_of(tiny_model)
    for index in range(3):
        state.chunks = index + 1
        chunk = {"text": f"{index}", "tokens": [index], "origin": "generated", "prompt": {}, "nll_base": 2.0}
        commit_step(session.steps, index, chunk, state)
    for name in ("adapter.safetensors", "optimizer.safetensors", "state.json"):
        (session.steps / "000001" / name).unlink()
    return session


def test_the_newest_checkpoint_stays_and_so_does_all_text(session: Session, tiny_model: Path) -> None:
    before, older = bytes_below(session.path), older_checkpoints(session.steps)
    assert {file.parent.name for file in older} == {"000000"} and len(older) == 3
    freed = shrink(session, Novel())
    assert freed > 0 and bytes_below(session.path) == before - freed
    assert older_checkpoints(session.steps) == [] and shrink(session, Novel()) == 0
    state = state_of(tiny_model)
    assert restore_latest(session.steps, state) == [] and (state.chunks, state.tokens) == (3, [0, 1, 2])


@pytest.mark.parametrize("damaged", ["000002/adapter.safetensors", "000002/chunk.json", "000001/chunk.json"])
def test_older_checkpoints_stay_if_the_newest_is_damaged(session: Session, damaged: str) -> None:
    (session.steps / damaged).write_bytes(b"damaged")
    older = older_checkpoints(session.steps)
    with pytest.raises(TemploraError, match="its older checkpoints are needed") as caught:
        shrink(session, Novel())
    assert caught.value.hint == "templora resume storm-0001" and older_checkpoints(session.steps) == older


def test_shrinking_a_session_without_chunks_frees_nothing() -> None:
    with create("storm-0001") as session:
        assert shrink(session, Novel()) == 0
