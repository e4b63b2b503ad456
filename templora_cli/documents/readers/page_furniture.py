"""Removes what printed pages add to a plain text: form feeds, running headers, page numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from templora_cli.documents.readers.line_wrapping import (
    line_blocks,
    lines_of,
    may_end_paragraph,
    wrapped_width,
)

PAGE_NUMBERS, PAGE_HEADERS = "page numbers", "page headers"
_MIN_PAGES = 3
_PAGE_NUMBER = re.compile(
    r"(?:[-–—~*|]\s*)?(?:page|p\.|seite|pág\.?)?\s*(\d{1,4})(?:\s*[-–—~*|])?", re.IGNORECASE
)
_MARKED_NUMBER = re.compile(r"[-–—~|\[{(]|page|p\.|seite|pág", re.IGNORECASE)
_INLINE_NUMBER = re.compile(r"[ \t]?[\[{](?:Pg|Page|p\.|S\.)\s*\d{1,4}[\]}]")
"""The numbers of printed pages in the text of an old book: [Pg 12]."""


def without_pages(text: str) -> tuple[str, list[str]]:
    """`text` without the marks of pages, and the names of what was removed.

    A paragraph that goes on over the end of a page is joined.
    """
    removed = []
    is_wrapped = wrapped_width(list(line_blocks(lines_of(text)))) is not None
    if "\f" in text:
        text, names = _without_form_feeds(text, is_wrapped)
        removed += names
    text, count = _INLINE_NUMBER.subn("", text)
    numbers = _page_number_lines(text.split("\n"))
    if numbers:
        text = _without_lines(text.split("\n"), numbers, is_wrapped)
    if (count or numbers) and PAGE_NUMBERS not in removed:
        removed.append(PAGE_NUMBERS)
    return text, removed


def _without_form_feeds(text: str, is_wrapped: bool) -> tuple[str, list[str]]:
    pages = [page.strip("\n").split("\n") for page in text.split("\f")]
    ends = Counter(key for page in pages for key in {_key(page[0]), _key(page[-1])})
    names: dict[str, None] = {}
    needed = max(_MIN_PAGES, len(pages) // 3)  # left and right pages may have headers of their own
    for page in pages:
        for at in (0, 0, -1, -1):
            while page and not page[at].strip():
                del page[at]
            if page and ends[_key(page[at])] >= needed:
                names[PAGE_NUMBERS if _PAGE_NUMBER.fullmatch(page[at].strip()) else PAGE_HEADERS] = None
                del page[at]
    joined: list[str] = []
    for page in pages:
        body = "\n".join(page).strip("\n")
        if body.strip():
            joined += [_joint(joined[-1], body, is_wrapped), body] if joined else [body]
    ending = text[len(text.rstrip()) :].replace("\f", "")
    return "".join(joined).rstrip() + ending, list(names)


def _key(line: str) -> str:
    """A key that is equal for lines that differ in their numbers."""
    key = re.sub(r"\d+", "#", " ".join(line.split()).casefold())
    return key if key else "(blank)" + line


def _joint(before: str, after: str, is_wrapped: bool) -> str:
    """The white space between two pages: a paragraph break, unless a sentence goes on."""
    if _goes_on(before, after):
        return "\n" if is_wrapped else " "
    return "\n\n"


def _goes_on(before: str, after: str) -> bool:
    """Whether a sentence goes on from one text to another."""
    first = after.lstrip()[:1]
    return bool(before.strip()) and not may_end_paragraph(before) and (first.islower() or first in "“\"'‘I(")


def _page_number_lines(lines: Sequence[str]) -> list[int]:
    """The indexes of lines with page numbers: they count up, and one of them is inside a sentence or marked.

    Numbers that only stand between paragraphs may be those of chapters.
    """
    numbers: dict[int, tuple[int, int]] = {}  # the last number of a chain: its line, and the length so far
    previous: dict[int, int] = {}
    best: tuple[int, int] = (0, -1)  # length, line
    for index, line in enumerate(lines):
        match = _PAGE_NUMBER.fullmatch(line.strip())
        if match is None:
            continue
        number = int(match[1])
        before = numbers.get(number - 1)
        if before is not None:
            previous[index] = before[0]
        length = 1 + (before[1] if before is not None else 0)
        numbers[number] = (index, length)
        best = max(best, (length, index))
    chain = [best[1]]
    while chain[-1] in previous:
        chain.append(previous[chain[-1]])
    if len(chain) < _MIN_PAGES:
        return []
    are_marked = all(_MARKED_NUMBER.search(lines[index]) for index in chain)
    return sorted(chain) if are_marked or any(_is_inside_sentence(lines, i) for i in chain) else []


def _is_inside_sentence(lines: Sequence[str], index: int) -> bool:
    before = next((line for line in reversed(lines[max(0, index - 4) : index]) if line.strip()), "")
    after = next((line for line in lines[index + 1 : index + 5] if line.strip()), "")
    return bool(before.strip()) and not may_end_paragraph(before) and after.lstrip()[:1].islower()


def _without_lines(lines: list[str], numbers: Sequence[int], is_wrapped: bool) -> str:
    """The text without the lines of page numbers and the blank lines around them."""
    pieces: list[str] = []
    start = 0
    for number in [*numbers, len(lines)]:
        body = "\n".join(lines[start:number])
        stripped = body.strip("\n")
        if pieces and stripped:
            pieces.append(_joint(pieces[-1], stripped, is_wrapped))
        if stripped:
            pieces.append(stripped)
        start = number + 1
    text = "".join(pieces)
    return text + ("\n" if lines and not lines[-1].strip() else "")
