"""Chapters of paragraphs, and the direction of a language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.document import (
    ChapterStart,
    ReadParagraph,
    chapter_level,
    chapter_starts,
    is_right_to_left,
    split_into_chapters,
)


def heading(text: str, level: int) -> ReadParagraph:
    return ReadParagraph(text, "heading", level)


TEXT = ReadParagraph("Words.", "text")


def test_chapters_begin_at_the_highest_level_that_occurs_twice() -> None:
    read = [heading("Book", 1), heading("One", 2), TEXT, heading("Scene", 3), TEXT, heading("<1>Two</1>", 2)]
    assert chapter_level(read) == 2
    assert chapter_starts(read) == [ChapterStart(0, "Book"), ChapterStart(1, "One"), ChapterStart(5, "Two")]


def test_without_a_level_that_occurs_twice_the_highest_counts() -> None:
    assert chapter_level([heading("Part", 2), TEXT, heading("Scene", 3)]) == 2
    assert chapter_level([TEXT]) == 0


def test_text_before_the_first_heading_is_a_chapter_and_metadata_is_not() -> None:
    title = ReadParagraph("A Book", "metadata")
    assert chapter_starts([title, TEXT, heading("One", 1)]) == [ChapterStart(0, ""), ChapterStart(2, "One")]
    assert chapter_starts([title, heading("One", 1), TEXT]) == [ChapterStart(1, "One")]
    assert chapter_starts([TEXT]) == [ChapterStart(0, "")]


KINDS = st.sampled_from(["text", "heading", "caption", "metadata"])


@given(st.lists(st.builds(ReadParagraph, st.text(max_size=3), KINDS, st.integers(1, 3)), max_size=12))
def test_paragraphs_and_chapters_agree(read: list[ReadParagraph]) -> None:
    paragraphs, chapters = split_into_chapters(read, chapter_starts(read))
    assert [(p.text, p.kind) for p in paragraphs] == [(r.text, r.kind) for r in read]
    assert [index for index, c in enumerate(chapters) for _ in range(c.first, c.end)] == [
        p.chapter for p in paragraphs
    ]
    assert all(chapter.end > chapter.first for chapter in chapters)


@pytest.mark.parametrize(
    ("language", "expected"),
    [("ar-EG", True), ("uz-Arab", True), ("ckb", True), ("ks-Deva", False), ("en", False)],
)
def test_right_to_left_languages_are_recognised(language: str, expected: bool) -> None:
    assert is_right_to_left(language) == expected
