"""Checks of generated text for all that is not prose: assistant talk, lists, mark-up, notes, foreign scripts and
more.

They read the text alone, without a model, and take under 5 ms for a chunk. Loops are left to the gate, which
sees tokens. Limits and rates: docs/lab/prose-checks.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "assistant",
    "list",
    "heading",
    "markup",
    "note",
    "thoughts",
    "script",
    "characters",
    "lines",
    "names",
    "spacing",
    "after the end",
]
"""Kinds of faults. "lines" is a fall into one-line paragraphs, "names" a list of names or single words,
"spacing" text without spaces between words or sentences, "after the end" a story that begins after "The End"."""


@dataclass(frozen=True)
class Fault:
    """A fault in a new text, and the place to cut the text before it."""

    kind: Kind
    reason: str
    """In plain words, with an excerpt: "the model talks about the text instead of telling the story: “…”"."""
    start: int
    """The offset in the new text where the faulty paragraph begins. `text[:start]` is good prose up to the end
    of a paragraph; 0 if the fault is in the paragraph with which the text begins."""


def first_fault(
    text: str,
    before: str = "",
    *,
    scripts: Collection[str] | None = None,
    headings: bool = False,
    check_end: bool = True,
) -> Fault | None:
    """The first fault in the generated `text` that follows `before`; None if it is prose.

    `text` may begin and end inside a sentence. Of `before`, the last 8,000 characters are read: how long the
    book's paragraphs are, and whether a quotation or "The End" comes before `text`. `scripts` are the scripts
    (ISO 15924, see `templora_cli.scripts`) of the book's language and ledger; None takes those of `before`.
    `headings` allows chapter headings without mark-up ("Chapter 5"); `check_end` looks for text after "The End".
    """
    return None
