"""4-grams: the share that repeats, and the tokens that would repeat one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.ngrams import FourGrams, repetition


@pytest.mark.parametrize(
    ("window", "chunk", "share"),
    [
        ([], [], 0.0),
        ([], [1, 2, 3], 0.0),
        ([], [1, 2, 3, 4], 0.0),
        ([1, 2, 3, 4], [1, 2, 3, 4], 1 / 4),
        ([], [1] * 10, 6 / 7),
        ([5, 6, 7, 8, 9], [6, 7, 8, 9], 1 / 4),
    ],
)
def test_repetition_is_the_share_of_repeated_4_grams(
    window: list[int], chunk: list[int], share: float
) -> None:
    assert repetition(window, chunk) == pytest.approx(share)


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_repetition_matches_a_simple_count_over_the_chunk(window: list[int], chunk: list[int]) -> None:
    share = repetition(window, chunk)
    assert 0 <= share <= 1
    text = window + chunk
    ends = [i for i in range(len(text)) if i >= len(window) and i >= 3]
    earlier = [tuple(text[i - 3 : i + 1]) for i in range(3, len(text))]
    repeated = sum(tuple(text[i - 3 : i + 1]) in earlier[: i - 3] for i in ends)
    assert share == pytest.approx(repeated / len(ends) if ends else 0.0)


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=20))
def test_completions_are_the_tokens_that_repeat_a_4_gram(book: list[int], chunk: list[int]) -> None:
    grams = FourGrams(book)
    completions = grams.completions_of(chunk)
    text = [*book, *chunk]
    for i, known in enumerate(completions, len(book)):
        earlier = {tuple(text[k - 4 : k]) for k in range(4, i + 1)}
        assert known == {token for token in range(4) if (*text[max(0, i - 3) : i], token) in earlier}
    repeated = sum(token in known for token, known in zip(chunk, completions, strict=True))
    assert repetition(book, chunk) * max(1, len(chunk) - max(0, 3 - len(book))) == pytest.approx(repeated)


def test_reading_a_chunk_leaves_the_book_unchanged() -> None:
    grams = FourGrams([1, 2, 3, 4, 1, 2, 3])
    assert grams.completions() == {4}
    further = grams.extended()
    further.add(5)
    further.add(6)
    assert grams.completions() == {4}
    assert grams.completions_of([5, 1, 2, 3])[0] == {4}
    for token in (1, 2, 3):
        further.add(token)
    assert further.completions() == {4, 5}
