"""Long paragraphs are split for translation and joined again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.document import Document
from templora_cli.documents.readers.text_file import TextDocument
from templora_cli.translation.long_paragraphs import SplitDocument, find_splits, split_text

SOURCE = "Eins. Zwei. Drei.\n\nVier.\n\nKapitel 2\n\nFünf. <1>Sechs.\n"


def document(text: str = SOURCE) -> Document:
    return TextDocument(text.encode(), "book.txt", None)


def split(max_tokens: int) -> SplitDocument:
    original = document()
    return SplitDocument(original, find_splits(original.paragraphs, len, max_tokens))


@given(st.text("ab. 。<1>", max_size=300), st.integers(8, 40))
def test_the_parts_joined_are_the_text(text: str, max_tokens: int) -> None:
    parts = split_text(text, len, group_tokens=max_tokens, max_tokens=max_tokens)
    assert "".join(parts) == text
    assert all(len(part) <= max_tokens for part in parts)


def test_short_paragraphs_are_not_split() -> None:
    assert split(100).splits == {}
    assert split(100).paragraphs == [*document().paragraphs]
    assert split(100).render({}, "en") == SOURCE.encode()


def test_the_parts_of_a_long_paragraph_are_paragraphs() -> None:
    parts = split(12)
    assert [paragraph.text for paragraph in parts.paragraphs][:3] == ["Eins. Zwei.", "Drei.", "Vier."]
    assert [parts.index_of(original_index) for original_index in range(4)] == [0, 2, 3, 4]
    assert [parts.numbers[index] for index in range(4)] == ["1.1", "1.2", "2", "3"], "as in the file"
    bounds = [(chapter.first, chapter.end) for chapter in parts.chapters]
    assert bounds[0][0] == 0 and bounds[-1][1] == len(parts.paragraphs)
    assert {paragraph.chapter for paragraph in parts.paragraphs} == set(range(len(bounds)))


def test_parts_are_joined_with_the_spaces_of_the_language() -> None:
    parts = split(12)
    english = parts.render({0: "One. Two.", 1: "Three.", 2: "Four."}, "en").decode()
    assert english.startswith("One. Two. Three.\n\nFour.\n")
    assert parts.render({0: "一。二。", 1: "三。"}, "zh").decode().startswith("一。二。三。\n\nVier.\n")


def test_parts_without_a_translation_stay_as_they_are() -> None:
    assert split(12).render({1: "Three.", 0: " "}, "en").decode().startswith("Eins. Zwei. Three.\n\nVier.")
