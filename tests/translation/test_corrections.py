"""The file that a person corrects: what was changed in it, and what came back wrong later."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.translation.corrections import Correction, corrections_of, relapses, review_text
from templora_cli.translation.corrections import replaced as words_replaced
from templora_cli.translation.report import Line

ONE_LINE = st.text(min_size=1, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)
LINES = [
    Line(6, "李明笑了。", "Lee Ming laughed.", 1, ()),
    Line(7, "他走了。", "He went 3.", 3, ({"check": "numbers", "message": "3 is new"},)),
    Line(9, "李明来了。", "Li Ming came.", 1, ()),
]
BY_NUMBER = {line.paragraph: line for line in LINES}
TEXT = review_text(LINES, "storm-1a2b")


def test_a_file_that_nobody_changed_corrects_nothing() -> None:
    assert "] failed: 3 is new\n< 他走了。\n> He went 3.\n" in TEXT
    assert corrections_of(TEXT, BY_NUMBER, "storm-1a2b", "review.txt") == []


def test_what_was_changed_and_what_was_approved() -> None:
    edited = TEXT.replace("Lee Ming laughed", "Li Ming  laughed").replace("> Li Ming came", "= Li Ming came")
    assert corrections_of(edited, BY_NUMBER, "storm-1a2b", "review.txt") == [
        Correction(6, "Lee Ming laughed.", "Li Ming laughed."),
        Correction(9, "Li Ming came.", "Li Ming came."),
    ]


@given(ONE_LINE, ONE_LINE, ONE_LINE)
def test_any_text_comes_back(source: str, before: str, after: str) -> None:
    line = Line(0, source, before, 1, ())
    edited = review_text([line], "s").replace(f"\n> {before}\n", f"\n> {after}\n")
    found = corrections_of(edited, {0: line}, "s", "f")
    assert found == ([] if before == after else [Correction(0, before, after)])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("@8 ", "@80 "), "review.txt, line 8: there is no paragraph 80"),
        (("> He went 3.", ">"), "line 10: the translation is empty"),
        (("> He went 3.", "> He went\nagain."), "line 11: is no line of a review"),
        (("> He went 3.", "> a\n> b"), "line 11: belongs to no paragraph"),
        (("@7 ", "# "), "line 5: is no line of a review"),
    ],
)
def test_mistakes_are_named_with_their_line(edit: tuple[str, str], says: str) -> None:
    assert edit[0] in TEXT
    with pytest.raises(TemploraError, match=re.escape(says)):
        corrections_of(TEXT.replace(*edit, 1), BY_NUMBER, "storm-1a2b", "review.txt")


def test_a_part_of_a_long_paragraph_goes_by_the_number_of_that() -> None:
    lines = {
        place: replace(line, number=number)
        for (place, line), number in zip(BY_NUMBER.items(), ["3.1", "3.2", "4"], strict=True)
    }
    text = review_text(lines.values(), "storm-1a2b")
    assert re.findall("^@([0-9.]+) ", text, re.MULTILINE) == ["3.1", "3.2", "4"]
    edited = text.replace("> He went 3", "> He left").replace("> Li Ming came", "= Li Ming came")
    assert corrections_of(edited, lines, "storm-1a2b", "review.txt") == [
        Correction(7, "He went 3.", "He left."),
        Correction(9, "Li Ming came.", "Li Ming came."),
    ]
    came_back = [lines[7], replace(LINES[2], number="4", target="Lee Ming came.")]
    assert relapses([Correction(7, "He saw Lee.", "He saw Li.")], came_back) == {
        9: ["“Lee” stands here, which paragraph 3.2 corrected to “Li”"]
    }


def test_a_file_with_numbers_of_other_paragraphs_is_refused() -> None:
    told = "review.txt, line 9: is the source of another paragraph than 10"
    with pytest.raises(TemploraError, match=told):
        corrections_of(TEXT.replace("@8 ", "@10 "), BY_NUMBER, "storm-1a2b", "review.txt")
    typo = TEXT.replace("< 他走了。", "< 她走了。")
    assert corrections_of(typo, BY_NUMBER, "storm-1a2b", "review.txt") == []


def test_the_words_that_were_replaced() -> None:
    assert words_replaced("Lee Ming laughed, loudly.", "Li Ming laughed, loudly.") == [[("Lee", "Li")]]
    assert words_replaced("a b", "a b c") == []


def test_a_correction_that_comes_back_wrong_is_told() -> None:
    corrections = [
        Correction(6, "Lee Ming laughed at the tower.", "Li Ming laughed at the tower."),
        Correction(7, "The tower fell.", "The spire fell."),
    ]
    later = [
        Line(3, "", "Lee Ming was earlier.", 1, ()),
        Line(7, "", "Lee is corrected by hand.", 1, ()),
        Line(8, "", "Then Lee Ming and the tower.", 1, ()),
        Line(9, "", "Leeward went Li.", 1, ()),
    ]
    assert relapses(corrections, later) == {8: ["“Lee” stands here, which paragraph 7 corrected to “Li”"]}


def told_by(before: str, after: str, later: str) -> list[str]:
    return relapses([Correction(1, before, after)], [Line(5, "", later, 1, ())]).get(5, [])


def test_in_what_was_translated_anew_only_names_can_come_back() -> None:
    before = "Fengchou in kitchens of brass wept."
    after = "Zhen Hui in halls of smoke, which had been those of his wife, stared through many hours."
    assert told_by(before, after, "Only kitchens.") == []
    (told,) = told_by(before, after, "So Fengchou.")
    assert told == "“Fengchou” stands here, which paragraph 2 corrected to “Zhen Hui”"


def test_a_word_that_a_whole_sentence_replaced_is_none() -> None:
    sentence = "the long and famous name of the town in which she was born and raised"
    assert told_by("He spoke of Fengchou.", f"He spoke of {sentence}.", "Fengchou again.") == []


@pytest.mark.parametrize(
    ("before", "after", "back", "told", "fine"),
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
def test_what_comes_back_wrong_where_there_are_no_spaces(
    before: str, after: str, back: str, told: tuple[str, str] | None, fine: list[str]
) -> None:
    lines = [Line(n, "", target, 1, ()) for n, target in enumerate([back, *fine], 1)]
    found = relapses([Correction(0, before, after)], lines)
    assert list(found) == [1] and len(found[1]) == 1, "in the one, once"
    if told:
        assert found[1] == [f"“{told[0]}” stands here, which paragraph 1 corrected to “{told[1]}”"]


def test_another_turn_of_a_sentence_is_no_term() -> None:
    put_otherwise = Correction(0, "他慢慢地走进了那间又小又黑的屋子。", "他慢慢走进那间黑屋。")
    later = [Line(1, "", "她走进了又小又黑的店。", 1, ()), Line(2, "", "他慢慢地走。", 1, ())]
    assert relapses([put_otherwise], later) == {}


def test_what_was_translated_again_in_the_meantime_is_no_correction() -> None:
    now = {**BY_NUMBER, 7: replace(BY_NUMBER[7], target="He went away.", failed_checks=())}
    assert corrections_of(TEXT, now, "storm-1a2b", "f") == []
    edited = TEXT.replace("He went 3.", "He left.")
    assert corrections_of(edited, now, "storm-1a2b", "f") == [Correction(7, "He went away.", "He left.")]


def test_a_failed_paragraph_that_is_empty_is_left_alone_and_may_be_filled() -> None:
    lines = {0: Line(0, "灯", "", 3, ({"check": "empty", "message": "nothing"},))}
    text = review_text(lines.values(), "s")
    assert corrections_of(text, lines, "s", "f") == []
    assert corrections_of(text.replace("\n> \n", "\n> lamp\n"), lines, "s", "f") == [
        Correction(0, "", "lamp")
    ]


def test_a_file_of_another_session_is_refused() -> None:
    with pytest.raises(TemploraError, match="is a review of storm-1a2b, not of calm-0000"):
        corrections_of(TEXT, BY_NUMBER, "calm-0000", "review.txt")
