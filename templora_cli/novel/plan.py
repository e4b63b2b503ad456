"""The plan of a book: what each chapter is to do, in a Markdown file that people write and edit."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from templora_cli.errors import TemploraError
from templora_cli.novel import plan_headings as headings
from templora_cli.novel.plan_markdown import (
    Block,
    clean,
    error_at,
    escaped,
    escaped_fully,
    front_matter_value,
    plain_text,
    read_blocks,
    split_front_matter,
)
from templora_cli.novel.plan_outline import HOW_TO_WRITE, Section, outline

DEFAULT_WORDS = 1500
"""The length of a chapter whose plan has none."""
MAX_CHAPTERS = 500


@dataclass(frozen=True)
class PlannedChapter:
    """A chapter that the plan has. Its number follows from its position."""

    title: str
    """As the author wrote it, without numbering such as "Chapter 3:"; "" if the heading is only a number."""
    summary: str
    """What happens, a paragraph or list item per line; may be ""."""
    words: int | None
    """The length in words; None if the plan has none."""
    part: str | None
    """The title of the part that the chapter belongs to."""

    @property
    def digest(self) -> str:
        """A hash by which a changed chapter is recognised."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """The plan of a whole book. Texts are one line each, except for `premise`; "" where the plan has none."""

    title: str
    author: str
    language: str
    point_of_view: str
    tense: str
    style: str
    chapters: tuple[PlannedChapter, ...]
    premise: str = ""
    """The text between the title and the first chapter, a paragraph or list item per line."""


def read_plan(text: str) -> Plan:
    """Read a plan from its Markdown. Raises TemploraError with the line, the fault and what is expected.

    A number at the beginning of a heading is not part of the title: numbers follow from the order.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise TemploraError("the plan is empty", HOW_TO_WRITE)
    values, body = split_front_matter(text)
    title, premise, sections = outline(read_blocks(body))
    chapters = _chapters(sections)
    return Plan(
        title,
        values.get("author", ""),
        values.get("language", ""),
        values.get("point of view", ""),
        values.get("tense", ""),
        values.get("style", ""),
        tuple(chapters),
        "\n".join(_lines(premise)),
    )


def plan_in(file: Path, text: str) -> Plan:
    """The plan that is the `text` of a file. Raises TemploraError with the name of the file and the line."""
    try:
        return read_plan(text)
    except TemploraError as error:
        raise TemploraError(f"{file}, {error.message}", error.hint) from None


def _chapters(sections: Sequence[Section]) -> Iterator[PlannedChapter]:
    """The chapters of a plan. Raises TemploraError for two of one name, and for too many."""
    lines: dict[tuple[str, ...], int] = {}
    for section in sections:
        line = section.heading.line
        chapter = _chapter(section)
        name: tuple[str, ...] = (_folded(chapter.title),)
        if not chapter.title:
            name = ("number", str(section.part), _folded(section.heading.raw))
        if name in lines:
            label = chapter.title or plain_text(section.heading.raw)
            raise error_at(
                line,
                f'a chapter called "{label}" is in line {lines[name]} already',
                "give each chapter a name of its own, or a number of its own",
            )
        lines[name] = line
        if len(lines) > MAX_CHAPTERS:
            raise error_at(
                line, f"this is chapter {len(lines)}; a plan has at most {MAX_CHAPTERS}", "write two volumes"
            )
        yield chapter


def _chapter(section: Section) -> PlannedChapter:
    """The chapter of a section. Raises TemploraError for a length that is wrong or there twice."""
    raw, length = headings.split_length(section.heading.raw)
    lengths = [] if length is None else [(section.heading.line, length)]
    summary = []
    for block in section.text:
        if (length := headings.length_line(block.raw)) is not None:
            lengths.append((block.line, length))
        else:
            summary.append(block)
    words = [_words(line, length) for line, length in lengths]
    for (line, _), other in zip(lengths, words, strict=True):
        if other != words[0]:
            raise error_at(
                line, f"this chapter has a length of {words[0]:,} words already", "remove one of the two"
            )
    title = plain_text(headings.split_number(raw)[0])
    return PlannedChapter(title, "\n".join(_lines(summary)), words[0] if words else None, section.part)


