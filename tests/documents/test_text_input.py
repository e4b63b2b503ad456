"""Texts that a user gives, in whatever encoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.documents.text_input import checked_text, read_text
from templora_cli.errors import TemploraError


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(file) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16", "The café was closed."),
        ("utf-16-be", "The cafe was closed."),
        ("gbk", "雨夜，一个女人回到了灯塔。"),
        ("cp1252", "The café was closed."),
    ],
)
def test_encodings_are_detected_or_said(encoding: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode(encoding))
    assert read_text(file) == read_text(file, encoding) == text
    assert checked_text(file.read_bytes(), "the premise") == text
    assert checked_text(b"", "the premise") == ""
    with pytest.raises(TemploraError, match="unknown encoding"):
        read_text(file, "klingon")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"\x7fELF\0\0", "is a program, not a text \\(.txt\\)"),
        (b"%PDF-1.7", "is a PDF, not a text"),
        (b"a\0\0\x01b" * 50, "is not text, or its encoding is unknown"),
        (b"\xff\xfea", "is damaged"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(TemploraError, match=complaint) as caught:
        read_text(file)
    assert caught.value.hint


def test_a_guessed_encoding_is_announced(tmp_path: Path) -> None:
    told: list[str] = []
    file = tmp_path / "a.txt"
    for content, notice in (
        ("The café was closed.".encode("cp1252"), "Windows-1252; if that is wrong, save the file as UTF-8"),
        ("The cafe was closed.".encode("utf-16-le"), "UTF-16-LE; if that is wrong, save the file as UTF-8"),
    ):
        file.write_bytes(content)
        read_text(file, notify=told.append)
        assert told.pop() == f"reading {file} as {notice}"
    for content in ("The café was closed.".encode(), "The café was closed.".encode("utf-16")):
        file.write_bytes(content)
        read_text(file, notify=told.append)
    file.write_bytes("The café was closed.".encode("cp1252"))
    read_text(file, "latin-1", notify=told.append)
    assert told == []


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match="there is no file"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(TemploraError, match="is a folder"):
        read_text(tmp_path)
