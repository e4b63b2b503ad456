"""What all formats share: chapters of paragraphs, and the direction of a language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.document import (
    Found,
    Start,
    chapter_level,
    chapter_starts,
    in_chapters,
    is_right_to_left,
)


def heading(text: str, level: int) -> Found:
    return Found(text, "heading", level)


TEXT = Found("Words.", "text")


def test_chapters_begin_at_the_highest_level_that_is_there_twice() -> None:
    found = [heading("Book", 1), heading("One", 2), TEXT, heading("Scene", 3), TEXT, heading("<1>Two</1>", 2)]
    assert chapter_level(found) == 2
    assert chapter_starts(found) == [Start(0, "Book"), Start(1, "One"), Start(5, "Two")]


def test_a_level_that_is_there_once_does_where_none_is_there_twice() -> None:
    assert chapter_level([heading("Part", 2), TEXT, heading("Scene", 3)]) == 2
    assert chapter_level([TEXT]) == 0


def test_what_comes_before_the_first_heading_is_a_chapter_unless_it_names_the_whole() -> None:
    title = Found("A Book", "metadata")
    assert chapter_starts([title, TEXT, heading("One", 1)]) == [Start(0, ""), Start(2, "One")]
    assert chapter_starts([title, heading("One", 1), TEXT]) == [Start(1, "One")]
    assert chapter_starts([TEXT]) == [Start(0, "")]


KINDS = st.sampled_from(["text", "heading", "caption", "metadata"])


@given(st.lists(st.builds(Found, st.text(max_size=3), KINDS, st.integers(1, 3)), max_size=12))
def test_every_paragraph_is_in_the_chapter_that_holds_it(found: list[Found]) -> None:
    paragraphs, chapters = in_chapters(found, chapter_starts(found))
    assert [(p.text, p.kind) for p in paragraphs] == [(f.text, f.kind) for f in found]
    assert [number for number, c in enumerate(chapters) for _ in range(c.first, c.end)] == [
        p.chapter for p in paragraphs
    ]
    assert all(chapter.end > chapter.first for chapter in chapters)


@pytest.mark.parametrize(
    ("language", "to_left"),
    [("ar-EG", True), ("uz-Arab", True), ("ckb", True), ("ks-Deva", False), ("en", False)],
)
def test_which_languages_run_to_the_left(language: str, to_left: bool) -> None:
    assert is_right_to_left(language) == to_left
