"""Banned phrases: which can be banned, and where they match."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.engine.decoding.banned_phrases import (
    MAX_LENGTH,
    MAX_PHRASES,
    BannedPhrases,
    Match,
    Reading,
    checked_phrases,
    phrases_in,
)
from templora_cli.errors import TemploraError


def matches(text: str, *phrases: str) -> list[tuple[int, str]]:
    """Where the phrases match in a text that ends here."""
    reading, certain = BannedPhrases(phrases).read(Reading(), text)
    return sorted({tuple(match) for match in (*certain, *reading.whole)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phrase", "matching", "others"),
    [
        (
            "art",
            ["art", "Art!", "an art of", "l'art", "art's", "ART-deco", "“art”"],
            ["start", "arts", "a rt"],
        ),
        (
            "cold heart",
            ["a cold\nheart.", "COLD  heart's", "cold \u00ad heart"],
            ["cold, heart", "cold hearts"],
        ),
        ("don't", ["I don’t.", "Don't"], ["do not", "dont"]),
        ("“well", ["“Well, ", '"well'], ["well", "“wellness"]),
        ("wait…", ["Wait...", "wait…"], ["wait.", "wait"]),
        ("x-ray", ["X‑ray"], ["x ray"]),
        ("straße", ["STRASSE", "Straße"], ["Straßen"]),
        ("café", ["Café"], ["cafe", "cafés"]),
        ("cafe", ["cafe"], ["cafe\u0301"]),
        ("星光", ["在星光下", "星光"], ["星", "光星"]),
        ("이름", ["이름은", "내 이름"], ["이 름"]),
        ("AI", ["the AI.", "用AI写"], ["said", "AIs"]),
        ("chapter 1", ["Chapter 1:"], ["chapter 12"]),
    ],
)
def test_where_a_phrase_matches(phrase: str, matching: list[str], others: list[str]) -> None:
    (phrase,) = checked_phrases([phrase])
    for text in matching:
        assert [found for _, found in matches(text, phrase)] == [phrase], text
    for text in others:
        assert not matches(text, phrase), text


WORDS = ["ab", "a", "ba", "b a", "a ba", "海", "a海", "海 b", "'a", "ß", "ss", "b's"]


def naive(text: str, phrases: list[str]) -> set[tuple[int, str]]:
    """All matches, by trying every stretch of the text."""

    def letter(char: str) -> bool:
        return char.isalnum() and char != "海"

    def counts(at: int) -> bool:
        before = [char for char in text[:at] if char != "\u00ad"]
        return text[at] != "\u00ad" and not (text[at].isspace() and before and before[-1].isspace())

    places = [at for at in range(len(text)) if counts(at)]
    chars = [" " if text[at].isspace() else text[at].replace("’", "'") for at in places]
    found = set()
    for first in range(len(chars)):
        for end in range(first + 1, len(chars) + 1):
            before, after = chars[first - 1 : first], chars[end : end + 1]
            cut = (before and letter(before[0]) and letter(chars[first])) or (
                after and letter(after[0]) and letter(chars[end - 1])
            )
            if not cut:
                stretch = "".join(chars[first:end]).casefold()
                found |= {(places[first], phrase) for phrase in phrases if phrase.casefold() == stretch}
    return found


@given(
    text=st.text("aabbAB  \n’'海ßs\u00ad.", max_size=24),
    phrases=st.lists(
        st.sampled_from(WORDS), min_size=1, max_size=4, unique_by=str.casefold
    ),  # "ß" and "ss" are one phrase
    pieces=st.lists(st.integers(1, 5), max_size=30),
)
def test_matches_are_those_of_the_definition_however_the_text_is_cut(
    text: str, phrases: list[str], pieces: list[int]
) -> None:
    banned, reading, start = BannedPhrases(phrases), Reading(), 0
    certain: set[Match] = set()
    for size in (*pieces, len(text)):
        reach = reading.start
        reading, more = banned.read(reading, text[start : start + size])
        assert more == sorted(more)
        assert all(match.start >= (start if reach is None else reach) for match in more), "it was shown"
        certain |= set(more)
        start += size
    assert reading.length == len(text)
    assert certain | set(reading.whole) == naive(text, phrases)


def test_a_file_has_a_phrase_in_each_line() -> None:
    text = "# Clichés\ncold  heart\n\n  a testament to \nCOLD heart\n星光\n"
    assert phrases_in(text, "ban.txt") == ("cold heart", "a testament to", "星光")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("...", "has no letter or digit"),
        ("*", "has no letter or digit"),
        ("the", "so common"),
        ("The", "so common"),
        ("e", "so common"),
        ("É", "so common"),
        ("的", "so common"),
        ("und", "so common"),
        ("x" * (MAX_LENGTH + 1), "101 characters; at most 100"),
    ],
)
def test_a_phrase_that_would_ban_everything_is_refused_with_its_line(line: str, reason: str) -> None:
    with pytest.raises(TemploraError) as caught:
        phrases_in(f"# mine\ncold heart\n{line}\n", "ban.txt")
    assert caught.value.message.startswith("ban.txt, line 3: ") and reason in caught.value.message
    assert caught.value.hint and "\n" not in caught.value.message
    with pytest.raises(TemploraError, match=f"banned phrase 2: .*{reason}"):
        checked_phrases(["cold heart", line])


def test_an_empty_phrase_and_an_empty_file_are_refused() -> None:
    with pytest.raises(TemploraError, match="banned phrase 1: the phrase is empty"):
        checked_phrases([" "])
    with pytest.raises(TemploraError, match=r"ban\.txt has no phrases"):
        phrases_in("# nothing\n\n", "ban.txt")


def test_the_number_of_phrases_is_limited() -> None:
    lines = "\n".join(f"phrase {number}" for number in range(MAX_PHRASES))
    assert len(phrases_in(lines, "ban.txt")) == MAX_PHRASES
    with pytest.raises(TemploraError, match=r"ban\.txt has 10,001 phrases; at most 10,000"):
        phrases_in(f"{lines}\none more", "ban.txt")


@given(st.text(max_size=12))
def test_any_line_is_a_phrase_or_an_error(line: str) -> None:
    try:
        (phrase,) = checked_phrases([line])
    except TemploraError as error:
        assert error.message.startswith("banned phrase 1: ")
    else:
        assert phrase in [found for _, found in matches(unicodedata.normalize("NFC", phrase), phrase)]
