"""Names of sessions: safe folder names for any text, and the check of names from users."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.sessions.names import (
    MAX_BYTES,
    MAX_GENERATED_BYTES,
    RESERVED,
    checked_name,
    fold_name,
    name_from_text,
)
from templora_cli.sessions.store import Store
from tests.sessions.test_store import create

ANYTHING = st.text(st.characters(), max_size=60)
"""Includes surrogates, controls and unassigned characters."""
NASTY = st.text(
    st.sampled_from('aAé\u0301\u0130ßΣς灯語ア한ไม่हि\u200d\ufe0f\u202eع٣./\\:*?"<>|~-_ \t\n\0'), max_size=30
)


def require_safe(name: str) -> None:
    """Check that a name is a visible folder on Linux, macOS and Windows, and can be typed."""
    assert 0 < len(name.encode("utf-8")) <= 255 and len(name.encode("utf-16-le")) <= 2 * 255
    assert not set(name) & set('/\\:*?"<>|~.') and name not in RESERVED
    assert name[0].isalnum() and not name.endswith((" ", ".", "-", "_"))
    for character in name:
        assert character in "-_" or unicodedata.category(character)[0] in "LNM", hex(ord(character))
    assert unicodedata.normalize("NFC", name) == name, "macOS gives it back otherwise"
    assert name == name.lower()


@settings(max_examples=500)
@given(ANYTHING | NASTY)
def test_the_name_of_any_text_is_a_safe_folder_name(text: str) -> None:
    for in_ascii in (False, True):
        words = name_from_text(text, in_ascii=in_ascii)
        require_safe(f"{words}-1a2b")
        assert len(words.encode()) <= MAX_GENERATED_BYTES and (words.isascii() or not in_ascii)
        assert checked_name(f"{words}-1a2b", "{}") == f"{words}-1a2b", "a person may give it too"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING | NASTY)
def test_a_session_of_any_text_is_found_by_its_id(own_home: Path, text: str) -> None:
    store = Store()
    name = store.new_id(text)
    with create(name) as session:
        assert store.find(name) == session.path and session.id == name
        assert [path.name for path in store.folder.iterdir()] == [name]
        for end in range(1, len(name) + 1):
            for form in ("NFC", "NFD"):
                assert store.find(unicodedata.normalize(form, name[:end])) == session.path
    shutil.rmtree(session.path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The Lighthouse of Ends!", "lighthouse-ends"),
        ("A fox", "fox"),
        ("It is I", "it-is"),
        ("I", "i"),
        ("1984 is past", "1984-past"),
        ("李明在海边的灯塔里点亮了灯。他坐在窗前", "李明在海边的-他坐在窗前"),
        ("灯台の話", "灯台の話"),
        ("منارة في البحر", "منارة-في"),
        ("Маяк на краю света", "маяк-краю"),
        ("हिन्दी कहानी", "हिन्दी-कहानी"),
        ("E\u0301tienne s'en va", "étienne"),
        ("ＦＵＬＬ ｗｉｄｔｈ", "full-width"),
        ("../../etc/passwd", "passwd"),
        ("ยามค่ำคืน", "ยามค่ำ"),
        ("ນ້ຳ", "ນ້ຳ"),
        ("İstanbul'da bir gece", "istanbul-gece"),
        ("con", "con"),
        ("\u3164\u115f", "book"),
        ("!!!", "book"),
        ("", "book"),
    ],
)
def test_a_name_is_made_of_significant_words(text: str, name: str) -> None:
    assert name_from_text(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Étienne Ødegård", "etienne-odegard"),
        ("маяк", "emayaka"),
        ("등대 이야기", "deungdae-iyagi"),
        ("灯塔", "book"),
        ("straße", "strasse"),
    ],
)
def test_a_name_is_spelt_in_ascii_for_a_file_system_without_unicode(text: str, name: str) -> None:
    class OnOldDisk(Store):
        def accepts_name(self, name: str) -> bool:
            return name.isascii()

    assert OnOldDisk().new_id(text)[:-5] == name == name_from_text(text, in_ascii=True)
    with pytest.raises(TemploraError, match="does not support this name"):
        OnOldDisk().require_free("灯塔")


def test_names_that_the_file_system_does_not_support_are_detected(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.accepts_name("storm") and not store.folder.exists(), "ASCII needs no trial"
    assert store.accepts_name("灯塔") and list(store.folder.iterdir()) == []
    assert not store.accepts_name("\ud800"), "it cannot be encoded"
    assert not store.accepts_name("灯" * 200), "it is too long"


@pytest.mark.parametrize(
    "name", ["harbour", "my-book_2", "灯塔", "e\u0301te\u0301", "2024", "a" * MAX_BYTES, "con-1", "น้ำ", "ນ້ຳ"]
)
def test_valid_names_are_accepted(name: str) -> None:
    assert checked_name(name, "{}") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "proposed", "reason"),
    [
        ("My Book", "my-book", "lower-case"),
        ("a/b", "a-b", "lower-case"),
        ("../x", "x", "lower-case"),
        (".hidden", "hidden", "lower-case"),
        ("-x", "x", "lower-case"),
        ("--json", "json", "lower-case"),
        ("x.", "x", "lower-case"),
        ("nul.txt", "nul-txt", "lower-case"),
        ("a--b", "a-b", "lower-case"),
        ("", "book", "lower-case"),
        ("..", "book", "lower-case"),
        ("CON", "con-book", "lower-case"),
        ("lpt1", "lpt1-book", "Windows"),
        ("灯" * 22, "灯" * 21, "66 bytes, the limit is 64"),
        ("a\x1b[31m", "a-31m", "lower-case"),
    ],
)
def test_invalid_names_are_refused_with_a_valid_proposal(name: str, proposed: str, reason: str) -> None:
    with pytest.raises(TemploraError, match=reason) as caught:
        checked_name(name, "--name {}")
    assert caught.value.hint == f"--name {proposed}"
    assert checked_name(proposed, "{}") == proposed


@settings(max_examples=300)
@given(ANYTHING | NASTY)
def test_every_proposed_name_is_valid(name: str) -> None:
    try:
        valid = checked_name(name, "{}")
    except TemploraError as error:
        valid = checked_name(str(error.hint), "{}")
    require_safe(valid)
    assert len(valid.encode()) <= MAX_BYTES and fold_name(valid) == fold_name(valid.upper())
