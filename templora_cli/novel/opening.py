"""The opening that a person wrote, to where the model goes on."""

from __future__ import annotations

import re

from templora_cli.documents.readers.headings import is_chapter_heading
from templora_cli.novel.sentence_end import ends_paragraph, ends_sentence

_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def to_go_on_from(text: str) -> str:
    """An opening without the white space at its ends, "" for one of nothing else.

    Where its last paragraph is finished and a line end follows, the break before the next paragraph follows
    it. Blanks and line ends after a sentence that is not finished say nothing: every editor puts one there.
    """
    body = text.rstrip()
    opening = _BLANK_LINES.sub("", body)
    if not opening or "\n" not in text[len(body) :]:
        return opening
    last = opening[opening.rfind("\n") + 1 :]
    return opening + _paragraph_break(opening, text[len(body) :]) if _is_paragraph(last) else opening


def _is_paragraph(line: str) -> bool:
    """Is a line that stands last a whole paragraph, a heading or the sign of a scene break?"""
    heading = is_chapter_heading(line) or line.lstrip().startswith("#") or line.isupper()
    return ends_paragraph(line) or heading or not any(char.isalnum() for char in line)


def _paragraph_break(opening: str, after: str) -> str:
    """A blank line, unless the opening has a paragraph on each line and none between."""
    lines = opening.split("\n")[:-1]
    if not lines or _BLANK_LINE.search(opening) or _BLANK_LINE.search(after):
        return "\n\n"
    return "\n" if 2 * sum(map(ends_sentence, lines)) > len(lines) else "\n\n"
