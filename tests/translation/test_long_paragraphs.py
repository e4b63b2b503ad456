"""Paragraphs that are cut to be translated, and put together again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.document import Document
from templora_cli.documents.readers.text_file import TextDocument
from templora_cli.translation.long_paragraphs import CutDocument, cuts_of, parts_of

SOURCE = "Eins. Zwei. Drei.\n\nVier.\n\nKapitel 2\n\nFünf. <1>Sechs.\n"


def document(text: str = SOURCE) -> Document:
    return TextDocument(text.encode(), "book.txt", None)


def cut(most: int) -> CutDocument:
    whole = document()
    return CutDocument(whole, cuts_of(whole.paragraphs, len, most))


@given(st.text("ab. 。<1>", max_size=300), st.integers(8, 40))
def test_the_parts_are_the_text(text: str, most: int) -> None:
    parts = parts_of(text, len, together=most, longest=most)
    assert "".join(parts) == text
    assert all(len(part) <= most for part in parts)


def test_a_text_that_fits_stays_whole() -> None:
    assert cut(100).cuts == {}
    assert cut(100).paragraphs == [*document().paragraphs]
    assert cut(100).render({}, "en") == SOURCE.encode()


def test_long_ones_are_paragraphs_in_parts() -> None:
    parts = cut(12)
    assert [paragraph.text for paragraph in parts.paragraphs][:3] == ["Eins. Zwei.", "Drei.", "Vier."]
    assert [parts.place(number) for number in range(4)] == [0, 2, 3, 4]
    assert [parts.numbers[place] for place in range(4)] == ["1.1", "1.2", "2", "3"], "as the file has them"
    firsts = [(chapter.first, chapter.end) for chapter in parts.chapters]
    assert firsts[0][0] == 0 and firsts[-1][1] == len(parts.paragraphs)
    assert {paragraph.chapter for paragraph in parts.paragraphs} == set(range(len(firsts)))


def test_the_parts_are_joined_as_the_language_does() -> None:
    parts = cut(12)
    said = parts.render({0: "One. Two.", 1: "Three.", 2: "Four."}, "en").decode()
    assert said.startswith("One. Two. Three.\n\nFour.\n")
    assert parts.render({0: "一。二。", 1: "三。"}, "zh").decode().startswith("一。二。三。\n\nVier.\n")


def test_parts_that_are_not_translated_stay_as_they_are() -> None:
    assert cut(12).render({1: "Three.", 0: " "}, "en").decode().startswith("Eins. Zwei. Three.\n\nVier.")
