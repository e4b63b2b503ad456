"""Terms that are proposed for a glossary, with small books."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.languages import language
from templora_cli.term_proposals import propose_terms


def proposed(lines: list[str], code: str, existing: Sequence[str] = (), limit: int = 20) -> list[str]:
    proposals = propose_terms(lines, language(code), existing=existing, limit=limit)
    return [proposal.source for proposal in proposals]


ENGLISH = [
    "Anna Weber walked to the Iron Gate. The gate was shut, and Anna sighed.",
    "“Where is it?” asked Anna. Nobody at the Iron Gate knew. In the dark, Anna Weber waited.",
    "Later she told Captain Holm of the Iron Gate, but Holm laughed at Anna's story.",
    "When Anna came back, Captain Holm had gone. They say Holm went to Ur, and then Anna Weber to Ur.",
    "Everybody in Ur knew that Holm and Captain Holm's men were there.",
    "And I said that I'm sure that I'm right, and so I'm here.",
]


def test_names_of_a_language_with_capitals() -> None:
    terms = proposed(ENGLISH, "en")
    assert set(terms) == {"Anna", "Anna Weber", "Iron Gate", "Captain Holm", "Holm", "Ur"}
    assert terms.index("Iron Gate") < terms.index("Ur")


def test_counts_and_examples() -> None:
    by_source = {
        proposal.source: proposal for proposal in propose_terms(ENGLISH, language("en"), existing=(), limit=9)
    }
    assert by_source["Iron Gate"].count == 3
    assert by_source["Ur"].count == 3 and "Ur" in by_source["Ur"].example
    assert all(name in term.example and len(term.example) <= 80 for name, term in by_source.items())


def test_existing_terms_are_not_proposed_and_limits_hold() -> None:
    assert "Anna" not in proposed(ENGLISH, "en", ["Anna"])
    assert len(proposed(ENGLISH, "en", limit=2)) == 2
    assert proposed(ENGLISH, "en", limit=0) == []
    assert proposed([], "en") == []


def test_a_word_that_is_also_in_lower_case_is_no_name() -> None:
    lines = [
        "It was the Winter when Anna left, a winter of snow.",
        "At last Winter came, said Anna, and what a winter.",
    ]
    assert proposed(lines * 3, "en") == ["Anna"]


def test_german_nouns_are_no_names() -> None:
    lines = [
        "Da ging Holm durch das Tor, und der Hund lief vor das Tor zu Holm.",
        "Vor dem Tor stand ein Hund, und weil Holm ihn nicht kannte, bellte der Hund.",
        "Als der Hund bellte, lachte Holm und schloss das Tor.",
    ]
    assert proposed(lines, "de") == ["Holm"]


def chinese(names: list[str]) -> list[str]:
    """A book of sentences around `names`, with varying neighbours."""
    rnd = random.Random(1)
    starts = ["", "昨夜", "这时", "没想到", "雨停后", "山下的", "只见", "他看见"]
    ends = ["说道", "笑了", "走进院子", "的灯灭了", "没有回答", "把门关上", "站在雪里", "看着远山", "已睡了"]
    lines = []
    for name in names * 12:
        lines.append(f"{rnd.choice(starts)}{name}{rnd.choice(ends)}，我对{name}{rnd.choice(ends)}。")
    return lines


def test_names_without_spaces() -> None:
    names = ["李青禾", "铁雁关", "韩墨", "小陈"]
    terms = proposed(chinese(names), "zh", limit=8)
    assert set(names) <= set(terms)
    assert not {"青禾", "李青", "雁关"} & set(terms)  # halves of names


def test_a_string_that_is_mostly_part_of_a_longer_name_is_no_name() -> None:
    neighbours = zip("近见望登拆守建绕寻画", "高远静空倾残深黑孤冷", strict=True)
    lines = [f"{before}药塔{after}" for before, after in neighbours]
    assert "药塔" in proposed(chinese(["李青禾", "韩墨"]) + lines, "zh")
    terms = proposed(chinese(["古药塔", "韩墨", "李青禾", "铁雁关"]) + lines, "zh")
    assert "古药塔" in terms and "药塔" not in terms


def test_katakana_of_japanese() -> None:
    lines = [
        "アンナは笑った。",
        "窓辺にアンナがいた。",
        "アンナ・ウェーバーという名だ。",
        "「アンナ」と呼ぶ。",
    ]
    assert proposed(lines, "ja") == ["アンナ"]


def test_scripts_without_capitals_or_hints_give_no_names() -> None:
    assert proposed(["अन्ना घर गई।"] * 5, "hi") == []


@settings(max_examples=100)
@given(
    st.lists(st.text(max_size=30), max_size=8),
    st.sampled_from(["en", "de", "zh", "ja", "ko", "th", "ar", "ru"]),
)
def test_any_book_can_be_read(lines: list[str], code: str) -> None:
    text = lines * 4
    for proposal in propose_terms(text, language(code), existing=(), limit=5):
        assert proposal.count >= 3 and proposal.source


def test_the_same_book_gives_the_same_terms() -> None:
    lines = chinese(["李青禾", "铁雁关", "韩墨"])
    assert proposed(lines, "zh") == proposed(list(lines), "zh")
