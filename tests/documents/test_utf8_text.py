"""Files that must be UTF-8."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.documents.utf8_text import read_text
from templora_cli.errors import TemploraError


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(file) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"text \xe9t\xe9", "is not UTF-8 \\(byte 5\\)"),
        (b"\x7fELF\0\0", "is binary"),
        ("text".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(TemploraError, match=message) as caught:
        read_text(file)
    assert caught.value.hint


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match="there is no file"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(TemploraError, match="cannot be read"):
        read_text(tmp_path)
