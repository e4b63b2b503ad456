"""Human openings are prepared so that the model can continue them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.manuscript import parse_manuscript
from templora_cli.novel.opening import OpeningChapter, headings_of, normalized_opening, opening_of


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("Mara walked slowly to the\n", "Mara walked slowly to the"),
        ("Mara walked slowly to the \n\n", "Mara walked slowly to the"),
        ("Mara walked slowly to the ", "Mara walked slowly to the"),
        ('"Wait,"\n', '"Wait,"'),
        ("He said:\n\n", "He said:"),
        ("It rained. ", "It rained."),
        ("It rained.", "It rained."),
        ("It rained.\n", "It rained.\n\n"),
        ("It rained.\n\n\n\n", "It rained.\n\n"),
        ("天黑了。\n", "天黑了。\n\n"),
        ("「はい」\n", "「はい」\n\n"),
        ("“But I—”\n", "“But I—”\n\n"),
        ("One.\n\nIt rained.\n", "One.\n\nIt rained.\n\n"),
        ("It was one.\nIt was two.\nIt rained.\n", "It was one.\nIt was two.\nIt rained.\n"),
        ("It was one.\nIt was two.\nIt rained.\n\n", "It was one.\nIt was two.\nIt rained.\n\n"),
        ("A line that is broken at\nsome width or other. It\nrained.\n", None),
        ("# Chapter Two\n", "# Chapter Two\n\n"),
        ("Chapter Two\n\n", "Chapter Two\n\n"),
        ("THE SECOND DAY\n", "THE SECOND DAY\n\n"),
        ("It rained.\n\n* * *\n", "It rained.\n\n* * *\n\n"),
        ("\n \n  It rained", "  It rained"),
        (" \n\t\n", ""),
        ("", ""),
    ],
)
def test_an_opening_is_normalized(text: str, opening: str | None) -> None:
    assert normalized_opening(text) == (f"{text}\n" if opening is None else opening)


@given(st.text(st.sampled_from('ab.,"#* \n')))
def test_only_white_space_at_the_ends_is_changed(text: str) -> None:
    opening = normalized_opening(text)
    assert opening.strip() == text.strip()
    assert normalized_opening(opening) == opening
    assert not opening or opening.rstrip() == opening or opening.endswith("\n")


def test_chapters_are_those_of_the_normalized_text() -> None:
    opening = opening_of(parse_manuscript(b"\n\n  Rain fell.\n\nChapter 2\n\nIt was late. \n", ".txt", "a"))
    assert opening.text == "  Rain fell.\n\nChapter 2\n\nIt was late.\n\n" and opening.title == ""
    assert opening.chapters == (OpeningChapter("", 2, 2), OpeningChapter("Chapter 2", 14, 25))
    assert headings_of(opening.request["opening_chapters"]) == [(14, 25)]


def test_a_text_without_chapters_is_one_chapter_without_a_title() -> None:
    opening = opening_of("\n\nChapter 1\n\nIt rained.\n")
    assert opening.text == "Chapter 1\n\nIt rained.\n\n"
    assert opening.chapters == (OpeningChapter("", 0, 0),)
    assert headings_of(opening.request["opening_chapters"]) == []
