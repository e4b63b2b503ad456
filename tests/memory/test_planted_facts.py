"""Facts planted in a book are recalled when their people are named again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.planted_facts import ENGLISH, PlantedBook, planted_facts
from benchmarks.recall import recalled_facts

BOOK = Path(__file__).parents[3] / "shared" / "data" / "pg19" / "349.txt"
TEXT = "The rain fell on the harbour all day. She counted the lamps along the quay. " * 80


def test_each_fact_is_planted_once() -> None:
    facts = planted_facts(TEXT, ENGLISH, 9, range(100, 900), familiar=False, draw=random.Random(0))
    book = PlantedBook(TEXT, ENGLISH, facts)
    for fact in sorted(facts, key=lambda fact: fact.word):
        assert fact.sentence in book.grow(fact.word)
    whole = book.grow(1100)
    for fact in facts:
        assert whole.count(fact.sentence) == 1 and fact.name in fact.mention
        whole = whole.replace(f"{fact.sentence} ", "")
    assert TEXT.startswith(whole)


@pytest.mark.full
@pytest.mark.skipif(not BOOK.exists(), reason=f"{BOOK} is not on this machine")
def test_facts_are_recalled_from_a_novel() -> None:
    recalled, _ = recalled_facts(BOOK, "text", count=20, seed=1)
    assert all(facts >= 18 for facts in recalled.values())
