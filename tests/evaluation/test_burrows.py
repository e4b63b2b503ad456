"""Burrows's Delta against a calculation by hand, and on texts of known authors."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import pstdev

import pytest

from templora_cli.errors import TemploraError
from templora_cli.evaluation.burrows import MIN_BOOKS, WORDS, Reference, read_reference

WORD_LIST = ("the", "of", "and")
BOOKS = {"a": (500.0, 300.0, 200.0), "b": (600.0, 200.0, 300.0), "c": (550.0, 250.0, 200.0)}
REFERENCE = Reference(WORD_LIST, BOOKS)


def test_the_frequencies_are_per_10_000_words() -> None:
    text = "The house of the king, and THE end of it." + " word" * 90
    assert REFERENCE.frequencies(text) == (300.0, 200.0, 100.0)
    with pytest.raises(ValueError, match="no words"):
        REFERENCE.frequencies("42 !")


def test_the_delta_is_the_mean_difference_of_z_scores() -> None:
    spreads = [pstdev(values) for values in zip(*BOOKS.values(), strict=True)]
    by_hand = (100 / spreads[0] + 100 / spreads[1] + 100 / spreads[2]) / 3
    assert REFERENCE.delta(BOOKS["a"], BOOKS["b"]) == pytest.approx(by_hand)
    assert REFERENCE.delta(BOOKS["a"], BOOKS["a"]) == 0


def test_a_word_that_all_use_alike_does_not_count() -> None:
    same = Reference(("the", "of"), {name: (500.0, values[1]) for name, values in BOOKS.items()})
    assert same.delta((900.0, 200.0), (100.0, 200.0)) == 0


def test_the_rank_counts_the_authors_that_are_nearer() -> None:
    others = REFERENCE.without("a")
    assert "a" not in others.books and "a" in REFERENCE.books
    assert others.rank(BOOKS["a"], BOOKS["a"]) == 1
    assert others.rank(BOOKS["b"], BOOKS["a"]) == 3  # itself, and c between them


@pytest.mark.parametrize(
    "change",
    [
        {"words": ["the"]},
        {"books": {}},
        {"books": {"a": {"per_10k": [1.0]}}},
        {"books": {str(i): {"per_10k": [float("nan")] * WORDS} for i in range(MIN_BOOKS)}},
        {"books": []},
        {"words": None},
    ],
)
def test_a_file_that_has_no_frequencies_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "words.json"
    whole = {
        "words": [f"word{i}" for i in range(WORDS)],
        "books": {str(i): {"per_10k": [float(i)] * WORDS} for i in range(MIN_BOOKS)},
    }
    path.write_text(json.dumps(whole))
    assert len(read_reference(path).books) == MIN_BOOKS
    path.write_text(json.dumps({**whole, **change}))
    with pytest.raises(TemploraError, match=r"words\.json has no frequencies of words"):
        read_reference(path)
    path.write_text("no JSON")
    with pytest.raises(TemploraError, match="has no frequencies"):
        read_reference(path)
    with pytest.raises(TemploraError, match="cannot be read"):
        read_reference(tmp_path / "absent.json")
