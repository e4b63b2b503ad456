"""Text files in and out."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.documents.text import as_markdown, book_as, read_text
from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(file) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"text \xe9t\xe9", "is not UTF-8 \\(byte 5\\)"),
        (b"\x7fELF\0\0", "is binary"),
        ("text".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(TemploraError, match=complaint) as caught:
        read_text(file)
    assert caught.value.hint


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match="there is no file"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(TemploraError, match="cannot be read"):
        read_text(tmp_path)


def test_markdown_keeps_every_line_of_dialogue_a_paragraph() -> None:
    assert as_markdown('  "Who?"\n"Me."\n\n\n    Indented.\n') == '"Who?"\n\n"Me."\n\nIndented.\n'


def test_the_suffix_says_the_format() -> None:
    assert book_as(Path("a.md"), "a\nb") == "a\n\nb\n"
    assert book_as(Path("a.TXT"), "a\nb") == "a\nb\n"
    with pytest.raises(TemploraError, match=r"\.md or \.txt"):
        book_as(Path("a.pdf"), "a")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "work" / "a.txt"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "\ud800")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]
