"""Divides the blocks of a manuscript into chapters, and leaves out what is not the text of the book."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from templora_cli.documents.front_matter import (
    MAX_MATTER_WORDS,
    matter_of_title,
    states_rights,
    title_on_page,
    title_page_length,
)
from templora_cli.documents.manuscript_blocks import (
    SCENE_BREAK,
    ManuscriptBlock,
    ManuscriptSource,
    counted,
    joined_title,
)
from templora_cli.documents.readers.headings import (
    is_chapter_heading,
    is_part_heading,
    is_unnumbered,
    is_untitled,
)
from templora_cli.documents.text_headings import with_text_headings
from templora_cli.text import count_words, have_words

_MAX_BLANK_SHARE = 0.25
"""If more of the paragraphs have an empty one before them, these are no scene breaks."""
_MIN_LISTED = 3
"""The least headings without text between them that are a table of contents, if they come again."""
_NOTE = re.compile(r"\[(?:Footnote\s+)?(\d{1,3}|[A-Z*†])(?:\]|:)\s*\S")
_PAGE_OF_ENTRY = re.compile(r"[\s.…·_]+\d{1,4}$")
"""The page number of an entry in a table of contents."""
_MAX_ENTRY_WORDS = 20
_MIN_PROSE_WORDS = 60
"""With fewer words after its entries, a table of contents is left out to the next heading."""
_MARKS = " *#=-_~【】[]"


@dataclass
class Section:
    """A chapter to be: its headings, and the blocks below them."""

    headings: list[ManuscriptBlock] = field(default_factory=list)
    body: list[ManuscriptBlock] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The title of the chapter, without that of the part that begins with it."""
        titles = [block.text.strip(_MARKS) or block.text for block in self.headings]
        own = [title for title in titles if not is_part_heading(title)]
        return joined_title(own or titles)

    @property
    def first(self) -> ManuscriptBlock:
        """The first block; the section must have one."""
        return (self.headings or self.body)[0]

    @property
    def last(self) -> ManuscriptBlock:
        """The last block; the section must have one."""
        return (self.body or self.headings)[-1]

    @property
    def texts(self) -> list[str]:
        """The texts of its paragraphs."""
        return [block.text for block in self.body if block.kind != "break"]

    @property
    def has_text(self) -> bool:
        """Whether it has a paragraph."""
        return any(block.kind != "break" for block in self.body)


@dataclass
class Division:
    """The sections of a manuscript, its title, and the names of what was left out."""

    title: str
    sections: list[Section]
    left_out: list[str]


def divided(source: ManuscriptSource) -> Division:
    """The sections of a manuscript."""
    names = dict.fromkeys(source.left_out)
    names.update(dict.fromkeys(block.matter for block in source.blocks if block.matter))
    blocks, notes = _without_notes([block for block in source.blocks if not block.matter])
    if notes:
        names[counted(notes, "note")] = None
    blocks = _with_breaks(with_text_headings(blocks), keep_all=source.is_verbatim)
    listed = _listed_headings(blocks)
    if listed:
        names["contents"] = None
    blocks = [block for index, block in enumerate(blocks) if index not in listed]
    title, blocks = _without_title(blocks)
    sections, matters, page_title = _without_matter(_sections(blocks), title or source.title)
    names.update(dict.fromkeys(matters))
    if not source.is_verbatim and source.blocks[-1:] and source.blocks[-1].matter:
        _strip_last_break(sections)
    return Division(title or source.title or page_title, sections, _without_repeats([*names]))


def _strip_last_break(sections: Sequence[Section]) -> None:
    """Remove the line that divides the text from notes below it."""
    if sections and sections[-1].body and sections[-1].body[-1].kind == "break":
        sections[-1].body.pop()


def _without_repeats(names: Sequence[str]) -> list[str]:
    """The `names` without "notes" where their number is said too."""
    counts = {name.partition(" ")[2] for name in names if name[:1].isdigit()}
    return [name for name in names if name and not {name, name.removesuffix("s")} & counts]


