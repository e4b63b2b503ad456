"""Chapter headings, and lines that only look like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.readers.headings import is_chapter_heading

HEADINGS = """\
Chapter 12
CHAPTER XII
Chapter 12 The House on the Hill
Chapter 4: Who are you?
Part Two
Prologue
EPILOGUE
第十二章 风起
第十二章
第12章大结局
第一回\u3000灵根育孕源流出
序章
第3話「始まり」
제 3 장
제3장 시작
12화
Kapitel 3
3. Kapitel
Глава 3
Глава 3. Начало
ГЛАВА ПЕРВАЯ
Chapitre II
Capítulo 7
Chương 5: Gió
*** Chapter 1 ***
"""
SENTENCES = """\
Chapter 3 was the one he liked best.
Chapter 3 He went home.
Chapter 3 is long
Part of it
Teil der Sache
Part I played in it
第十二章写得很好，他说。
第三部分很长。
第三集的内容是
第三章是最好的
Глава семьи
Chapters 3
Book
I. Kapitelchen
Chapter 3, then the rest,
He read Chapter 3
12화면
"""


@pytest.mark.parametrize("line", HEADINGS.splitlines())
def test_headings_are_detected(line: str) -> None:
    assert is_chapter_heading(line)


@pytest.mark.parametrize("line", SENTENCES.splitlines())
def test_sentences_are_not_headings(line: str) -> None:
    assert not is_chapter_heading(line)


@given(
    st.sampled_from(HEADINGS.splitlines() + SENTENCES.splitlines()),
    st.text(alphabet=" *#=-_~【】[]", max_size=8),
    st.text(alphabet=" *#=-_~【】[]", max_size=8),
)
def test_ornaments_around_a_line_are_ignored(line: str, before: str, after: str) -> None:
    assert is_chapter_heading(before + line + after) == is_chapter_heading(line)


@given(st.sampled_from(["Chapter 4: ", "Kapitel 3 ", "第十二章 ", "12화 "]), st.text(min_size=77))
def test_a_long_line_is_not_a_heading(number: str, rest: str) -> None:
    assert not is_chapter_heading(number + rest.replace(" ", "x").rstrip("*#=-_~【】[]") + "x")


@given(st.text(alphabet=" *#=-_~【】[]\t"))
def test_ornaments_alone_are_not_a_heading(line: str) -> None:
    assert not is_chapter_heading(line)


@given(st.integers(1, 9999))
def test_any_chapter_number_is_detected(number: int) -> None:
    assert is_chapter_heading(f"Chapter {number}") and is_chapter_heading(f"第{number}章")
    assert not is_chapter_heading(f"Chapter {number}th of many")


@pytest.mark.parametrize(
    ("line", "is_heading"),
    [
        ("Chapter 4: " + "x" * 69, True),  # 80 characters
        ("Chapter 4: " + "x" * 70, False),
        ("第三章 " + "风" * 30, True),
        ("第三章 " + "风" * 31, False),
        ("第三章" + "风" * 12, True),  # without a blank
        ("第三章" + "风" * 13, False),
    ],
)
def test_the_length_of_a_title_is_limited(line: str, is_heading: bool) -> None:
    assert is_chapter_heading(line) == is_heading
