"""Finding sessions, and one writer at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.sessions.manifest import FORMAT, Manifest, load_manifest
from templora_cli.sessions.steps import committed_steps
from templora_cli.sessions.store import Session, Store, replace_steps, sha256_of

VALUES: dict[str, Any] = {
    "format": FORMAT,
    "task": "novel",
    "parent": None,
    "start": None,
    "former_ids": [],
    "created": "2026-01-01T00:00:00+00:00",
    "model": "tiny",
    "folder": "/models/tiny",
    "fingerprint": "0",
    "quantize": "none",
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
    "versions": {},
    "config": Config().as_dict(),
    "prompts": {},
    "hardware": "x86_64 AVX2",
    "backend": "int8",
    "request": {
        "premise": "A storm.",
        "opened": False,
        "opening_title": "",
        "opening_chapters": [],
        "note": "",
        "volumes": [],
        "banned": [],
    },
    "header_tokens": 2,
    "passing_tokens": 0,
    "longest_chunk": 8,
    "source_sha256": None,
    "tokens_sha256": "",
    "goal_amount": 10,
    "goal_unit": "tokens",
    "take": 0,
    "out": None,
    "measured_by": None,
}


def create(name: str, opened: str = "2026-01-01") -> Session:
    manifest = Manifest(**{**VALUES, "id": name, "opened": opened, "source_sha256": sha256_of("x")})
    return Store().create(manifest, opening=(3, 1), source="x")


def test_an_opened_session_equals_the_created_one() -> None:
    with create("storm-1a2b") as session:
        assert session.opening() == (3, 1)
    with Store().open("storm-1a2b") as again:
        assert again.manifest == session.manifest and again.manifest.tokens_sha256
        assert again.opening() == session.opening()
        assert json.loads((again.path / "tokens.json").read_text()) == [3, 1]
        assert (again.path / "source.txt").read_text() == "x" and again.source() == b"x"


def test_a_unique_beginning_of_an_id_finds_the_session() -> None:
    for name in ("storm-1a2b", "storm-9f9f", "stone-0000"):
        create(name).lock.release()
    store = Store()
    assert store.find("storm-1").name == "storm-1a2b"
    assert store.find("sto" + "ne").name == "stone-0000"
    with pytest.raises(TemploraError, match="matches several sessions: stone-0000, storm-1a2b, storm-9f9f"):
        store.find("sto")
    with pytest.raises(TemploraError, match="matches several"):
        store.find("")
    with pytest.raises(TemploraError, match="no session is called calm") as caught:
        store.find("calm")
    assert caught.value.hint == "templora sessions list"


def test_an_exact_id_wins_over_longer_ones() -> None:
    for name in ("storm-1a2b", "storm-1a2b-two"):
        create(name).lock.release()
    assert Store().find("storm-1a2b").name == "storm-1a2b"


@pytest.mark.parametrize("reference", ["..", "../home", "/etc", "storm-1a2b/steps", "."])
def test_a_path_is_not_a_reference(reference: str) -> None:
    create("storm-1a2b").lock.release()
    with pytest.raises(TemploraError):
        Store().find(reference)


def test_the_last_session_is_the_last_opened() -> None:
    create("old-0001", "2026-01-01").lock.release()
    create("new-0002", "2026-01-02").lock.release()
    assert Store().find(None).name == "new-0002"
    with Store().open("old-0001") as session:
        session.update(opened="2026-01-03")
    assert Store().find(None).name == "old-0001"


def test_a_session_that_was_deleted_or_replaced_is_not_in_place() -> None:
    session = create("storm")
    assert session.is_in_place
    shutil.rmtree(session.path)
    assert not session.is_in_place
    newer = create("storm")
    newer.update(created="2026-02-02")
    assert newer.is_in_place and not session.is_in_place
    (newer.path / "session.json").write_text("{")
    assert newer.is_in_place


def test_the_last_session_of_a_kind() -> None:
    create("old-0001", "2026-01-01").update(task="translation")
    create("new-0002", "2026-01-02")
    store = Store()
    assert (store.last(), store.last("translation"), store.last("ppl")) == ("new-0002", "old-0001", None)


def test_a_home_without_sessions_is_reported() -> None:
    with pytest.raises(TemploraError, match="there is no session") as caught:
        Store().find(None)
    assert caught.value.hint and caught.value.hint.startswith("templora write")


def test_one_writer_at_a_time() -> None:
    session = create("storm-1a2b")
    with pytest.raises(TemploraError, match="session storm-1a2b is being written by another process"):
        Store().open("storm-1a2b")
    session.lock.release()
    Store().open("storm-1a2b").lock.release()


def test_a_folder_without_a_manifest_is_not_a_session() -> None:
    folder = Store().folder / "half-0000"
    folder.mkdir(parents=True)
    (folder / "tokens.json").write_text("[]")
    assert list(Store().manifests()) == []


def change(session: Session, **values: Any) -> None:
    path = session.path / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_unreadable_sessions_are_listed_last() -> None:
    for name in ("storm-1a2b", "other-0000"):
        create(name).lock.release()
    with Store().open("storm-1a2b") as session:
        change(session, format=FORMAT + 1, opened="2099")
    with pytest.raises(TemploraError, match="written by a newer templora"):
        Store().open("storm-1a2b")
    good, bad = Store().manifests()
    assert isinstance(good, Manifest) and isinstance(bad, TemploraError)
    (session.path / "session.json").write_text("{")
    for _ in range(2):  # and the lock is free again
        with pytest.raises(TemploraError, match="session storm-1a2b"):
            Store().open("storm-1a2b")


def test_damaged_input_files_are_refused() -> None:
    with create("calm-0000") as session:
        (session.path / "tokens.json").write_text("[3, 2]")
        with pytest.raises(TemploraError, match=r"tokens\.json is damaged") as caught:
            session.opening()
        assert caught.value.hint == "to save its text: templora sessions export calm-0000"
        (session.path / "source.txt").unlink()
        with pytest.raises(TemploraError, match=r"source\.txt is damaged"):
            session.source()


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free disk space"), (errno.EACCES, "correct this")]
)
def test_updates_are_saved(number: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    with create("storm-1a2b") as session:
        session.update(goal_amount=20)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(TemploraError, match=os.strerror(number)) as caught:
            session.update(goal_amount=30)
        assert session.manifest.goal_amount == 20
    assert caught.value.hint == f"{remedy}, then: templora resume storm-1a2b"
    assert load_manifest(session.path) == session.manifest


def test_a_measured_session_is_resumed_by_its_measuring_command() -> None:
    with create("storm-1a2b") as session:
        assert session.resume_command == "templora resume storm-1a2b"
        session.update(measured_by="templora eval drift")
        assert session.resume_command == "templora eval drift (with the same arguments)"


# --- replacing the steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("killed_before", ["steps", "steps.new", "steps.old", "summary.json", ""])
def test_a_killed_replacement_leaves_either_the_old_steps_or_the_new_ones(killed_before: str) -> None:
    with create("storm-1a2b") as session:
        path = session.path
    (path / "steps" / "000000").mkdir()
    (path / "summary.json").write_text("{}")
    (path / "steps.new" / "000001").mkdir(parents=True)
    if killed_before not in ("", "summary.json"):
        (path / "summary.json").unlink()
    if killed_before in ("steps.new", "steps.old"):
        (path / "steps").rename(path / "steps.old")
    if killed_before == "steps.old":
        (path / "steps.new").rename(path / "steps")
    if not killed_before:
        replace_steps(path)
    Store().open("storm-1a2b").lock.release()
    taken_back = killed_before in ("", "steps.new", "steps.old")
    assert [step.name for step in committed_steps(path / "steps")] == [f"{int(taken_back):06d}"]
    assert not list(path.glob("steps.*")) and (path / "summary.json").exists() == (
        killed_before == "summary.json"
    )


def test_a_read_only_home_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEMPLORA_HOME", str(tmp_path / "file"))
    with pytest.raises(TemploraError, match="cannot create a session") as caught:
        create("storm-1a2b")
    assert caught.value.hint and "TEMPLORA_HOME" in caught.value.hint


def test_ids_are_easy_to_type_and_unique() -> None:
    store = Store()
    assert store.new_id("The Lighthouse of Ends!").startswith("lighthouse-ends-")
    assert store.new_id("灯台の話").startswith("灯台の話-")
    assert store.new_id("../../etc/passwd").startswith("passwd-")
    assert len({store.new_id("a storm") for _ in range(50)}) > 40


def test_a_session_that_cannot_be_locked_is_named() -> None:
    with create("storm-1a2b") as session:
        path = session.path
    (path / "lock").unlink(missing_ok=True)
    (path / "lock").mkdir()
    with pytest.raises(TemploraError, match="storm-1a2b cannot be locked for writing: ") as caught:
        Store().open("storm")
    assert caught.value.hint == f"make {path} writable"
