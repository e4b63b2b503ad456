"""Checks of generated text for all that is not prose: assistant talk, lists, mark-up, lines of a few words.

They read the text alone, without a model, in about 4 ms for a chunk. Loops are left to the gate, which
sees tokens. Limits and rates: docs/lab/prose-checks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from templora_cli.novel import letters, marks, shape, talk
from templora_cli.novel.marks import Match
from templora_cli.novel.passage import Passage

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
    "capitals",
    "sameness",
    "run-on",
    "spacing",
    "after the end",
]
"""Kinds of faults. "lines" is a fall into one-line paragraphs, "names" a list of names or single words,
"capitals" words with capitals that need none, "spacing" text without spaces between words or sentences,
"sameness" sentences that begin alike, "run-on" a sentence without end, "after the end" a story that begins
after "The End"."""


@dataclass(frozen=True)
class Fault:
    """A fault in a new text, and the place to cut the text before it."""

    kind: Kind
    reason: str
    """In plain words, with an excerpt: "the model talks about the text instead of telling the story: “…”"."""
    start: int
    """The offset in the new text where the faulty paragraph begins; 0 if the text begins with it.

    `text[:start]` is good prose up to the end of a paragraph.
    """


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
    `headings` allows chapter headings without mark-up ("Chapter 5", a line in capitals); `check_end` looks
    for text after "The End".
    """
    passage = Passage.of(text, before, headings=headings)
    faults = [
        Fault(kind, f"{reason}: {passage.excerpt(start)}", _cut(passage, kind, start))
        for kind, (start, reason) in _first_matches(passage, scripts, headings=headings, check_end=check_end)
    ]
    return min(faults, key=lambda fault: fault.start, default=None)


def _cut(passage: Passage, kind: Kind, start: int) -> int:
    """The offset in the new text to cut at; "The End" is not cut off with what follows it."""
    return max(0, start - passage.offset) if kind == "after the end" else passage.cut_before(start)


_DETECTORS: dict[Kind, Callable[[Passage], Iterator[Match]]] = {
    "thoughts": marks.thoughts,
    "assistant": talk.assistant_talk,
    "note": talk.notes,
    "markup": marks.markup,
    "list": marks.lists,
    "characters": letters.repeated_characters,
    "lines": shape.one_line_paragraphs,
    "names": shape.names,
    "spacing": letters.missing_spaces,
    "capitals": shape.capitals,
    "sameness": shape.same_beginnings,
    "run-on": shape.endless_sentences,
}
"""Detectors that need no more than the passage. Of two faults in one paragraph, the first here is named."""


def _first_matches(
    passage: Passage, scripts: Collection[str] | None, *, headings: bool, check_end: bool
) -> Iterator[tuple[Kind, tuple[int, str]]]:
    """The first match of each kind that reaches into the new text."""
    found: list[tuple[Kind, Iterator[Match]]] = [
        ("script", letters.foreign_scripts(passage, scripts)),
        *((kind, find(passage)) for kind, find in _DETECTORS.items()),
    ]
    if not headings:
        found.append(("heading", marks.headings(passage)))
    if check_end:
        found.append(("after the end", marks.after_end(passage)))
    for kind, matches in found:
        new = [(start, reason) for start, end, reason in matches if end > passage.offset]
        if new:
            yield kind, min(new)
