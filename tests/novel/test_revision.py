"""What a person changed in a book: kept, new, moved and deleted text."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.novel.revision import Revision, revise

BOOK = (
    "The rain fell on the harbour. He went home, “slowly”, and said nothing.\n\n"
    "She waited for him by the door all night.\n\n"
    "“No,” she said… “not tonight – never.” The dog barked. It was late, and nobody came.\n\n"
    "In the morning the boats were gone.\n"
)
PARAGRAPHS = BOOK.rstrip("\n").split("\n\n")


def new_texts(revision: Revision) -> list[str]:
    return [piece.text.strip() for piece in revision.pieces if piece.start is None and piece.text.strip()]


def figures(revision: Revision) -> tuple[int, int, int, int]:
    return revision.changed, revision.deleted, revision.moved, revision.kept


@pytest.mark.parametrize(
    "version",
    [
        BOOK,
        "\ufeff" + BOOK,
        BOOK.replace("\n\n", "\n"),
        BOOK.replace("\n\n", "\n\n\n\n"),
        "   " + BOOK.replace("\n\n", "\n\n   "),
        "\n\n".join(textwrap.fill(paragraph, 30) for paragraph in PARAGRAPHS),
        BOOK.replace("“", '"').replace("”", '"').replace("…", "...").replace("–", "--"),
        BOOK.replace("“", "«").replace("”", "»").replace("–", "—"),
        BOOK.replace("He went", "He\u00a0went"),
        BOOK.replace("In the morning", "## In the morning"),
    ],
)
def test_form_alone_is_no_change(version: str) -> None:
    revision = revise(BOOK, version)
    assert revision.text == BOOK and not revision.paragraphs
    assert [piece.start for piece in revision.pieces] == [0]


def test_only_what_differs_is_new() -> None:
    revision = revise(BOOK, BOOK.replace("The dog barked.", "The old dog barked twice."))
    assert revision.text == BOOK.replace("The dog barked.", "The old dog barked twice.")
    assert new_texts(revision) == ["old dog barked twice."]
    assert figures(revision) == (1, 0, 0, 3)


def test_new_words_keep_the_form_that_a_person_gave_them() -> None:
    revision = revise(BOOK, BOOK.replace("by the door all night", "by the door — “alone” — all night"))
    assert new_texts(revision) == ["— “alone” —"]


def test_paragraphs_are_added_deleted_and_moved() -> None:
    first, second, third, last = PARAGRAPHS
    revision = revise(BOOK, "\n\n".join([second, third, "Nobody was there.", first]))
    assert figures(revision) == (1, 1, 1, 2)
    assert revision.text.rstrip("\n").split("\n\n") == [second, third, "Nobody was there.", first]
    assert new_texts(revision) == ["Nobody was there."]
    moved = [piece for piece in revision.pieces if piece.is_moved]
    assert [piece.text.strip() for piece in moved] == [first]
    assert all(BOOK[p.start : p.start + len(p.text)] == p.text for p in moved if p.start is not None)
    assert last not in revision.text


def test_paragraphs_are_joined_and_divided() -> None:
    joined = BOOK.replace("night.\n\n“No", "night. “No")
    assert revise(BOOK, joined).text == joined and not new_texts(revise(BOOK, joined))
    divided = BOOK.replace("barked. It", "barked.\n\nIt")
    assert revise(BOOK, divided).text == divided and not new_texts(revise(BOOK, divided))


def test_chinese_is_compared_by_characters() -> None:
    book = "雨下在港口上。他慢慢地回家。\n\n她整夜在门口等他。\n"
    revision = revise(book, book.replace("慢慢地", "很快地"))
    assert new_texts(revision) == ["很快"] and figures(revision) == (1, 0, 0, 1)
    wrapped = book.replace("上。他", "上。\n他")
    assert revise(book, wrapped).text == book


def test_white_space_at_the_end_stays() -> None:
    assert revise("Five. Six.\n\n", "Five. Seven.").text == "Five. Seven.\n\n"
    assert revise("Five.\n\n", "Five.\n\nSix.\n").text == "Five.\n\nSix.\n\n"


def test_words_that_stayed_by_chance_count_as_new() -> None:
    revision = revise("A. The old man saw the sea again. B.", "A. Then a girl by the window laughed. B.")
    assert new_texts(revision) == ["Then a girl by the window laughed."]


WORDS = st.sampled_from(["rain", "sea", "the", "a", "“He", "said”", "dog,", "night.", "她", "雨。", "…", "—"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), max_size=8).map("\n\n".join)


def words_of(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff。]|[^\s\u4e00-\u9fff。]+", text)


@settings(max_examples=300)
@given(before=TEXTS, after=TEXTS)
def test_the_new_text_says_what_the_person_wrote(before: str, after: str) -> None:
    revision = revise(before, after)
    assert words_of(revision.text) == words_of(after)
    assert [words_of(line) for line in re.split(r"\n+", revision.text) if line.strip()] == [
        words_of(line) for line in after.split("\n\n") if line.strip()
    ]
    for piece in revision.pieces:
        assert piece.start is None or before[piece.start : piece.end] == piece.text
    again = revise(revision.text, after)
    assert not again.paragraphs and again.text == revision.text
