"""Finds the chapter headings of a manuscript without markup, by their words, numbers or capitals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from templora_cli.documents.front_matter import matter_of_title
from templora_cli.documents.manuscript_blocks import ManuscriptBlock
from templora_cli.documents.readers.headings import (
    is_chapter_heading,
    is_part_heading,
    is_unnumbered,
    is_untitled,
)
from templora_cli.text import have_words

PART_LEVEL, CHAPTER_LEVEL = 8, 9
"""Levels of headings that are found by their words: below all that markup can give."""
_MIN_HEADINGS = 2
_MAX_LINE_CHARS = 80
_MAX_CAPITALS_CHARS = 160
"""The same limit for a subtitle in capitals."""
_MIN_NUMBERED_WORDS, _MIN_CAPITALS_WORDS = 40, 100
"""Mean words of a section below headings of these kinds; below that they are a list, or lines that shout."""
_ROMAN = re.compile(r"(?=[MDCLXVI])M*(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})", re.IGNORECASE)
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_BARE_NUMBER = re.compile(r"[-–—*~\[(]?\s*(\d{1,3}|[IVXLC]{1,7})\s*[.)\]]?\s*[-–—*~]?")
_NUMBER_AND_TITLE = re.compile(r"(\d{1,3}|[IVXLC]{1,7})(?:[.:)]\s+|\s+[-–—]\s+)\S.{0,70}")
_SENTENCE_END = re.compile(r"[.!?,;:…。！？，；：][\"'”’»」』)]*$")
_THE_END = re.compile(r"(?:the end|finis|fin|ende|end of .*|конец|完|終|全文完)\W*", re.IGNORECASE)
_SMALL_WORDS = frozenset(
    (
        *("a", "an", "and", "as", "at", "but", "by", "for", "from", "in", "into", "is", "nor", "of", "on"),
        *("or", "the", "to", "with", "und", "der", "die", "das", "dem", "den", "im", "am", "von", "zu", "et"),
        *("la", "le", "les", "de", "du", "des", "un", "une", "en", "y", "el", "los", "las", "del"),
    )
)


def with_text_headings(blocks: Sequence[ManuscriptBlock]) -> list[ManuscriptBlock]:
    """`blocks` with paragraphs that read as chapter headings as headings.

    If the markup has two headings or more, only the titles below bare numbers ("Chapter 3") are found.
    """
    found = list(blocks)
    by_markup = [block for block in blocks if block.kind == "heading" and block.level > 0]
    if sum(not matter_of_title(block.text) for block in by_markup) < _MIN_HEADINGS:
        for index in _heading_indexes(blocks):
            level = PART_LEVEL if is_part_heading(blocks[index].text) else CHAPTER_LEVEL
            found[index] = blocks[index]._replace(kind="heading", level=level)
    return _with_subtitles(found)


def _heading_indexes(blocks: Sequence[ManuscriptBlock]) -> list[int]:
    """The indexes of the headings: by their words, else by bare numbers, numbers with titles, or capitals.

    A prologue may stand beside headings of each kind.
    """
    lines = [
        index
        for index, block in enumerate(blocks)
        if block.kind == "text"
        and not block.matter
        and _is_line(block)
        and not _THE_END.fullmatch(block.text)
    ]
    words = _with_lists(blocks, [index for index in lines if is_chapter_heading(blocks[index].text)])
    if not all(is_unnumbered(blocks[index].text) for index in words):
        return words
    alone = [index for index in lines if blocks[index].is_alone]
    kinds: tuple[tuple[list[int], int], ...] = (
        (_counting(blocks, alone, _bare_number), _MIN_NUMBERED_WORDS),
        (_counting(blocks, alone, _titled_number), _MIN_NUMBERED_WORDS),
        ([index for index in alone if _is_in_capitals(blocks[index].text)], _MIN_CAPITALS_WORDS),
    )
    for indexes, min_words in kinds:
        if len(indexes) >= _MIN_HEADINGS:
            texts = (block.text for block in blocks[indexes[0] :])
            if not have_words(texts, min_words * len(indexes)):
                continue
            return sorted({*words, *indexes})
    return words


def _with_lists(blocks: Sequence[ManuscriptBlock], indexes: Sequence[int]) -> list[int]:
    """The `indexes` and those of headings on the lines directly below: a table of contents."""
    found: list[int] = []
    for index in indexes:
        found.append(index)
        while (below := found[-1] + 1) < len(blocks) and not blocks[below].is_alone:
            if blocks[below].gap.count("\n") > 1 or not is_chapter_heading(blocks[below].text):
                break
            found.append(below)
    return found


def _is_line(block: ManuscriptBlock) -> bool:
    """Whether a block is one short line with nothing directly before it."""
    starts = block.is_alone or block.gap.count("\n") > 1
    return starts and "\n" not in block.text and len(block.text) <= _MAX_LINE_CHARS


def _counting(
    blocks: Sequence[ManuscriptBlock], lines: Sequence[int], number: Callable[[str], int | None]
) -> list[int]:
    """Those of the `lines` whose numbers count up from 1."""
    counted: list[int] = []
    for index in lines:
        if number(blocks[index].text) == len(counted) + 1:
            counted.append(index)
    return counted


def _bare_number(text: str) -> int | None:
    match = _BARE_NUMBER.fullmatch(text)
    return None if match is None else _value(match[1])


def _titled_number(text: str) -> int | None:
    match = _NUMBER_AND_TITLE.fullmatch(text)
    if match is None or (_SENTENCE_END.search(text) and not text.isupper()):
        return None
    return _value(match[1])


def _value(number: str) -> int | None:
    """The value of an Arabic or Roman number."""
    if number.isdigit():
        return int(number)
    if not _ROMAN.fullmatch(number):
        return None
    values = [_ROMAN_VALUES[digit] for digit in number.upper()]
    return sum(v if v >= max(values[i:]) else -v for i, v in enumerate(values))


def _is_in_capitals(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    return text.isupper() and letters >= 3 and not re.search(r"[!?,;…\"“”]", text)


def _with_subtitles(blocks: list[ManuscriptBlock]) -> list[ManuscriptBlock]:
    """`blocks` with the title on the line after a bare number ("Chapter 3", "3") as a heading too."""
    with_text = [index for index, block in enumerate(blocks) if block.text]
    for index, following, after in zip(with_text, with_text[1:], with_text[2:], strict=False):
        heading, block = blocks[index], blocks[following]
        if heading.kind != "heading" or block.kind != "text" or blocks[after].kind != "text":
            continue
        is_bare = is_untitled(heading.text) or _bare_number(heading.text) is not None
        if is_bare and heading.level and _is_title_line(block.text):
            blocks[following] = block._replace(kind="heading", level=heading.level)
    return blocks


def _is_title_line(text: str) -> bool:
    """Whether a line is in capitals, or each word but small ones has a capital and no sentence ends."""
    if "\n" in text or not any(map(str.isalpha, text)):
        return False
    if text.isupper():
        return len(text) <= _MAX_CAPITALS_CHARS and not re.search(r"[!?\"“”]", text)
    words = [word for word in re.findall(r"[^\W\d_][\w'’]*", text) if word.lower() not in _SMALL_WORDS]
    is_title = bool(words) and all(word[0].isupper() for word in words)
    return is_title and len(text) <= _MAX_LINE_CHARS and not _SENTENCE_END.search(text)
