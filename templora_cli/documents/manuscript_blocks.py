"""A manuscript as the reader of its format returns it: blocks in order, before the chapters are known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from templora_cli.documents.text_input import without_controls

BlockKind = Literal["text", "heading", "break", "blank"]
GAP = "\n\n"
"""The white space between two paragraphs where the format does not say it."""
SCENE_BREAK = "* * *"
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")
_BLANKS = re.compile(r"[ \t]+")


class ManuscriptBlock(NamedTuple):
    """A paragraph, a heading, the sign of a scene break, or an empty paragraph ("blank")."""

    text: str
    """Without white space at its ends. A line end in it is one that the author typed."""
    kind: BlockKind = "text"
    level: int = 0
    """Of a heading: 1 is the highest, 0 the title of the whole work. 0 for other kinds."""
    gap: str = GAP
    """The white space before it."""
    matter: str = ""
    """The name of the front or back matter that it belongs to, such as "contents"; "" for the book itself."""
    is_alone: bool = True
    """Whether it is the whole of its block of lines. Lines of verse and of lists are not."""


@dataclass(frozen=True)
class ManuscriptSource:
    """What a reader returns."""

    title: str
    """The title of the book that the format states; "" if it states none."""
    blocks: list[ManuscriptBlock]
    left_out: list[str] = field(default_factory=list)
    """Names of what the reader itself left out, such as "3 comments"."""
    ending: str = GAP
    """The white space after the last block."""
    is_verbatim: bool = False
    """Whether the author's own signs of scene breaks stay as they are, also next to headings."""


def counted(count: int, singular: str) -> str:
    """`count` things in words: "1 comment", "3 comments"."""
    return f"{count:,} {singular}{'' if count == 1 else 's'}"


def joined_title(lines: Iterable[str]) -> str:
    """The lines of a heading as one title: "Chapter 3: The Storm"."""
    title = ""
    for line in lines:
        divider = " " if not title or title[-1] in ".:;,!?—–-" else ": "
        title += divider + line.strip()
    return title.strip()


def tidy(text: str) -> str:
    """The text of a block without soft hyphens, control characters and white space around its lines."""
    text = _UNSEEN.sub("", without_controls(text.replace("\r", "\n")))
    return "\n".join(line for raw in text.split("\n") if (line := _BLANKS.sub(" ", raw).strip()))
