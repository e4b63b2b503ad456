"""Measures of prose: against plain definitions, on texts with known values, and on people's books."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.registry import read_document
from templora_cli.evaluation.prose_measures import (
    distinct,
    mattr,
    measure,
    measure_chapters,
    repetition,
    windows,
)
from templora_cli.evaluation.prose_text import ProseChapter, chapters_of, limited

BOOKS = Path(__file__).parents[3] / "shared" / "data" / "pg19"
FEW_WORDS = st.lists(st.sampled_from("abc"), max_size=40)


def grams(words: list[str], n: int = 4) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@given(FEW_WORDS, st.integers(1, 12))
def test_mattr_is_the_mean_over_all_windows(words: list[str], size: int) -> None:
    ratios = [len(set(words[i : i + size])) / size for i in range(len(words) - size + 1)]
    assert mattr(words, size) == (pytest.approx(fmean(ratios)) if ratios else None)


@given(FEW_WORDS, st.integers(1, 12))
def test_repetition_looks_back_a_window(words: list[str], window: int) -> None:
    all_grams = grams(words)
    repeated = [gram in all_grams[max(0, i - window) : i] for i, gram in enumerate(all_grams)]
    assert repetition(words, window) == (pytest.approx(fmean(repeated)) if repeated else None)


@given(st.lists(FEW_WORDS.filter(bool), min_size=1, max_size=4), st.integers(1, 60))
def test_repetition_in_and_across_chapters(chapters: list[list[str]], window: int) -> None:
    measures = measure_chapters([""] * len(chapters), chapters, window)
    earlier: list[tuple[int, tuple[str, ...]]] = []
    offset = 0
    for words, measured in zip(chapters, measures, strict=True):
        located = [(offset + i, gram) for i, gram in enumerate(grams(words))]
        near = [any(b == gram and at - a <= window for a, b in earlier) for at, gram in located]
        anywhere = [any(b == gram for _, b in earlier) for _, gram in located]
        is_measured = bool(located) and offset > 0
        assert measured.repetition_within == repetition(words, window)
        assert measured.repetition_across == (pytest.approx(fmean(near)) if is_measured else None)
        assert measured.repetition_from_any == (pytest.approx(fmean(anywhere)) if is_measured else None)
        earlier += located
        offset += len(words)


@given(st.integers(0, 50), st.integers(1, 12))
def test_windows_cover_the_text(length: int, size: int) -> None:
    words = [str(number) for number in range(length)]
    covered = [list(window) for window in windows(words, size)]
    assert {word for window in covered for word in window} == set(words)
    assert all(len(window) == min(size, length) for window in covered)
    starts = [int(window[0]) for window in covered if window]
    assert all(0 < after - before <= size for before, after in pairwise(starts))


def test_known_values() -> None:
    words = ["the", "sea", "and", "the", "sky", "and", "the", "sea", "and", "the", "sky"]
    assert repetition(words) == 2 / 8
    assert distinct(words, 1) == 4 / 11 and distinct(words, 2) == 5 / 10
    assert repetition(["a"]) is None and distinct([], 1) is None


def test_a_whole_text() -> None:
    chapters = [
        ProseChapter("One", ("“Where is Anna?” he asked.", "The sea was grey and cold today.")),
        ProseChapter("Two", ("The sea was grey and warm. Anna slept in Leith.",)),
    ]
    measures = measure(chapters)
    assert (measures.words, measures.chapters, measures.sentences, measures.paragraphs) == (22, 2, 4, 3)
    assert measures.repetition_within_chapters == 0
    assert measures.repetition_across_chapters == measures.repetition_from_any_chapter == 2 / 7
    assert measures.repetition_first == measures.repetition_max == 2 / 19
    assert (measures.sentence_words, measures.paragraph_words) == (5.5, 22 / 3)
    assert (measures.questions, measures.dialogue) == (1 / 4, 3 / 22)
    assert (measures.names, measures.names_once) == (2, 0.5)
    assert measures.mattr_500 is None, "shorter than its window"
    assert [(c.title, c.words, c.repetition_across) for c in measures.by_chapter] == [
        ("One", 12, None),
        ("Two", 10, 2 / 7),
    ]


def test_a_single_chapter_repeats_no_other_and_one_word_nothing() -> None:
    measures = measure([ProseChapter("", ("Sea.",))])
    assert measures.repetition_across_chapters is measures.repetition_from_any_chapter is None
    assert measures.repetition_first is measures.repetition_within_chapters is measures.distinct_2 is None
    assert measures.distinct_1 == 1 and measures.sentence_words_sd == 0
    assert measures.names == 0 and measures.names_once is None


def test_a_loop_stands_out_where_it_begins() -> None:
    prose = [f"{n} is less than {n + 1}, {n + 2}, {n + 3} and {n + 4}." for n in range(0, 800, 4)]
    loop = ["She makes you to be a family, and you makes her to be a family."] * 100
    measures = measure([ProseChapter("", tuple(prose + loop))])
    repeated = [depth.repetition for depth in measures.by_depth]
    assert repeated[0] == 0 and repeated[-1] == 1
    assert [depth.depth for depth in measures.by_depth] == [
        sum(before.words for before in measures.by_depth[:index]) for index in range(len(measures.by_depth))
    ]
    assert sum(depth.words for depth in measures.by_depth) == measures.words


def test_long_texts_have_few_ranges_of_depth() -> None:
    measures = measure([ProseChapter("", ("The sea was grey and cold today.",) * 9000)])
    assert 12 <= len(measures.by_depth) <= 24


@pytest.mark.skipif(not BOOKS.is_dir(), reason=f"there is no folder {BOOKS}")
@pytest.mark.parametrize(("book", "expected"), [("1684", 0.003), ("3125", 0.016), ("349", 0.005)])
def test_repetition_in_the_first_8000_words_of_books_by_people(book: str, expected: float) -> None:
    chapters = limited(chapters_of(read_document(BOOKS / f"{book}.txt")), 8000)
    measured = measure(chapters).repetition_first
    assert measured is not None and round(measured, 3) == expected
