"""Over-used words and trigrams: on known counts, and word counts of any content."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.evaluation.prose_reference import (
    Frequency,
    ReferenceBook,
    compare,
    log_likelihood,
    overused_words,
    read_counts,
)
from templora_cli.evaluation.prose_text import ProseChapter, words_of

FILE = Path("reference.txt")


def book(text: str) -> ReferenceBook:
    words = words_of(text)
    return ReferenceBook("reference", FILE, len(words), words)


def test_log_likelihood_of_known_frequencies() -> None:
    # expected counts: 12 * 1000 / 11000 and 12 * 10000 / 11000
    expected = 2 * (10 * math.log(10 / (12 / 11)) + 2 * math.log(2 / (120 / 11)))
    assert log_likelihood(Frequency(10, 1000), Frequency(2, 10_000)) == pytest.approx(expected)
    assert log_likelihood(Frequency(5, 100), Frequency(50, 1000)) == pytest.approx(0)
    assert log_likelihood(Frequency(5, 100), Frequency(0, 1000)) > 0


def test_overused_words_have_more_than_twice_the_share_and_no_names() -> None:
    words = words_of("tapestry " * 4 + "sea " * 4 + "anna's " * 9 + "1999 " * 9 + "rare " * 2 + "boat " * 5)
    reference = book("sea " * 4 + "boat " + "wind " * 28)
    found = overused_words(words, {"anna"}, [reference], 10)
    assert [gram.text for gram in found] == ["tapestry", "boat"]
    assert found[0].ratio is None and found[0].reference_per_10k == 0
    assert found[1].ratio == pytest.approx((5 / 33) / (1 / 33)) and found[1].count == 5
    assert overused_words(words, {"anna"}, [reference], 1) == found[:1]


def test_trigrams_are_compared_too() -> None:
    chapter = ProseChapter("", ("A kaleidoscope of colour met Anna Lee here.",) * 3)
    comparison = compare([chapter], [book("The sea was grey. " * 30)], 10)
    assert comparison.trigrams is not None
    assert {gram.text for gram in comparison.trigrams} >= {"a kaleidoscope of", "of colour met"}
    assert not any("anna" in gram.text or "lee" in gram.text for gram in comparison.trigrams)


def test_counts_know_only_their_words_and_add_to_texts(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    values = {"words": ["the", "Of"], "books": {"1": {"words": 1000, "per_10k": [500, 100]}}}
    path.write_text(json.dumps(values))
    (counts,) = read_counts(path)
    assert (counts.name, counts.words, counts.counts) == ("1", 1000, {"the": 50, "of": 10})
    chapter = ProseChapter("", ("the of tapestry",) * 10)
    alone = compare([chapter], [counts], 10)
    assert alone.trigrams is None, "counts have no trigrams"
    assert [gram.text for gram in alone.words] == ["of", "the"], "tapestry was not counted"
    both = compare([chapter], [counts, book("the wind " * 500)], 10)
    shares = {gram.text: gram.reference_per_10k for gram in both.words}
    assert shares == {"of": pytest.approx(1e4 * 10 / 2000), "tapestry": 0}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=JSON
    | st.fixed_dictionaries({"words": JSON, "books": JSON})
    | st.fixed_dictionaries(
        {
            "words": st.lists(st.text(max_size=2), max_size=2),
            "books": st.dictionaries(
                st.text(max_size=1), st.fixed_dictionaries({"words": JSON, "per_10k": st.lists(JSON)})
            ),
        }
    )
)
def test_any_json_is_read_or_refused(values: Any, tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps(values), "utf-8")
    try:
        books = read_counts(path)
    except TemploraError as error:
        assert "\n" not in error.message and error.hint
    else:
        assert books and all(b.words > 0 and b.counts is not None for b in books)
