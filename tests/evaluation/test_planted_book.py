"""Books with planted facts: each fact once, distances, chapters, and what a window has."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.evaluation.planted_book import FACT_EVERY, PlantedBook, paragraphs_of, plant
from templora_cli.evaluation.planted_facts import GROUP, Group, groups_of_facts

SENTENCE = "The keeper went up the stairs and down again."


def encode(text: str) -> list[int]:
    """A token for each character."""
    return [ord(character) for character in text]


def decoded(tokens: tuple[int, ...]) -> str:
    return "".join(map(chr, tokens))


@cache
def groups() -> list[Group]:
    return list(groups_of_facts("0", SENTENCE))


def planted(
    sizes: list[int], *, asked: int = 2, distances: tuple[int, ...] = (300, 900), chapters: int = 3
) -> PlantedBook:
    """A book with paragraphs of so many sentences, over and over."""
    prose = [" ".join([SENTENCE] * size) for size in sizes] * 200
    return plant(
        prose, groups(), encode, name="book.txt", asked=asked, distances=distances, chapters=chapters
    )


BOOKS = st.builds(
    planted,
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    asked=st.integers(1, 5),
    distances=st.lists(st.integers(200, 2000), min_size=1, max_size=3, unique=True).map(tuple),
    chapters=st.integers(1, 5),
)


@settings(max_examples=15)
@given(BOOKS)
def test_every_fact_is_planted_once(book: PlantedBook) -> None:
    assert book.tokens == tuple(encode(book.text))
    for fact, index in book.facts:
        assert book.text.count(fact.answer) == book.text.count(fact.sentence) == 1
        assert book.paragraphs[index].endswith(f" {fact.sentence}")
    starts = [book.ends[index - 1] for _, index in book.facts]
    ends = [book.ends[index] for _, index in book.facts]
    assert all(start - end >= FACT_EVERY for start, end in zip(starts[1:], ends, strict=False))


@settings(max_examples=15)
@given(BOOKS)
def test_questions_come_at_their_distance_after_all_facts_of_their_group(book: PlantedBook) -> None:
    longest = max(end - start for start, end in zip((0, *book.ends), book.ends, strict=False)) + 13
    end_of = {fact.sentence: book.ends[index] for fact, index in book.facts}
    group_end: dict[int, int] = {}
    for question in book.questions:
        assert question.fact_end == end_of[question.fact.sentence]
        group_end[question.group] = max(group_end.get(question.group, 0), question.fact_end)
    for question in book.questions:
        late = question.position - question.distance - group_end[question.group]
        assert 0 <= late < longest and question.position - question.fact_end >= question.distance
        assert question.position in book.ends
        assert book.ends.index(question.position) not in book.headings
    positions = [question.position for question in book.questions]
    assert positions == sorted(positions) and positions[-1] == len(book.tokens)


@settings(max_examples=15)
@given(BOOKS)
def test_each_answer_of_a_group_is_right_once(book: PlantedBook) -> None:
    by_place: dict[tuple[int, int], list[int]] = {}
    for question in book.questions:
        assert len(set(question.options)) == GROUP
        assert question.options[question.right] == question.fact.answer
        before = decoded(book.before(question.position))
        assert all(before.count(option) == 1 for option in question.options), "all have been read"
        by_place.setdefault((question.group, question.distance), []).append(question.right)
    assert all(sorted(rights) == list(range(GROUP)) for rights in by_place.values())


@settings(max_examples=15)
@given(BOOKS, st.integers(200, 3000))
def test_the_fact_can_be_put_into_the_window(book: PlantedBook, size: int) -> None:
    for question in book.questions[:: max(1, len(book.questions) // 5)]:
        window = min(size, question.distance)  # the fact itself has left it
        before, tokens = book.before(question.position), book.with_fact(question, window)
        sentence = f" {question.fact.sentence}"
        assert decoded(tokens).count(sentence) == 2
        assert sentence in decoded(tokens[-window:]), "a window that holds a sentence"
        at = decoded(tokens).rindex(sentence)
        assert tokens[:at] + tokens[at + len(sentence) :] == before


@settings(max_examples=15)
@given(BOOKS)
def test_chapters_have_headings_in_order(book: PlantedBook) -> None:
    headings = [book.paragraphs[index] for index in sorted(book.headings)]
    assert headings == [f"Chapter {number + 1}" for number in range(len(headings))] and 0 in book.headings


def test_a_book_has_as_many_chapters_as_it_should() -> None:
    book = planted([3], chapters=20, distances=(9000,))
    assert len(book.headings) == 20
    starts = [book.ends[index] for index in sorted(book.headings)]
    assert max(after - before for before, after in pairwise(starts)) < 1.5 * len(book.tokens) / 20


def test_a_ledger_has_an_entry_for_each_fact() -> None:
    book = planted([2])
    assert book.ledger.count("[[") == len(book.facts) >= GROUP * 2


ERRORS = {
    "book.txt is too short": {"distances": (10**6,)},
    "a book has at most 1,": {"asked": 300, "distances": (1,)},
    "--chapters 5000: too many": {"chapters": 5000},
}


@pytest.mark.parametrize("message", ERRORS)
def test_books_that_cannot_be_made(message: str) -> None:
    with pytest.raises(TemploraError) as caught:
        planted([2], **ERRORS[message])  # type: ignore[arg-type]
    assert message in str(caught.value) and caught.value.hint


def test_prose_is_cut_between_sentences() -> None:
    long = " ".join(
        f"This is the sentence with number {number} of a very long paragraph." for number in range(60)
    )
    pieces = paragraphs_of(["THE FIRST CHAPTER", "A short paragraph.", long, "* * *"])
    assert pieces[0] == "A short paragraph." and " ".join(pieces[1:]) == long
    assert all(piece.endswith(".") and len(piece.split()) <= 120 for piece in pieces) and len(pieces) > 4


def test_a_question_is_compared_by_its_values() -> None:
    question = planted([2]).questions[0]
    assert replace(question, distance=1) != question == planted([2]).questions[0]
