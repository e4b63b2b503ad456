"""Atomic writes: a file is complete or unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.files import expanded, numbered_name, unused_name, write_atomically


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "work" / "a.txt"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "\ud800")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("typed", "path"),
    [("~", "/home/me"), ("~/a.md", "/home/me/a.md"), ("~nobody-at-all/a", "~nobody-at-all/a"), ("a~", "a~")],
)
def test_a_tilde_stands_for_the_home_folder(typed: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert expanded(typed) == Path(path)


def test_a_numbered_name_is_free() -> None:
    for existing in ("book.md", "book-2.md"):
        Path(existing).touch()
    names = [str(numbered_name(Path(name))) for name in ("book.md", "book-2.md", "other.md", "Tale-1984.md")]
    assert names == ["book-3.md", "book-3.md", "other-2.md", "Tale-1984-2.md"]
    assert [str(unused_name(Path(name))) for name in ("book.md", "other.md")] == ["book-3.md", "other.md"]