def _without_notes(blocks: list[ManuscriptBlock]) -> tuple[list[ManuscriptBlock], int]:
    """`blocks` without "[1]" in the text where a paragraph "[1] ..." is the note, and without these."""
    notes: dict[str, set[int]] = {}
    for index, block in enumerate(blocks):
        if match := _NOTE.match(block.text):
            notes.setdefault(match[1], set()).add(index)
    if not notes:
        return blocks, 0
    pattern = re.compile(rf"(?<=\S)\[(?:{'|'.join(map(re.escape, notes))})\]")
    marks = Counter(mark[1:-1] for block in blocks for mark in pattern.findall(block.text))
    removed = set().union(*(indexes for number, indexes in notes.items() if marks[number]))
    if not removed:
        return blocks, 0
    remaining = [
        block._replace(text=pattern.sub(lambda m: "" if marks[m[0][1:-1]] else m[0], block.text))
        for index, block in enumerate(blocks)
        if index not in removed
    ]
    return remaining, len(removed)


def _with_breaks(blocks: list[ManuscriptBlock], *, keep_all: bool) -> list[ManuscriptBlock]:
    """`blocks` without empty ones: some are scene breaks. Those next to a heading go, unless `keep_all`."""
    solid = [block for block in blocks if block.kind != "blank"]
    pairs = sum(a.kind == b.kind == "text" for a, b in pairwise(solid))
    empty = [index for index in range(1, len(blocks) - 1) if _is_between_texts(blocks, index)]
    are_breaks = 0 < len(empty) <= _MAX_BLANK_SHARE * pairs
    breaks = set(empty) if are_breaks else set()
    resolved = [
        ManuscriptBlock(SCENE_BREAK, "break") if index in breaks else block
        for index, block in enumerate(blocks)
        if block.kind != "blank" or index in breaks
    ]
    if keep_all:
        return resolved
    kinds = ["heading", *(block.kind for block in resolved), ""]
    return [
        block
        for index, block in enumerate(resolved)
        if block.kind != "break" or not {"heading", "break"} & {kinds[index], kinds[index + 2]} - {"break"}
    ]


def _is_between_texts(blocks: Sequence[ManuscriptBlock], index: int) -> bool:
    """Whether an empty block is the first of those between two paragraphs."""
    if blocks[index].kind != "blank" or blocks[index - 1].kind != "text":
        return False
    following = next((block.kind for block in blocks[index:] if block.kind != "blank"), "")
    return following == "text"


def _listed_headings(blocks: Sequence[ManuscriptBlock]) -> set[int]:
    """The indexes of headings that only list those that come later: a table of contents."""
    last: dict[str, int] = {}
    for index, block in enumerate(blocks):
        if block.kind == "heading":
            last[_key(block.text)] = index
            if _is_heading(blocks, index - 1):  # an entry has number and title on one line
                last[_key(blocks[index - 1].text + block.text)] = index
    listed: set[int] = set()
    run: list[int] = []
    for index, block in enumerate([*blocks, ManuscriptBlock("")]):
        if block.kind == "heading":
            run.append(index)
        elif block.kind != "break":
            repeated = [
                i
                for i in run
                for text in (blocks[i].text, _PAGE_OF_ENTRY.sub("", blocks[i].text))
                if last.get(_key(text), 0) > i
            ]
            listed.update(repeated if len(set(repeated)) >= _MIN_LISTED else ())
            run = []
    return listed


def _without_title(blocks: list[ManuscriptBlock]) -> tuple[str, list[ManuscriptBlock]]:
    """The title of the work, if the first heading is that, and the other blocks."""
    headings = [index for index, block in enumerate(blocks) if block.kind == "heading"]
    if not headings:
        return "", blocks
    first = blocks[headings[0]]
    levels = Counter(blocks[index].level for index in headings)
    is_highest = first.level == min(levels) and levels[first.level] == 1
    is_title = first.level == 0 or (
        len(headings) > 1 and headings[0] == 0 and not is_chapter_heading(first.text)
    )
    if not (is_highest and is_title) or matter_of_title(first.text):
        return "", blocks
    return first.text, [block for index, block in enumerate(blocks) if index != headings[0]]


def _sections(blocks: Sequence[ManuscriptBlock]) -> list[Section]:
    """The blocks in sections. The first has no heading, and no blocks if the manuscript begins with one."""
    level = _chapter_level(blocks)
    sections = [Section()]
    for block in blocks:
        section = sections[-1]
        if block.kind != "heading":
            section.body.append(block)
        elif section.headings and not section.body and _continues(section.headings[-1], block):
            section.headings.append(block)
        elif block.level <= level or _is_numbered(block.text):
            sections.append(Section([block]))
        else:
            section.body.append(block._replace(kind="text"))
    return sections


