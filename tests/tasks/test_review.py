"""The file that a person corrects: what was changed in it, and what came back wrong later."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.tasks.report import Line
from templora_cli.tasks.review import Correction, corrections_of, relapses, replaced, review_text

ONE_LINE = st.text(min_size=1, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)
LINES = [
    Line(6, "李明笑了。", "Lee Ming laughed.", 1, ()),
    Line(7, "他走了。", "He went 3.", 3, ({"check": "numbers", "message": "3 is new"},)),
    Line(9, "李明来了。", "Li Ming came.", 1, ()),
]
BY_NUMBER = {line.paragraph: line for line in LINES}
TEXT = review_text(LINES, "storm-1a2b")


def test_a_file_that_nobody_changed_corrects_nothing() -> None:
    assert "@8 failed: 3 is new\n< 他走了。\n> He went 3.\n" in TEXT
    assert corrections_of(TEXT, BY_NUMBER, "review.txt") == []


def test_what_was_changed_and_what_was_approved() -> None:
    edited = TEXT.replace("Lee Ming laughed", "Li Ming  laughed").replace("> Li Ming came", "= Li Ming came")
    assert corrections_of(edited, BY_NUMBER, "review.txt") == [
        Correction(6, "Lee Ming laughed.", "Li Ming laughed."),
        Correction(9, "Li Ming came.", "Li Ming came."),
    ]


@given(ONE_LINE, ONE_LINE, ONE_LINE)
def test_any_text_comes_back(source: str, before: str, after: str) -> None:
    line = Line(0, source, before, 1, ())
    edited = review_text([line], "s").replace(f"\n> {before}\n", f"\n> {after}\n")
    found = corrections_of(edited, {0: line}, "f")
    assert found == ([] if before == after else [Correction(0, before, after)])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("@8", "@80"), "review.txt, line 8: there is no paragraph 80"),
        (("> He went 3.", ">"), "line 10: the translation is empty"),
        (("> He went 3.", "> He went\nagain."), "line 11: begins with none of"),
        (("> He went 3.", "> a\n> b"), "line 11: belongs to no paragraph"),
        (("@7 good", "# gone"), "line 6: belongs to no paragraph"),
    ],
)
def test_mistakes_are_named_with_their_line(edit: tuple[str, str], says: str) -> None:
    assert edit[0] in TEXT
    with pytest.raises(TemploraError, match=re.escape(says)):
        corrections_of(TEXT.replace(*edit, 1), BY_NUMBER, "review.txt")


def test_the_words_that_were_replaced() -> None:
    assert replaced("Lee Ming laughed, loudly.", "Li Ming laughed, loudly.") == [("Lee", "Li")]
    assert replaced("a b", "a b c") == []


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
    assert relapses(corrections, later) == {8: ["“Lee” is back, which paragraph 7 corrected to “Li”"]}
