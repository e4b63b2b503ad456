"""Books as plain text."""

from __future__ import annotations

import time

from hypothesis import given

from templora_cli.documents.book import Book, BookChapter, BookParagraph, SceneBreak, Span, book_of_prose
from templora_cli.documents.writers.plain_text import write_plain_text
from tests.documents.test_book import PROSE


@given(PROSE)
def test_prose_is_unchanged_except_at_its_ends(text: str) -> None:
    assert write_plain_text(book_of_prose(text)).decode() == f"{text.strip()}\n"


def test_a_book_with_title_author_chapters_and_scene_breaks() -> None:
    one = (
        BookParagraph((Span("It was "), Span("so", emphasis=True), Span(" dark."))),
        BookParagraph((Span("Very."),), "\n"),
        SceneBreak(),
        BookParagraph((Span("Then light."),)),
    )
    two = BookChapter("Two", (SceneBreak(), BookParagraph((Span("End."),))))
    book = Book("The Lamp", "A. Writer", "en", (BookChapter("One", one), two))
    assert write_plain_text(book).decode() == (
        "The Lamp\n\nA. Writer\n\nOne\n\nIt was so dark.\nVery.\n\n* * *\n\nThen light.\n\n"
        "Two\n\n* * *\n\nEnd.\n"
    )


def test_the_gap_before_the_first_paragraph_of_a_chapter_is_ignored() -> None:
    chapter = BookChapter("", (BookParagraph((Span("a"),), "\n\n\n\n   "),))
    assert write_plain_text(Book("", "", "", (chapter, chapter))) == b"a\n\na\n"


def test_a_megabyte_is_written_in_linear_time() -> None:
    text = '"Where?" she asked, and went on along the wet road.\n' * 20_000
    start = time.perf_counter()
    for shape in (text, "a" + " " * 1_000_000 + "\nb", "\n" * 1_000_000 + "b", "word " * 200_000):
        assert write_plain_text(book_of_prose(shape)).decode() == f"{shape.strip()}\n"
    assert time.perf_counter() - start < 10  # half a second on an idle core; minutes if it were quadratic