def _continues(heading: ManuscriptBlock, block: ManuscriptBlock) -> bool:
    """Whether a heading directly after another is of the same chapter: part and chapter, number and title."""
    if matter_of_title(heading.text):
        return False
    if is_part_heading(heading.text) and _is_numbered(block.text):
        return True
    if block.level != heading.level:
        return block.level > heading.level
    is_number = is_untitled(heading.text) or not any(map(str.isalpha, heading.text.strip("IVXLC.")))
    return is_number and not is_chapter_heading(block.text) and not block.text[:1].isdigit()


def _is_numbered(text: str) -> bool:
    """Whether a heading is that of a chapter by its words, with a number: "Chapter 3"."""
    return is_chapter_heading(text) and not is_part_heading(text) and not is_unnumbered(text)


def _chapter_level(blocks: Sequence[ManuscriptBlock]) -> int:
    """The level of the headings that begin chapters: below that of parts, which have chapters below them."""
    headings = [index for index, block in enumerate(blocks) if block.kind == "heading"]
    counts = Counter(blocks[index].level for index in headings)
    for level in sorted(counts):
        own = [index for index in headings if blocks[index].level == level]
        deeper = sum(count for other, count in counts.items() if other > level)
        directly = sum(_is_heading_below(blocks, index) for index in own)
        are_parts = 2 * directly >= len(own) or all(is_part_heading(blocks[index].text) for index in own)
        if deeper < 2 or deeper < len(own) or (len(own) > 1 and not are_parts):
            return level
        if len(own) == 1 and is_chapter_heading(blocks[own[0]].text) and not are_parts:
            return level
    return max(counts, default=0)


def _is_heading_below(blocks: Sequence[ManuscriptBlock], index: int) -> bool:
    return _is_heading(blocks, index + 1) and blocks[index + 1].level > blocks[index].level


def _is_heading(blocks: Sequence[ManuscriptBlock], index: int) -> bool:
    return 0 <= index < len(blocks) and blocks[index].kind == "heading"


def _without_matter(sections: list[Section], title: str) -> tuple[list[Section], list[str], str]:
    """The sections that are the book's text, the names of the others, and the title on a title page.

    If nothing would be left, everything stays.
    """
    names: list[str] = []
    page_title = ""
    remaining: list[Section] = []
    has_chapters = any(section.headings and section.has_text for section in sections)
    for section in sections:
        matter = _matter_of(section)
        if matter:
            names.append(matter)
            section = Section([], section.body[_listed_lines(section.body) :] if matter == "contents" else [])
            if not have_words(section.texts, _MIN_PROSE_WORDS):
                continue
        length = 0 if section.headings else title_page_length(section.texts, title)
        if 0 < length < len(section.texts) or (length and has_chapters):
            names.append("title page")
            page_title = title_on_page(section.texts[:length])
            section = Section([], section.body[_index_of_text(section.body, length) :])
        if section.headings or section.body:
            remaining.append(section)
    if not any(section.has_text for section in remaining) and any(section.has_text for section in sections):
        return [section for section in sections if section.headings or section.body], [], ""
    return remaining, names, page_title


def _matter_of(section: Section) -> str:
    """The front or back matter that a section is; "" for prose."""
    matter = next((m for block in section.headings if (m := matter_of_title(block.text))), "")
    if matter and (matter == "contents" or not have_words(section.texts, MAX_MATTER_WORDS)):
        return matter
    if any(is_chapter_heading(block.text) for block in section.headings):
        return matter
    return "copyright" if states_rights(section.texts) else ""


def _listed_lines(body: Sequence[ManuscriptBlock]) -> int:
    """The number of blocks at the beginning of `body` that can be entries of a table of contents."""
    for index, block in enumerate(body):
        if count_words(block.text) > _MAX_ENTRY_WORDS:
            return index
    return len(body)


def _index_of_text(body: Sequence[ManuscriptBlock], count: int) -> int:
    """The index of the block after the first `count` paragraphs and the scene breaks after them."""
    index = 0
    while index < len(body) and (count > 0 or body[index].kind == "break"):
        count -= body[index].kind != "break"
        index += 1
    return index


def _key(text: str) -> str:
    """A key that is equal for headings that differ only in capitals and punctuation."""
    return "".join(filter(str.isalnum, text.casefold()))
