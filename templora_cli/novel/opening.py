"""Prepare the opening that a person wrote, so that the model can continue it."""

from __future__ import annotations

import re

from templora_cli.documents.readers.headings import is_chapter_heading
from templora_cli.novel.sentence_end import ends_sentence, may_end_paragraph

_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def normalized_opening(text: str) -> str:
    """The opening without the white space at its ends; "" if it is blank.

    If its last paragraph is finished and a line end follows, a paragraph break is appended. White space after
    an unfinished sentence is ignored, because every editor ends a file with a line end.
    """
    body = text.rstrip()
    opening = _BLANK_LINES.sub("", body)
    if not opening or "\n" not in text[len(body) :]:
        return opening
    last_line = opening[opening.rfind("\n") + 1 :]
    return opening + _paragraph_break(opening, text[len(body) :]) if _is_paragraph(last_line) else opening


def _is_paragraph(line: str) -> bool:
    """Is the last line a complete paragraph, a heading or the mark of a scene break?"""
    heading = is_chapter_heading(line) or line.lstrip().startswith("#") or line.isupper()
    return may_end_paragraph(line) or heading or not any(char.isalnum() for char in line)


def _paragraph_break(opening: str, after: str) -> str:
    """A blank line, or one line end if the opening has a paragraph on each line without blank lines."""
    lines = opening.split("\n")[:-1]
    if not lines or _BLANK_LINE.search(opening) or _BLANK_LINE.search(after):
        return "\n\n"
    return "\n" if 2 * sum(map(ends_sentence, lines)) > len(lines) else "\n\n"
