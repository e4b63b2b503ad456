"""`session.json`: saved values are loaded unchanged, and invalid fields are named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templora_cli.config import Config
from templora_cli.config_layers import from_dict
from templora_cli.errors import TemploraError
from templora_cli.sessions.manifest import FORMAT, Manifest, load_manifest
from tests.sessions.test_store import VALUES

BEGUN = Manifest(id="storm-1a2b", opened="2026-01-01", **VALUES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """That of a session, with its manifest."""
    folder = tmp_path / BEGUN.id
    folder.mkdir()
    BEGUN.save(folder)
    return folder


def change(folder: Path, **values: Any) -> None:
    path = folder / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}))


TEXTS = st.text(max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    request=st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers() | TEXTS | st.lists(TEXTS)),
    texts=st.dictionaries(TEXTS, st.dictionaries(TEXTS, st.dictionaries(TEXTS, TEXTS))),
    out=st.none() | TEXTS,
    parent=st.none() | TEXTS,
    take=st.integers(0),
)
def test_a_saved_manifest_is_loaded_unchanged(
    folder: Path, request: Any, texts: Any, out: str | None, parent: str | None, take: int
) -> None:
    manifest = replace(BEGUN, request=request, prompts=texts, out=out, parent=parent, take=take)
    manifest.save(folder)
    assert load_manifest(folder) == manifest


def test_it_is_json_with_a_field_for_each_value(folder: Path) -> None:
    assert json.loads((folder / "session.json").read_text("utf-8")) == asdict(BEGUN)
    assert BEGUN.format == FORMAT == 1
    assert from_dict(load_manifest(folder).config, "session.json") == Config()


def test_a_newer_format_is_refused(folder: Path) -> None:
    change(folder, format=FORMAT + 1)
    message = rf"written by a newer templora \(format {FORMAT + 1}; this one reads up to {FORMAT}\)"
    with pytest.raises(TemploraError, match=message) as caught:
        load_manifest(folder)
    assert caught.value.hint == "pip install --upgrade templora"


def test_a_newer_format_is_reported_before_missing_fields(folder: Path) -> None:
    (folder / "session.json").write_text(f'{{"format": {FORMAT + 1}}}')
    with pytest.raises(TemploraError, match="written by a newer templora"):
        load_manifest(folder)


def test_unknown_fields_are_ignored(folder: Path) -> None:
    change(folder, mood="calm")
    assert load_manifest(folder) == BEGUN


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "\x80", '{"format": "x"}', '{"format": 1}', '{"format": 1, "config": null}', "null"],
)
def test_a_damaged_manifest_is_refused(content: str, folder: Path) -> None:
    (folder / "session.json").write_text(content, "latin-1")
    with pytest.raises(TemploraError, match="session storm-1a2b") as caught:
        load_manifest(folder)
    assert caught.value.hint == "to save its text: templora sessions export storm-1a2b"


def test_a_missing_manifest_is_refused(folder: Path) -> None:
    (folder / "session.json").unlink()
    with pytest.raises(TemploraError, match=r"session\.json is damaged or missing"):
        load_manifest(folder)


@pytest.mark.parametrize("name", sorted(asdict(BEGUN).keys() - {"format"}))
def test_a_missing_or_mistyped_field_is_named(name: str, folder: Path) -> None:
    values = asdict(BEGUN)
    (folder / "session.json").write_text(json.dumps({**values, name: 1.5}))  # no field is a fraction
    with pytest.raises(TemploraError, match=f"is damaged at {name}$"):
        load_manifest(folder)
    del values[name]
    (folder / "session.json").write_text(json.dumps(values))
    with pytest.raises(TemploraError, match=f"lacks {name}$"):
        load_manifest(folder)


def test_all_damaged_fields_are_named_at_once(folder: Path) -> None:
    change(folder, goal_amount=None, threads="two")
    with pytest.raises(TemploraError, match="damaged at goal_amount, threads"):
        load_manifest(folder)


def test_a_manifest_is_a_value() -> None:
    assert replace(BEGUN, out="c").out == "c" and BEGUN.out is None
