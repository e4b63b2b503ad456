"""Which headings of a plan are its title, its parts and its chapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from templora_cli.documents.readers.headings import is_chapter_heading
from templora_cli.errors import TemploraError
from templora_cli.novel.plan_headings import is_ellipsis, names_chapter, names_part, split_number
from templora_cli.novel.plan_markdown import Block, error_at, plain_text

HOW_TO_WRITE = (
    "write a heading for each chapter, such as ## The Storm, and below it a few lines on what happens"
)
NO_ELLIPSIS = "write a heading for each chapter; chapters can also be added later"


@dataclass
class Section:
    """A chapter: its heading, its lines of text, and the title of its part."""

    heading: Block
    part: str | None = None
    text: list[Block] = field(default_factory=list)


def outline(blocks: Sequence[Block]) -> tuple[str, list[Block], list[Section]]:
    """The title ("" without one), the text before the first chapter, and the chapters.

    Headings of one level are chapters. Of two levels the upper ones are parts, unless they are called
    chapters; then the lower ones are text. Raises TemploraError.
    """
    sections, before = _sections(blocks)
    if not sections:
        raise _no_headings(blocks)
    title = ""
    if _begins_with_title(sections):
        title = _text_of(sections[0].heading)
        before += sections.pop(0).text
        if not sections:
            raise error_at(
                blocks[0].line,
                f'the only heading, "{title}", is the title: chapters are missing',
                HOW_TO_WRITE,
            )
    for section in sections:
        _check(section)
    return title, before, _chapters(sections)


def _sections(blocks: Sequence[Block]) -> tuple[list[Section], list[Block]]:
    """A section for each heading, and the text before the first."""
    sections: list[Section] = []
    before: list[Block] = []
    for block in blocks:
        if block.level:
            sections.append(Section(block))
        else:
            (sections[-1].text if sections else before).append(block)
    return sections, before


def _no_headings(blocks: Sequence[Block]) -> TemploraError:
    for block in blocks:
        if is_chapter_heading(text := plain_text(block.raw)):
            return error_at(
                block.line, f'"{text}" is not a heading, and the plan has none', f"write it as: ## {text}"
            )
    return TemploraError("the plan has no headings, so it has no chapters", HOW_TO_WRITE)


def _begins_with_title(sections: Sequence[Section]) -> bool:
    """Is the first heading the title of the book?"""
    first, *others = sections
    if first.heading.level != 1:
        return False
    if not others:
        return not names_chapter(first.heading.raw)
    if all(other.heading.level > 1 for other in others):
        return True
    # Word processors export the title as a heading like those of the chapters.
    is_named = first.text or split_number(first.heading.raw)[1] or is_chapter_heading(_text_of(first.heading))
    return not is_named and all(
        other.heading.level > 1
        or split_number(other.heading.raw)[1]
        or is_chapter_heading(_text_of(other.heading))
        for other in others
    )


def _check(section: Section) -> None:
    """Raise TemploraError for an empty heading, and for an ellipsis in place of chapters."""
    heading = section.heading
    if not _text_of(heading):
        raise error_at(heading.line, "this heading is empty", "write the title or the number of a chapter")
    for block in (heading, *section.text):
        if is_ellipsis(block.raw, is_heading=block.level > 0):
            text = plain_text(block.raw)
            raise error_at(
                block.line, f'"{text}" is in place of chapters; each must be written out', NO_ELLIPSIS
            )


def _chapters(sections: Sequence[Section]) -> list[Section]:
    """The chapters with their parts and text. Raises TemploraError."""
    following = [section.heading.level for section in sections[1:]]
    is_parent = [
        below > section.heading.level for section, below in zip(sections, [*following, 0], strict=True)
    ]
    level = _chapter_level(sections, is_parent)
    chapters: list[Section] = []
    part = None
    for section, has_children in zip(sections, is_parent, strict=True):
        heading = section.heading
        if heading.level > level:  # such as a scene
            if not chapters:
                raise error_at(heading.line, f'"{_text_of(heading)}" is below no chapter', HOW_TO_WRITE)
            chapters[-1].text += [Block(heading.raw, heading.line), *section.text]
        elif heading.level == level:
            chapters.append(Section(heading, part, section.text))
        elif has_children:
            _check_part(section)
            part = _text_of(heading)
        else:  # such as a prologue
            if names_part(heading.raw):
                raise error_at(
                    heading.line, f'"{_text_of(heading)}" has no chapters', "add one below it, or remove it"
                )
            part = None
            chapters.append(Section(heading, None, section.text))
    return chapters


def _chapter_level(sections: Sequence[Section], is_parent: Sequence[bool]) -> int:
    """The level of chapters: the only one, the second of two, or that of a "Chapter 1" with some below."""
    levels = sorted({section.heading.level for section in sections})
    level = min(
        (
            section.heading.level
            for section, has_children in zip(sections, is_parent, strict=True)
            if has_children and names_chapter(section.heading.raw)
        ),
        default=levels[-1],
    )
    if sum(other <= level for other in levels) > 2:
        heading = next(section.heading for section in sections if section.heading.level == level)
        raise error_at(
            heading.line,
            f'"{_text_of(heading)}" is a heading of a third level; a plan has parts and chapters',
            "write what is below a chapter as text or as a list",
        )
    return level


def _check_part(section: Section) -> None:
    """Raise TemploraError if a part has text of its own."""
    if section.text:
        raise error_at(
            section.text[0].line,
            f'"{_text_of(section.heading)}" has chapters below it and text of its own',
            "move the text to a chapter; if it is a chapter, write the headings below it as a list",
        )


def _text_of(heading: Block) -> str:
    return plain_text(heading.raw)
