"""Prose that a person wrote, from a file of any format, to be learnt and gone on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from templora_cli.documents.inline import strip_tags
from templora_cli.documents.registry import read_document
from templora_cli.documents.text_input import read_text

DOCUMENTS = (".html", ".htm", ".epub", ".docx")
"""Formats whose markup is no part of the prose. In others a file is its text, as it stands there."""
PROSE = ("text", "heading", "item")
"""Kinds of paragraphs that are the story, and no table, caption or list of contents."""


def read_prose(
    path: Path,
    encoding: str | None = None,
    *,
    flag: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> str:
    """The prose of a file: of a document its paragraphs with blank lines between, else all of its text.

    `encoding`, `flag` and `notify` are those of `read_text`. Raises TemploraError as `read_text` and
    `read_document` do.
    """
    if path.suffix.lower() not in DOCUMENTS:
        return read_text(path, encoding, flag=flag, notify=notify)
    paragraphs = read_document(path, encoding=encoding, notify=notify).paragraphs
    return "\n\n".join(strip_tags(one.text) for one in paragraphs if one.kind in PROSE)
