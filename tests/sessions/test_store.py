"""Finding sessions, and one writer at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from templora_cli.config import Config, from_dict
from templora_cli.errors import TemploraError
from templora_cli.sessions import manifest as manifests
from templora_cli.sessions.manifest import FORMAT, Manifest, load_manifest
from templora_cli.sessions.store import Session, Store

VALUES: dict[str, Any] = {
    "format": FORMAT,
    "task": "novel",
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
    "premise": "A storm.",
    "request": {},
    "source_sha256": None,
    "tokens_sha256": "",
    "goal_amount": 10,
    "goal_unit": "tokens",
    "out": None,
}


def create(name: str, opened: str = "2026-01-01") -> Session:
    manifest = Manifest(id=name, opened=opened, **VALUES)
    return Store().create(manifest, header=(1, 2), opening=(3,), source="x")


def test_a_session_comes_back_as_it_was_begun() -> None:
    with create("storm-1a2b") as session:
        assert session.tokens() == ((1, 2), (3,))
    with Store().open("storm-1a2b") as again:
        assert again.manifest == session.manifest and again.manifest.tokens_sha256
        assert again.tokens() == session.tokens()
        assert (again.path / "source.txt").read_text() == "x"


def test_unique_beginnings() -> None:
    for name in ("storm-1a2b", "storm-9f9f", "stone-0000"):
        create(name).lock.release()
    store = Store()
    assert store.find("storm-1").name == "storm-1a2b"
    assert store.find("sto" + "ne").name == "stone-0000"
    with pytest.raises(TemploraError, match="fits several sessions: stone-0000, storm-1a2b, storm-9f9f"):
        store.find("sto")
    with pytest.raises(TemploraError, match="fits several"):
        store.find("")
    with pytest.raises(TemploraError, match="no session is called calm") as caught:
        store.find("calm")
    assert caught.value.hint == "templora sessions list"


def test_an_id_that_begins_another() -> None:
    for name in ("storm-1a2b", "storm-1a2b-two"):
        create(name).lock.release()
    assert Store().find("storm-1a2b").name == "storm-1a2b"


@pytest.mark.parametrize("reference", ["..", "../home", "/etc", "storm-1a2b/steps", "."])
def test_a_reference_is_no_path(reference: str) -> None:
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


def test_no_sessions_at_all() -> None:
    with pytest.raises(TemploraError, match="there is no session") as caught:
        Store().find(None)
    assert caught.value.hint and caught.value.hint.startswith("templora write")


def test_one_writer_at_a_time() -> None:
    session = create("storm-1a2b")
    with pytest.raises(TemploraError, match="session storm-1a2b is being written by another process"):
        Store().open("storm-1a2b")
    session.lock.release()
    Store().open("storm-1a2b").lock.release()


def test_a_session_that_was_killed_while_it_was_made_is_none() -> None:
    folder = Store().folder / "half-0000"
    folder.mkdir(parents=True)
    (folder / "tokens.json").write_text("{}")
    assert list(Store().manifests()) == []


def change(session: Session, **values: Any) -> None:
    path = session.path / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_newer_format_is_refused() -> None:
    with create("storm-1a2b") as session:
        change(session, format=FORMAT + 1)
    with pytest.raises(TemploraError, match="written by a newer templora") as caught:
        Store().open("storm-1a2b")
    assert caught.value.hint == "pip install --upgrade templora"
    create("other-0000").lock.release()
    good, bad = Store().manifests()
    assert isinstance(good, Manifest) and isinstance(bad, TemploraError)


def test_older_formats_are_migrated_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with create("storm-1a2b") as session:
        change(session, format=1, premise=None)
    monkeypatch.setattr(manifests, "FORMAT", 3)
    monkeypatch.setattr(
        manifests,
        "MIGRATIONS",
        [
            lambda values: {**values, "format": 2, "premise": "two"},
            lambda values: {**values, "format": 3, "premise": values["premise"] + " three"},
        ],
    )
    assert load_manifest(session.path).premise == "two three"


def test_a_session_from_before_gate_and_windows_goes_on_without_them() -> None:
    with create("storm-1a2b") as session:
        change(session, format=1, config={"decode": {"top_p": 0.5}, "given": {"lr": 0.25}})
    config = from_dict(load_manifest(session.path).config, "session.json")
    assert not config.gate.enabled and config.decode.top_p == 0.5
    assert (config.given.window_tokens, config.own.window_tokens, config.given.lr) == (0, 0, 0.25)


def test_a_session_from_before_the_int8_backend_goes_on_with_the_one_it_began_with() -> None:
    with create("storm-1a2b") as session:
        change(session, format=3, config={"decode": {"top_p": 0.5}})
    config = from_dict(load_manifest(session.path).config, "session.json")
    assert (config.decode.backend, config.decode.top_p) == ("eager", 0.5)


def test_a_translation_from_before_long_paragraphs_were_cut_goes_on_without() -> None:
    with create("storm-1a2b") as session:
        change(session, format=4, task="translation", request={"path": "book.txt"})
    assert load_manifest(session.path).request == {"path": "book.txt", "cuts": {}}


@pytest.mark.parametrize(("decode", "backend"), [({"backend": "eager"}, "eager"), ({}, "auto")])
def test_a_session_from_before_it_said_what_decodes_goes_on_with_what_was_asked_for(
    decode: dict[str, str], backend: str
) -> None:
    with create("storm-1a2b") as session:
        change(session, format=6, config={"decode": decode})
    manifest = load_manifest(session.path)
    assert manifest.backend == backend and manifest.config["gate"] == {"drift": 100}


@pytest.mark.parametrize(
    ("train", "named"), [({"gradient_checkpointing": False}, "off"), ({"rank": 2}, "on")]
)
def test_a_session_from_before_auto_goes_on_checkpointing_as_it_began(
    train: dict[str, Any], named: str
) -> None:
    with create("storm-1a2b") as session:
        change(session, format=4, config={"train": train, "decode": {"top_p": 0.5}})
    config = from_dict(load_manifest(session.path).config, "session.json")
    assert (config.train.gradient_checkpointing, config.decode.top_p) == (named, 0.5)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": "x"}', '{"format": 1}', '{"format": 1, "config": null}']
)
def test_a_damaged_manifest(content: str) -> None:
    with create("storm-1a2b") as session:
        (session.path / "session.json").write_text(content)
    with pytest.raises(TemploraError, match="session storm-1a2b"):
        Store().open("storm-1a2b")
    with pytest.raises(TemploraError, match="session storm-1a2b"):  # and the lock is free again
        Store().open("storm-1a2b")


def test_damaged_values_and_tokens() -> None:
    with create("storm-1a2b") as session:
        change(session, goal_amount=None, threads="two")
    with pytest.raises(TemploraError, match="damaged at goal_amount, threads"):
        Store().open("storm-1a2b")
    with create("calm-0000") as session:
        (session.path / "tokens.json").write_text('{"header": [1, 3], "opening": [3]}')
        with pytest.raises(TemploraError, match=r"tokens\.json is damaged"):
            session.tokens()


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TEMPLORA_HOME", str(tmp_path / "file"))
    with pytest.raises(TemploraError, match="no session can be kept") as caught:
        create("storm-1a2b")
    assert caught.value.hint and "TEMPLORA_HOME" in caught.value.hint


def test_ids_can_be_typed_and_are_unique() -> None:
    store = Store()
    assert store.new_id("The Lighthouse of Ends!").startswith("lighthouse-ends-")
    assert store.new_id("灯台の話").startswith("book-")
    assert store.new_id("../../etc/passwd").startswith("passwd-")
    assert len({store.new_id("a storm") for _ in range(50)}) > 40


def test_manifests_are_values() -> None:
    manifest = Manifest(id="a", opened="b", **VALUES)
    assert replace(manifest, out="c").out == "c" and manifest.out is None
