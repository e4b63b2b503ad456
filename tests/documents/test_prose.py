"""Prose from files of all formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.documents.prose import read_prose
from templora_cli.errors import TemploraError
from tests.documents.fake import docx, epub, p, run

PAGE = "<title>No prose</title><h1>One</h1><p>It was <em>late</em>.</p>"
PAGE += "<table><tr><td>7 a</td></tr></table><p>Rain</p>"


@pytest.mark.parametrize(
    ("name", "content", "prose"),
    [
        ("a.txt", "It was  late.\n\n<1>Rain\n", "It was  late.\n\n<1>Rain\n"),
        (
            "a.md",
            "---\ntitle: x\n---\n# One\n\nIt was *late*.\n",
            "---\ntitle: x\n---\n# One\n\nIt was *late*.\n",
        ),
        ("a", "It was late.\r\nRain", "It was late.\nRain"),
        ("a.html", PAGE, "One\n\nIt was late.\n\nRain"),
        ("a.HTM", PAGE, "One\n\nIt was late.\n\nRain"),
        ("a.epub", epub("<h1>One</h1><p>It was <em>late</em>.</p>", metadata=""), "One\n\nIt was late."),
        (
            "a.docx",
            docx(p(run("It was ") + run("late", "<w:b/>") + run(".")) + p(run("Rain"))),
            "It was late.\n\nRain",
        ),
    ],
)
def test_prose(name: str, content: str | bytes, prose: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_prose(file) == prose


def test_an_encoding_may_be_said_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes("<p>Ça va</p>".encode("cp437"))
    assert read_prose(tmp_path / "a.html", "cp437") == "Ça va"
    (tmp_path / "a.docx").write_bytes(docx(p(run("It was late."))))
    with pytest.raises(TemploraError, match="an encoding is only for text files"):
        read_prose(tmp_path / "a.docx", "cp437")
    (tmp_path / "a.odt").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(TemploraError, match="is a zip archive, not a text"):
        read_prose(tmp_path / "a.odt")
