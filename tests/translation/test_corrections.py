"""Review files with corrections, and mistakes that are repeated after them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.translation.corrections import (
    Correction,
    find_changes,
    find_repeated_mistakes,
    read_corrections,
    review_text,
)
from templora_cli.translation.report import ParagraphReport


def paragraph(index: int, source: str, target: str, attempts: int = 1, **more: Any) -> ParagraphReport:
    values = {"number": str(index + 1), "failed_checks": (), **more}
    return ParagraphReport(paragraph=index, source=source, target=target, attempts=attempts, **values)


ONE_LINE = st.text(min_size=1, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)
PARAGRAPHS = [
    paragraph(6, "李明笑了。", "Lee Ming laughed."),
    paragraph(7, "他走了。", "He went 3.", 3, failed_checks=({"check": "numbers", "message": "3 is new"},)),
    paragraph(9, "李明来了。", "Li Ming came."),
]
BY_INDEX = {one.paragraph: one for one in PARAGRAPHS}
TEXT = review_text(PARAGRAPHS, "storm-1a2b")


def test_an_unedited_file_has_no_corrections() -> None:
    assert "] failed: 3 is new\n< 他走了。\n> He went 3.\n" in TEXT
    assert read_corrections(TEXT, BY_INDEX, "storm-1a2b", "review.txt") == []


def test_corrected_and_approved_paragraphs() -> None:
    edited = TEXT.replace("Lee Ming laughed", "Li Ming  laughed").replace("> Li Ming came", "= Li Ming came")
    assert read_corrections(edited, BY_INDEX, "storm-1a2b", "review.txt") == [
        Correction(6, "Lee Ming laughed.", "Li Ming laughed."),
        Correction(9, "Li Ming came.", "Li Ming came."),
    ]


@given(ONE_LINE, ONE_LINE, ONE_LINE)
def test_any_text_can_be_corrected(source: str, before: str, after: str) -> None:
    generated = paragraph(0, source, before)
    edited = review_text([generated], "s").replace(f"\n> {before}\n", f"\n> {after}\n")
    corrections = read_corrections(edited, {0: generated}, "s", "f")
    assert corrections == ([] if before == after else [Correction(0, before, after)])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("@8 ", "@80 "), "review.txt, line 8: there is no paragraph 80"),
        (("> He went 3.", ">"), "line 10: the translation is empty"),
        (("> He went 3.", "> He went\nagain."), "line 11 does not belong in a review file"),
        (("> He went 3.", "> a\n> b"), "line 11 belongs to no paragraph"),
        (("@7 ", "# "), "line 5 does not belong in a review file"),
    ],
)
def test_errors_name_the_line(edit: tuple[str, str], message: str) -> None:
    assert edit[0] in TEXT
    with pytest.raises(TemploraError, match=re.escape(message)):
        read_corrections(TEXT.replace(*edit, 1), BY_INDEX, "storm-1a2b", "review.txt")


def test_parts_of_a_long_paragraph_have_its_number() -> None:
    paragraphs = {
        index: replace(one, number=number)
        for (index, one), number in zip(BY_INDEX.items(), ["3.1", "3.2", "4"], strict=True)
    }
    text = review_text(paragraphs.values(), "storm-1a2b")
    assert re.findall("^@([0-9.]+) ", text, re.MULTILINE) == ["3.1", "3.2", "4"]
    edited = text.replace("> He went 3", "> He left").replace("> Li Ming came", "= Li Ming came")
    assert read_corrections(edited, paragraphs, "storm-1a2b", "review.txt") == [
        Correction(7, "He went 3.", "He left."),
        Correction(9, "Li Ming came.", "Li Ming came."),
    ]
    later = [paragraphs[7], replace(PARAGRAPHS[2], number="4", target="Lee Ming came.")]
    assert find_repeated_mistakes([Correction(7, "He saw Lee.", "He saw Li.")], later) == {
        9: ["“Lee” is used again; paragraph 3.2 was corrected to “Li”"]
    }


def test_a_file_with_the_numbers_of_other_paragraphs_is_refused() -> None:
    message = "review.txt, line 9 is not the source of paragraph 10"
    with pytest.raises(TemploraError, match=message):
        read_corrections(TEXT.replace("@8 ", "@10 "), BY_INDEX, "storm-1a2b", "review.txt")
    typo = TEXT.replace("< 他走了。", "< 她走了。")
    assert read_corrections(typo, BY_INDEX, "storm-1a2b", "review.txt") == []


def test_words_that_were_replaced() -> None:
    assert find_changes("Lee Ming laughed, loudly.", "Li Ming laughed, loudly.") == [[("Lee", "Li")]]
    assert find_changes("a b", "a b c") == []


def test_a_repeated_mistake_is_reported() -> None:
    corrections = [
        Correction(6, "Lee Ming laughed at the tower.", "Li Ming laughed at the tower."),
        Correction(7, "The tower fell.", "The spire fell."),
    ]
    paragraphs = [
        paragraph(3, "", "Lee Ming was earlier."),
        paragraph(7, "", "Lee is corrected by hand."),
        paragraph(8, "", "Then Lee Ming and the tower."),
        paragraph(9, "", "Leeward went Li."),
    ]
    assert find_repeated_mistakes(corrections, paragraphs) == {
        8: ["“Lee” is used again; paragraph 7 was corrected to “Li”"]
    }


def repeated(before: str, after: str, later: str) -> list[str]:
    return find_repeated_mistakes([Correction(1, before, after)], [paragraph(5, "", later)]).get(5, [])


def test_after_a_translation_from_scratch_only_names_are_reported() -> None:
    before = "Fengchou in kitchens of brass wept."
    after = "Zhen Hui in halls of smoke, which had been those of his wife, stared through many hours."
    assert repeated(before, after, "Only kitchens.") == []
    (message,) = repeated(before, after, "So Fengchou.")
    assert message == "“Fengchou” is used again; paragraph 2 was corrected to “Zhen Hui”"


def test_a_word_that_was_replaced_by_a_sentence_is_not_reported() -> None:
    sentence = "the long and famous name of the town in which she was born and raised"
    assert repeated("He spoke of Fengchou.", f"He spoke of {sentence}.", "Fengchou again.") == []


@pytest.mark.parametrize(
    ("before", "after", "wrong", "terms", "correct"),
    [
        ("他去了李明家。", "他去了黎明家。", "李明笑了。", ("李明", "黎明"), ["吃了李子。", "黎明笑了。"]),
        ("王明走来。", "王小明走来。", "王明坐下。", ("王明", "王小明"), ["王小明坐下。", "他明天来。"]),
        ("李明明笑了。", "李明笑了。", "是李明明吗？", None, ["是李明吗？"]),
        (
            "リーミンは笑った。",
            "リミンは笑った。",
            "リーミンだ。",
            ("リーミン", "リミン"),
            ["リーミングだ。"],
        ),
        ("山田さんが来た。", "山本さんが来た。", "山田は去った。", ("山田", "山本"), ["田んぼの山。"]),
        ("เขาเห็นหลี่หมิงแล้ว", "เขาเห็นลี่หมิงแล้ว", "หลี่หมิงหัวเราะ", None, ["ลี่หมิงหัวเราะ"]),
        ("他用iPhone打。", "他用Nokia打。", "新iPhone来了。", ("iPhone", "Nokia"), ["新iPhones来了。"]),
    ],
)
def test_repeated_mistakes_without_spaces_between_words(
    before: str, after: str, wrong: str, terms: tuple[str, str] | None, correct: list[str]
) -> None:
    paragraphs = [paragraph(index, "", target) for index, target in enumerate([wrong, *correct], 1)]
    messages = find_repeated_mistakes([Correction(0, before, after)], paragraphs)
    assert list(messages) == [1] and len(messages[1]) == 1, "one message, for the wrong paragraph"
    if terms:
        assert messages[1] == [f"“{terms[0]}” is used again; paragraph 1 was corrected to “{terms[1]}”"]


def test_a_rephrased_sentence_is_no_term() -> None:
    rephrased = Correction(0, "他慢慢地走进了那间又小又黑的屋子。", "他慢慢走进那间黑屋。")
    paragraphs = [paragraph(1, "", "她走进了又小又黑的店。"), paragraph(2, "", "他慢慢地走。")]
    assert find_repeated_mistakes([rephrased], paragraphs) == {}


def test_a_newer_translation_in_the_session_is_no_correction() -> None:
    now = {**BY_INDEX, 7: replace(BY_INDEX[7], target="He went away.", failed_checks=())}
    assert read_corrections(TEXT, now, "storm-1a2b", "f") == []
    edited = TEXT.replace("He went 3.", "He left.")
    assert read_corrections(edited, now, "storm-1a2b", "f") == [Correction(7, "He went away.", "He left.")]


def test_an_empty_failed_paragraph_may_stay_empty_or_be_filled_in() -> None:
    empty = paragraph(0, "灯", "", 3, failed_checks=({"check": "empty", "message": "nothing"},))
    text = review_text([empty], "s")
    assert read_corrections(text, {0: empty}, "s", "f") == []
    filled = text.replace("\n> \n", "\n> lamp\n")
    assert read_corrections(filled, {0: empty}, "s", "f") == [Correction(0, "", "lamp")]


def test_a_file_of_another_session_is_refused() -> None:
    with pytest.raises(TemploraError, match="is a review of storm-1a2b, not of calm-0000"):
        read_corrections(TEXT, BY_INDEX, "calm-0000", "review.txt")