def _words(line: int, length: headings.Length) -> int:
    if length.words is None:
        raise error_at(
            line,
            f'"{clean(length.text)}" is not a length: a number of words is expected',
            f"write it as in (1,800 words); if it belongs to the title: \\({clean(length.text)})",
        )
    if not headings.MIN_WORDS <= length.words <= headings.MAX_WORDS:
        limits = f"from {headings.MIN_WORDS} to {headings.MAX_WORDS:,} words"
        raise error_at(
            line,
            f"a length of {length.words:,} words; a chapter has {limits}",
            f"write for example ({DEFAULT_WORDS:,} words), or leave it out",
        )
    return length.words


def _lines(blocks: Sequence[Block]) -> Iterator[str]:
    return (line for block in blocks if (line := plain_text(block.raw)))


def _folded(text: str) -> str:
    """`text` for comparing names: without regard to capitals and to the encoding of accents."""
    return unicodedata.normalize("NFKC", text).casefold()


def same_text(text: str, other: str) -> bool:
    """Are two names or summaries the same, without regard to capitals and to the encoding of accents?"""
    return _folded(text) == _folded(other)


def plan_text(plan: Plan) -> str:
    """The plan as Markdown. `read_plan` reads the same plan from it."""
    front = {
        "author": plan.author,
        "language": plan.language,
        "point of view": plan.point_of_view,
        "tense": plan.tense,
        "style": plan.style,
    }
    lines = [f"{key}: {front_matter_value(value)}" for key, value in front.items() if value]
    blocks = ["\n".join(("---", *lines, "---"))] if lines else []
    if plan.title:
        blocks.append(f"# {_written(plan.title, _reads_as_title)}")
    blocks += _paragraphs(plan.premise)
    has_parts = any(chapter.part is not None for chapter in plan.chapters)
    part = None
    for number, chapter in enumerate(plan.chapters, 1):
        if chapter.part not in (None, part):
            blocks.append(f"## {_written(str(chapter.part), _reads_as_title)}")
        part = chapter.part
        marks = "###" if has_parts and part is not None else "##"
        blocks += [f"{marks} {_heading(chapter, number)}", *_paragraphs(chapter.summary)]
    return "\n\n".join(blocks) + "\n"


def _heading(chapter: PlannedChapter, number: int) -> str:
    """The heading of a chapter, which has a number only where the title needs one."""
    length = "" if chapter.words is None else f" ({chapter.words:,} words)"
    if not chapter.title:
        return f"Chapter {number}{length}"

    prefix = f"Chapter {number}: "
    forms = [chapter.title, escaped(chapter.title), escaped_fully(chapter.title)]
    for raw in (forms[0], prefix + forms[0], *forms[1:], *(prefix + form for form in forms[1:])):
        if _reads_as_chapter(raw + length, chapter):
            return raw + length
    raise ValueError(f"{chapter.title!r} cannot be a title")


def _paragraphs(text: str) -> Iterator[str]:
    return (_written(line, _reads_as_text) for line in text.split("\n") if line)


def _written(text: str, reads: Callable[[str, str], bool]) -> str:
    """`text` as Markdown that reads as itself, as plain as possible."""
    for raw in (text, escaped(text)):
        if reads(raw, text):
            return raw
    return escaped_fully(text)


def _reads_as_chapter(raw: str, chapter: PlannedChapter) -> bool:
    try:
        blocks = read_blocks(f"## {raw}")
    except TemploraError:
        return False
    if [block.level for block in blocks] != [2] or headings.names_part(raw):
        return False
    before, length = headings.split_length(blocks[0].raw)
    words = None if length is None else length.words
    title = plain_text(headings.split_number(before)[0])
    is_ellipsis = headings.is_ellipsis(raw, is_heading=True)
    return (title, words) == (chapter.title, chapter.words) and not is_ellipsis


def _reads_as_title(raw: str, text: str) -> bool:
    try:
        blocks = read_blocks(f"# {raw}")
    except TemploraError:
        return False
    ellipsis = headings.is_ellipsis(raw, is_heading=True)
    return [block.level for block in blocks] == [1] and plain_text(blocks[0].raw) == text and not ellipsis


def _reads_as_text(raw: str, text: str) -> bool:
    try:
        blocks = read_blocks(raw)
    except TemploraError:
        return False
    is_read = [(block.level, plain_text(block.raw)) for block in blocks] == [(0, text)]
    is_special = headings.length_line(raw) or headings.is_ellipsis(raw, is_heading=False)
    return is_read and not is_special and not raw.startswith("---")


