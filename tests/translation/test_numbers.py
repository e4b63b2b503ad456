"""Numbers: their forms in a translation, and missing ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.translation.numbers import han_values, missing_numbers, numbers_in, spelt_forms


@pytest.mark.parametrize(
    ("source", "target", "base"),
    [
        ("In 1984 war es kalt.", "It was cold in 1984.", "en"),
        ("Er zahlte 1.250.000 Mark.", "He paid 1,250,000 marks.", "en"),
        ("Er war 12,5 Meter hoch.", "It was 12.5 metres high.", "en"),
        ("1 250 pas", "1,250 steps", "en"),
        ("她１８岁了。", "She was eighteen.", "en"),
        ("今年21岁。", "On her twenty-first birthday.", "en"),
        ("第20章", "The Twentieth Chapter", "en"),
        ("2017年6月30日", "6/30/2017", "en"),
        ("一共10万人", "a hundred thousand people: 100,000", "en"),
        ("3000万元", "thirty million yuan", "en"),
        ("150万", "1.5 million", "en"),
        ("80年代", "the 1980s", "en"),
        ("晚上18点", "6 in the evening", "en"),
        ("He had 300 sheep.", "他有三百只羊。", "zh"),
        ("It was 2017.", "那是二〇一七年。", "zh"),
        ("It was 1984.", "那是１９８４年。", "zh"),
        ("There were 21 of them.", "Es waren einundzwanzig.", "de"),
        ("It was 1848.", "Es war achtzehnhundertachtundvierzig.", "de"),
        ("There were 92 boats.", "Il y avait quatre-vingt-douze bateaux.", "fr"),
        ("She was 71.", "Elle avait soixante et onze ans.", "fr"),
        ("He was 45.", "Tenía cuarenta y cinco años.", "es"),
        ("200 houses", "doscientas casas", "es"),
        # The number words of Russian are unknown, so only large numbers are checked.
        ("He was 18.", "Ему было восемнадцать.", "ru"),
        ("It was 50 miles away.", "It was 80 kilometres away.", "en"),  # converted
        ("It took 3 days.", "It took some days.", "en"),  # below ten
    ],
)
def test_numbers_in_another_form_are_found(source: str, target: str, base: str) -> None:
    assert missing_numbers(source, target, base) == []


@pytest.mark.parametrize(
    ("source", "target", "base", "missing"),
    [
        ("In 1984 war es kalt.", "It was cold then.", "en", ["1984"]),
        ("In 1984 war es kalt.", "It was cold in 1948.", "en", ["1984"]),
        ("Er hatte 10 Schafe.", "He listened to the sheep.", "en", ["10"]),  # no "ten" in "listened"
        ("Er hatte 10 Schafe.", "He had 100 sheep.", "en", ["10"]),
        ("他有20只羊和35头牛。", "He had sheep and thirty-five cows.", "en", ["20"]),
        ("It was 1984.", "那一年很冷。", "zh", ["1984"]),
        ("It was 1984, and he was 40.", "Было холодно.", "ru", ["1984"]),
        ("3000万元", "two million yuan", "en", ["3000"]),
    ],
)
def test_missing_numbers_are_reported(source: str, target: str, base: str, missing: list[str]) -> None:
    assert missing_numbers(source, target, base) == missing


def test_chinese_numerals() -> None:
    assert list(han_values("三百四十五，二〇一七，十，两千，三万五千，一百零五，一亿二千万")) == [
        345,
        2017,
        10,
        2000,
        35000,
        105,
        120_000_000,
    ]


@given(st.integers(1, 99_999), st.sampled_from(["en", "de", "fr", "es"]))
def test_spelt_forms_are_found(value: int, base: str) -> None:
    for form in spelt_forms(value, base):
        assert missing_numbers(f"({value})", f"- {form} -", base) == []


@given(st.text(), st.text(), st.sampled_from(["en", "de", "zh", "ru", "xx"]))
def test_any_text_can_be_searched(source: str, target: str, base: str) -> None:
    missing = missing_numbers(source, target, base)
    assert len(missing) <= len(list(numbers_in(source)))


@given(st.lists(st.integers(0, 10**400), max_size=3))
def test_a_copy_loses_no_number(values: list[int]) -> None:
    text = " und ".join(map(str, values))
    assert missing_numbers(text, text, "en") == []
