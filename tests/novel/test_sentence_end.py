"""Where sentences end, in the scripts and with the quotes that books have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.novel.sentence_end import (
    ends_complete,
    ends_complete_before,
    ends_sentence,
    may_end_paragraph,
    may_end_sentence,
)

COMPLETE = [
    "She left.",
    "She left. \n",
    "No way?!",
    "And then…",
    "and then...",
    '"Go."',
    "“Go.”",
    "(He left.)",
    "*Go!*",
    "She left.[1]",
    "She left.[^12]",
    "She left.”³",
    "She left.†",
    "It was I.",
    "It was in 1984.",
    "He said „Ja.“",
    "Il dit : « Oui. »",
    "»Ja.«",
    "他走了。",
    "“走吧。”",
    "「行く。」",
    "彼は行った。",
    "هل ذهبت؟",
    "وہ گیا۔",
    "वह गया।",
    "Τι κάνεις;",
    "ถึงบ้านแล้ว ",
    "“One.\nTwo.",
]
INCOMPLETE = [
    "",
    "She looked at the coin",
    "She looked,",
    "but;",
    "He said:",
    '"Go.',
    "“Go.",
    "“走吧。",
    "「行く。",
    "„Ja.",
    "« Oui.",
    "»Ja.",
    '"Wait,"',
    "“But I—”",
    "She saw Mr.",
    "Dr.",
    "J.",
    "by J. R. R.",
    "1.",
    "One.\n2.",
    "ถึงบ้านแล้ว",
]


@pytest.mark.parametrize("text", COMPLETE)
def test_a_complete_sentence_is_recognised(text: str) -> None:
    assert ends_complete(text)


@pytest.mark.parametrize("text", INCOMPLETE)
def test_an_incomplete_sentence_is_recognised(text: str) -> None:
    assert not ends_complete(text)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("She left.", " He"),
        ("She left.", " “Why"),
        ("She left.", "\n"),
        ("She left. ", "He"),
        ('"Go!"', " She"),
        ("“But I—”", "\n\n"),
        ("「はい」", "\n"),
        ("She left.[1]", " He"),
        ("« Oui. »", " Il"),
        ("他走了。", "她"),
        ("“走吧。”", "\n"),
        ("वह गया।", " वह"),
        ("ครับ", " ก"),
    ],
)
def test_following_text_confirms_the_end(text: str, after: str) -> None:
    assert ends_complete_before(text, after) and may_end_sentence(text)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("She left", "\n\n"),
        ("She left.", " "),
        ("She left.", '"'),
        ("She left.", "["),
        ("She left.", "¹"),
        ("wait.", "."),
        ("3.", "5"),
        ("wait...", " and"),
        ("wait... ", "and"),
        ('"Go!"', " she"),
        ('"Go.', " Now"),
        ('"Go.', "\n"),
        ("Mr.", " Smith"),
        ("« Oui.", " »"),
        ("他走了。", "”"),
        ("他走了。", "。"),
        ("“走吧。”", "他"),
        ("「はい」", "と"),
        ("ครับ", "ก"),
    ],
)
def test_text_that_continues_the_sentence_is_recognised(text: str, after: str) -> None:
    assert not ends_complete_before(text, after)


@given(
    st.text(st.sampled_from('ab .!?…。"“”„«»「」[1]\n—')), st.text(st.sampled_from('aB ."”。[\n'), min_size=1)
)
def test_the_checks_agree(text: str, after: str) -> None:
    if ends_complete(text):
        assert ends_sentence(text) and may_end_paragraph(text)
    if ends_complete_before(text, after):
        assert may_end_sentence(text)
    assert ends_complete(text) == ends_complete(f"{text} \n")