def changes(old: Plan, new: Plan, written: int) -> list[str]:
    """The changes from one plan to another, one line each, for people.

    Raises TemploraError if one of the first `written` chapters was changed, moved or removed.
    """
    pairs = _same_chapters(old.chapters, new.chapters)
    _require_frozen(old.chapters[:written], new.chapters, pairs)
    lines = []
    for name in ("title", "author", "language", "point_of_view", "tense", "style", "premise"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            lines.append(f"{name.replace('_', ' ')}: {_quoted(before)} -> {_quoted(after)}")
    in_order = _longest_increasing([pairs[i] for i in sorted(pairs)])
    sources = {after: before for before, after in pairs.items()}
    for index, chapter in enumerate(new.chapters):
        label = f"chapter {index + 1}, {_name(chapter, index)}"
        if index not in sources:
            lines.append(f"added: {label}")
            continue
        before_index = sources[index]
        if index not in in_order:
            lines.append(f"moved: {label}, from {before_index + 1}")
        lines += [f"{label}: {change}" for change in _chapter_changes(old.chapters[before_index], chapter)]
    removed = [i for i in range(len(old.chapters)) if i not in pairs]
    lines += [f"removed: {_name(old.chapters[i], i)}, which was chapter {i + 1}" for i in removed]
    return lines


def _same_chapters(old: Sequence[PlannedChapter], new: Sequence[PlannedChapter]) -> dict[int, int]:
    """For the index of each chapter in `old` the index of the same one in `new`, where there is one.

    It is the one with the same title; else with the same summary; without title and summary, at the same
    position.
    """
    pairs: dict[int, int] = {}
    keys: tuple[Callable[[int, PlannedChapter], object], ...] = (
        lambda index, chapter: _folded(chapter.title) or None,
        lambda index, chapter: chapter.summary or None,
        lambda index, chapter: None if chapter.title else index,
    )
    for key in keys:
        free: dict[object, list[int]] = {}
        for index, chapter in enumerate(new):
            if index not in pairs.values():
                free.setdefault(key(index, chapter), []).append(index)
        for index, chapter in enumerate(old):
            value = key(index, chapter)
            if index not in pairs and value is not None and free.get(value):
                pairs[index] = free[value].pop(0)
    return pairs


def _require_frozen(
    written: Sequence[PlannedChapter], new: Sequence[PlannedChapter], pairs: dict[int, int]
) -> None:
    """Raise TemploraError if a written chapter is not the same chapter at the same position."""
    for index, chapter in enumerate(written):
        if index < len(new) and new[index] == chapter:
            continue
        after = pairs.get(index)
        fault = (
            "removed"
            if after is None
            else f"moved to position {after + 1}"
            if after != index
            else "; ".join(_chapter_changes(chapter, new[index]))
        )
        raise TemploraError(
            f"chapter {index + 1}, {_name(chapter, index)}, is written and cannot be changed: {fault}",
            "put it back as it was; chapters that are not written can be changed",
        )


def _chapter_changes(before: PlannedChapter, after: PlannedChapter) -> Iterator[str]:
    if before.title != after.title:
        yield f"title {_quoted(before.title)} -> {_quoted(after.title)}"
    if before.summary != after.summary:
        yield "what happens has changed"
    if before.words != after.words:
        yield f"length {_length(before)} -> {_length(after)}"
    if before.part != after.part:
        yield f"part {_quoted(before.part or '')} -> {_quoted(after.part or '')}"


def _length(chapter: PlannedChapter) -> str:
    return f"{chapter.words or DEFAULT_WORDS:,} words"


def _name(chapter: PlannedChapter, index: int) -> str:
    return f'"{chapter.title}"' if chapter.title else "without a title"


def _quoted(text: str) -> str:
    """A value for people, shortened."""
    first = text.split("\n")[0]
    shown = first if len(first) <= 60 and first == text else f"{first[:59]}…"
    return f'"{shown}"' if text else "none"


def _longest_increasing(values: Sequence[int]) -> set[int]:
    """A longest increasing subsequence of different numbers."""
    tails: list[int] = []
    previous: dict[int, int | None] = {}
    for value in values:
        position = bisect_left(tails, value)
        previous[value] = tails[position - 1] if position else None
        tails[position : position + 1] = [value]
    chain: set[int] = set()
    value_or_none = tails[-1] if tails else None
    while value_or_none is not None:
        chain.add(value_or_none)
        value_or_none = previous[value_or_none]
    return chain
