"""The prose in a file of any format: human text to learn and continue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from templora_cli.documents.inline import strip_tags
from templora_cli.documents.registry import read_document
from templora_cli.documents.text_input import read_text

DOCUMENTS = (".html", ".htm", ".epub", ".docx")
"""Suffixes of formats whose markup is not part of the prose. Files of all others are read as plain text."""
PROSE = ("text", "heading", "item")
"""Kinds of paragraphs that belong to the story; the others are tables, captions and lists of contents."""


def read_prose(
    path: Path,
    encoding: str | None = None,
    *,
    flag: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> str:
    """The prose of a file: the paragraphs of a document with blank lines between them, or the whole text.

    `encoding`, `flag` and `notify` are those of `read_text`. Raises TemploraError as `read_text` and
    `read_document` do.
    """
    if path.suffix.lower() not in DOCUMENTS:
        return read_text(path, encoding, flag=flag, notify=notify)
    paragraphs = read_document(path, encoding=encoding, notify=notify).paragraphs
    return "\n\n".join(strip_tags(paragraph.text) for paragraph in paragraphs if paragraph.kind in PROSE)
