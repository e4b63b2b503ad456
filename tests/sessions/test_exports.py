"""Unchanged exports of a session are overwritten, and edited files never are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.sessions.exports import FILE, MAX_HASHES, save_export

BOOK = Path("book.md")


@pytest.fixture
def session(tmp_path: Path) -> Path:
    folder = tmp_path / "storm-1a2b"
    folder.mkdir()
    return folder


def test_an_unchanged_export_is_overwritten(session: Path) -> None:
    for content in (b"one", b"one two", b"one two three"):
        assert save_export(session, BOOK, content, force=False) is None
        assert BOOK.read_bytes() == content
    BOOK.write_bytes(b"one")  # an older one, as from a backup
    assert save_export(session, BOOK, b"four", force=False) is None
    assert [path.name for path in Path().iterdir()] == ["book.md"]


@pytest.mark.parametrize("edited", [b"", b"mine", b"one two\r\n"])
def test_an_edited_file_is_moved_aside_and_only_with_force(session: Path, edited: bytes) -> None:
    save_export(session, BOOK, b"one two\n", force=False)
    BOOK.write_bytes(edited)
    with pytest.raises(TemploraError, match="was changed or is not from session storm-1a2b") as caught:
        save_export(session, BOOK, b"three", force=False)
    assert (
        str(caught.value.hint).startswith("--force renames it to book.edited-1.md")
        and not BOOK.with_name("book.edited-1.md").exists()
    )
    assert BOOK.read_bytes() == edited
    assert save_export(session, BOOK, b"three", force=True) == Path("book.edited-1.md")
    assert Path("book.edited-1.md").read_bytes() == edited and BOOK.read_bytes() == b"three"
    assert save_export(session, BOOK, b"four", force=True) is None, "an unchanged export is not retained"


def test_an_export_of_another_session_is_not_overwritten(session: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_export(other, BOOK, b"theirs", force=False)
    with pytest.raises(TemploraError, match="is not from session"):
        save_export(session, BOOK, b"ours", force=False)
    assert save_export(session, BOOK, b"theirs", force=False) is None, "equal content is no loss"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["save", "edit", "force"]), st.binary(max_size=3)), max_size=12))
def test_no_edit_is_ever_lost(session: Path, acts: list[tuple[str, bytes]]) -> None:
    """The previous content is still in the file or beside it afterwards, or it was an export."""
    saved: set[bytes] = set()
    for act, content in acts:
        if act == "edit":
            BOOK.write_bytes(content)
            continue
        before = BOOK.read_bytes() if BOOK.exists() else None
        try:
            save_export(session, BOOK, content, force=act == "force")
            saved.add(content)
        except TemploraError:
            assert act == "save" and before not in saved
        existing = {path.read_bytes() for path in Path().iterdir()}
        assert before is None or before in existing | saved
    for leftover in [*Path().iterdir(), session / FILE]:
        leftover.unlink(missing_ok=True)


@pytest.mark.parametrize("content", ["", "\x00\xff", "not a digest\n"])
def test_the_list_of_hashes_may_be_damaged(session: Path, content: str) -> None:
    (session / FILE).write_text(content, "latin-1")
    save_export(session, BOOK, b"one", force=False)
    assert save_export(session, BOOK, b"two", force=False) is None
    for number in range(MAX_HASHES + 20):
        save_export(session, BOOK, b"%d" % number, force=False)
    assert len((session / FILE).read_text().split()) == MAX_HASHES


def test_a_folder_is_refused(session: Path) -> None:
    BOOK.mkdir()
    with pytest.raises(TemploraError, match=r"book\.md is a folder"):
        save_export(session, BOOK, b"one", force=True)
