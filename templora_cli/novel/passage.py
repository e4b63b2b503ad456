"""A generated text with the end of the text before it: its paragraphs, and its narration without dialogue."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from templora_cli.novel.sentence_end import may_end_paragraph

MAX_BEFORE = 8_000
"""Characters before the text that are read."""
MAX_LEAD = 1_000
"""Characters before the text in which a fault may begin, rounded up to a paragraph."""
EXCERPT = 48
"""The maximum number of characters of an excerpt in a message."""

MIN_LINE_ENDS = 6
"""Line ends that show whether the lines of a text are wrapped."""
MAX_HEADINGS = 8
"""Headings in a chunk: a title page, or the end of a part and the beginning of the next."""

_DASH_SPEECH = re.compile(r"(?:[—–―][ \t]*|-[ \t]+)(?=[^\W\d_]|[¿¡])(?s:.)+")
"""A paragraph of dialogue that begins with a dash. Its narration cannot be told from its dialogue."""
_HEADING = re.compile(r"(?m)^(?=[^\n]{0,80}$)[^\na-zà-ÿ]*[A-ZÀ-Þ]{2}[^\na-zà-ÿ]*$")
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_LINE_END = re.compile(r"\n\s*")
_WRAPPED_LINE = re.compile(r"(?m)^[^\n]{50,90}(?=\n[^\s])")
_SINGLE_LINE_END = re.compile(r"\n(?=[^\s])(?<=\S\n)")
_QUOTED = re.compile(
    r"“[^”]*(?:”|\Z)|„[^“”]*(?:[“”]|\Z)|«[^»]*(?:»|\Z)|»[^«]*(?:«|\Z)|「[^」]*(?:」|\Z)|『[^』]*(?:』|\Z)"
    r"|\"[^\"]*(?:\"|\Z)|[‘'](?<!\w[‘'])(?=\w)[^\n]*?(?:[,.!?…—-][’'](?!\w)|\Z)"
)
_NOT_SPACE = re.compile(r"\S")


class Span(NamedTuple):
    """A paragraph: `text[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True)
class Passage:
    """The new text and its lead: the last paragraphs before it, in which a fault may begin."""

    before: str
    """The text before the lead and the new text, at most `MAX_BEFORE` characters."""
    text: str
    """The lead and the new text."""
    offset: int
    """Where the new text begins in `text`."""
    is_wrapped: bool = False
    """Are the lines of a paragraph broken at a fixed width, with blank lines between paragraphs?"""

    @classmethod
    def of(cls, text: str, before: str, *, headings: bool = False) -> Passage:
        """The passage of the new `text` after `before`; `headings` blanks a few lines in capitals."""
        before = before[-MAX_BEFORE:]
        if headings:
            text = _without_headings(text)
        is_wrapped = _is_wrapped(text, before)
        starts = [span.start for span in _spans(before, is_wrapped)]
        recent = [start for start in starts if start >= len(before) - MAX_LEAD]
        lead = min([*recent, starts[-1]]) if starts else 0
        return cls(before[:lead], before[lead:] + text, len(before) - lead, is_wrapped)

    @cached_property
    def paragraphs(self) -> list[Span]:
        """The paragraphs of `text`, without the white space between them."""
        return _spans(self.text, self.is_wrapped)

    @cached_property
    def paragraphs_before(self) -> list[str]:
        """The paragraphs of `before`."""
        return [self.before[start:end] for start, end in _spans(self.before, self.is_wrapped)]

    @cached_property
    def narration(self) -> str:
        """`text` with a `"` in the place of each character of dialogue.

        Line ends inside of paragraphs are spaces. Offsets are those of `text`.
        """
        parts, end = [], 0
        for span in self.paragraphs:
            parts.append(self.text[end : span.start])
            paragraph = self.text[span.start : span.end].replace("\n", " ")
            quoted = _DASH_SPEECH if _DASH_SPEECH.match(paragraph) else _QUOTED
            parts.append(quoted.sub(lambda match: '"' * len(match[0]), paragraph))
            end = span.end
        return "".join(parts) + self.text[end:]

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines of `text` that are not blank, with their offsets."""
        start = 0
        for line in self.text.splitlines(keepends=True):
            if stripped := line.strip():
                yield start + line.index(stripped[0]), stripped
            start += len(line)

    def paragraph_at(self, position: int) -> int:
        """The index of the paragraph at `position` in `text`."""
        return max(0, bisect_right(self.paragraphs, (position, len(self.text))) - 1)

    def cut_before(self, position: int) -> int:
        """The offset in the new text where it is cut if a fault is at `position` in `text`.

        That is the start of the paragraph with the fault, or of the earliest of the paragraphs before it that
        do not end as a paragraph does: a list after "Here are some tips:", a rule before a heading.
        """
        index = self.paragraph_at(position)
        while index and not may_end_paragraph(self._paragraph(index - 1)):
            index -= 1
        start = self.paragraphs[index].start if self.paragraphs and index else 0
        return max(0, start - self.offset)

    def excerpt(self, start: int) -> str:
        """The text at `start`, in quotation marks, for a message."""
        found = " ".join(self.text[start : start + 2 * EXCERPT].split())
        found = "".join(char if char.isprintable() else "\ufffd" for char in found)
        return f"“{found[:EXCERPT].rstrip()}…”" if len(found) > EXCERPT else f"“{found}”"

    def _paragraph(self, index: int) -> str:
        return self.text[self.paragraphs[index].start : self.paragraphs[index].end]


def _without_headings(text: str) -> str:
    """`text` with spaces in the place of lines in capitals; unchanged if they are many."""
    if len(_HEADING.findall(text)) > MAX_HEADINGS:
        return text
    return _HEADING.sub(lambda match: " " * len(match[0]), text)


def _is_wrapped(text: str, before: str) -> bool:
    """Are the lines of `text` wrapped? If it has too few to tell, are those of the text before?

    Wrapped lines are as long as a line of a page, and mostly end inside a sentence.
    """
    ends = len(_SINGLE_LINE_END.findall(text))
    if ends < MIN_LINE_ENDS and before:
        return _is_wrapped(before[-2000:] + text, "")
    wrapped = sum(not may_end_paragraph(line) for line in _WRAPPED_LINE.findall(text))
    return wrapped >= MIN_LINE_ENDS // 2 and 2 * wrapped > ends


def _spans(text: str, is_wrapped: bool) -> list[Span]:
    spans, start = [], 0
    for match in (_BLANK_LINE if is_wrapped else _LINE_END).finditer(text):
        spans.append(Span(start, match.start()))
        start = match.end()
    spans.append(Span(start, len(text)))
    return [Span(start + _indent(text[start:end]), end) for start, end in spans if text[start:end].strip()]


def _indent(paragraph: str) -> int:
    match = _NOT_SPACE.search(paragraph)
    return match.start() if match else 0
