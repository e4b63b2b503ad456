"""Names in texts: typography, capitals, whole words, and names within longer ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from templora_cli.memory.name_matcher import NameMatcher, fold, name_key, normalise
from templora_cli.scripts import CHARACTERS

UNSPACED = re.compile(f"[{CHARACTERS['Hani']}{CHARACTERS['Hira']}{CHARACTERS['Kana']}{CHARACTERS['Thai']}]")


def names_in(text: str, *names: str) -> list[str]:
    matcher = NameMatcher((name, index) for index, name in enumerate(names))
    return [names[occurrence.owner] for occurrence in matcher.occurrences(text)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Mira", "Mira's hand"),
        ("Mira", "Mira’s hand, and MIRA’S"),
        ("Mira", "“Mira,” he said"),
        ("Mira", "_Mira_ and *Mira*"),
        ("Tom", "a Tom-like grin, and Tom'll come"),
        ("Anna", "la voix d’Anna"),
        ("O'Brien", "old O’Brien"),
        ("Jean‑Luc", "Jean-Luc"),
        ("Mira Voss", "Mira\nVoss and Mira\u00a0 Voss"),
        ("Mira Voss", "CHAPTER ONE: MIRA VOSS"),
        ("the Captain", "The Captain smiled"),
        ("aether", "Aether is everywhere"),
        ("Zoë", "Zoe\u0308 slept"),
        ("Zoe\u0308", "Zoë slept"),
        ("Mira", "Ｍｉｒａ"),
        ("Mira", "Mi\u00adra"),
        ("Weiß", "HERR WEISS"),
        ("Νίκος", "Ο ΝΊΚΟΣ"),
        ("Işık", "IŞIK"),
        ("İnci", "İNCI"),
        ("李青禾", "昨夜李青禾说道"),
        ("Tom", "Tom说"),
        ("アンナ", "窓辺にアンナがいた"),
        ("민준", "민준이가 왔다"),
        ("นิดา", "เขาเห็นนิดาที่ตลาด"),
        ("अन्ना", "अन्ना घर गई"),
        ("مريم", "قالت مريم ذلك"),
        ("Agent 7", "Agent 7."),
        ("Mr. Pym", "Mr. Pym came"),
    ],
)
def test_a_name_is_found(name: str, text: str) -> None:
    assert set(names_in(text, name)) == {name}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Tom", "Tomorrow, and Atom"),
        ("Will", "he will"),
        ("McDonald", "Mcdonald"),
        ("Don", "Don't. Don’t! DON'T"),
        ("Mira Voss", "Then came Mira.\n\nVoss had left"),
        ("Mira Voss", "Mira. Voss"),
        ("Agent 7", "Agent 77"),
        ("민준", "김민준이가"),
        ("Zoe", "Zoe\u0308 slept"),
        ("अन", "अन्ना"),
        ("นิด", "นิด\u0e49"),
        ("Mira", ""),
    ],
)
def test_other_words_are_not_the_name(name: str, text: str) -> None:
    assert names_in(text, name) == []


def test_the_longest_name_counts() -> None:
    assert names_in("Old Tom saw Tom", "Tom", "Old Tom") == ["Old Tom", "Tom"]
    assert names_in("OLD TOM, old Tom", "Tom", "Old Tom") == ["Old Tom", "Tom"], (
        "a small letter is not a capital"
    )
    assert names_in("Old Tom, Tom", "Old", "Tom", "Old Tom") == ["Old Tom", "Tom"]
    assert names_in("铁雁关前", "雁关", "铁雁关") == ["铁雁关"]


def test_names_that_overlap_both_count() -> None:
    assert names_in("Captain Mira Voss", "Captain Mira", "Mira Voss", "Mira") == ["Captain Mira", "Mira Voss"]


def test_spellings_of_one_owner_that_differ_in_capitals() -> None:
    matcher = NameMatcher([("The Captain", 0), ("the captain", 0)])
    assert len(list(matcher.occurrences("the captain, The Captain"))) == 2


def test_names_without_letters_match_nothing() -> None:
    assert name_key("—!") == "" and names_in("—! a", "—!", "") == []


def is_word_character(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNM" and char != "_"


def is_inside_word(text: str, offset: int) -> bool:
    if not 0 < offset < len(text) or not is_word_character(text[offset - 1]):
        return False
    if unicodedata.category(text[offset])[0] == "M":
        return True
    return is_word_character(text[offset]) and not UNSPACED.search(text[offset - 1 : offset + 1])


def naive_occurrences(text: str, names: Sequence[str]) -> list[tuple[int, int, int]]:
    """The definition in the words of the module, tried at every offset with every name."""
    text = normalise(text)
    spans = []
    for owner, name in enumerate(names):
        spelling = normalise(name)
        for start in range(len(text)):
            end = start + len(spelling)
            part = text[start:end]
            if (
                fold(part) == fold(spelling)
                and all(b.isupper() for a, b in zip(spelling, part, strict=True) if a.isupper())
                and not is_inside_word(text, start)
                and (not is_inside_word(text, end) or "가" <= text[end] <= "힣")
                and not re.match(r"'[tT](?![^\W_])", text[end:])
            ):
                spans.append((owner, start, end))
    inside = {
        span
        for span in spans
        for other in spans
        if other != span and other[1] <= span[1] and span[2] <= other[2]
    }
    return sorted((span for span in spans if span not in inside), key=lambda span: span[1])


WORDS = st.sampled_from(["a", "A", "b", "ab", "Ab", "李", "青", "キ", "한", "민", "é"])
NAMES = st.lists(
    st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=6, unique_by=name_key
)
BETWEEN = st.sampled_from([" ", " ", " ", "", "", "'", "’t", "-", ".", "\n", "\n\n", "s", "\u0301"])
TEXTS = st.lists(st.tuples(WORDS, BETWEEN).map("".join), max_size=12)


@settings(max_examples=400)
@given(NAMES, TEXTS.map("".join))
@example(["A", "A A"], "A")
def test_occurrences_are_those_of_the_definition(names: list[str], text: str) -> None:
    found = list(NameMatcher((name, index) for index, name in enumerate(names)).occurrences(text))
    assert found == naive_occurrences(text, names)


@given(st.text())
def test_folding_keeps_offsets(text: str) -> None:
    text = normalise(text)
    assert len(fold(text)) == len(text) and fold(fold(text)) == fold(text)


def test_folding_keeps_the_length_of_every_character() -> None:
    for code in range(0x110000):
        normal = normalise(chr(code))
        assert len(fold(normal)) == len(normal), hex(code)


@given(st.text(), st.text(min_size=1))
def test_any_text_can_be_searched(text: str, name: str) -> None:
    list(NameMatcher([(name, 0)]).occurrences(text + name))
