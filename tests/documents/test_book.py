"""Prose as a book: nothing is lost or interpreted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.book import Book, BookChapter, BookParagraph, Span, book_of_prose
from templora_cli.documents.writers.markdown import write_markdown
from templora_cli.documents.writers.plain_text import write_plain_text

PROSE = st.one_of(st.text(), st.text(alphabet="a# *_\n\r\t\x0b\x85\u2028\u3000"))


def paragraphs(text: str) -> list[BookParagraph]:
    (chapter,) = book_of_prose(text).chapters
    return [paragraph for paragraph in chapter.paragraphs if isinstance(paragraph, BookParagraph)]


def test_every_line_that_is_not_blank_is_a_paragraph() -> None:
    assert paragraphs('\n  "Who?" \n"Me."\n\n \n\tIndented.\n') == [
        BookParagraph((Span('"Who?"'),), "\n  "),
        BookParagraph((Span('"Me."'),), " \n"),
        BookParagraph((Span("Indented."),), "\n\n \n\t"),
    ]
    assert paragraphs(" \n\n") == paragraphs("") == []


def test_markup_is_text() -> None:
    assert [p.spans for p in paragraphs("# One\n\n*so* **much**\n* * *")] == [
        (Span("# One"),),
        (Span("*so* **much**"),),
        (Span("* * *"),),
    ]


def test_title_author_and_language_are_stored() -> None:
    chapters = (BookChapter("", (BookParagraph((Span("a"),), ""),)),)
    assert book_of_prose("a", "T", "A", "en") == Book("T", "A", "en", chapters)
    assert book_of_prose("a").title == ""


@given(PROSE)
def test_only_white_space_at_the_end_is_lost(text: str) -> None:
    result = paragraphs(text)
    assert "".join(p.gap + p.text for p in result) == text.rstrip()
    for paragraph in result:
        assert paragraph.text and paragraph.text == paragraph.text.strip() and "\n" not in paragraph.text
        assert not paragraph.gap.strip()
    assert all("\n" in paragraph.gap for paragraph in result[1:])


@pytest.mark.parametrize(
    ("text", "headings", "chapters", "markdown"),
    [
        ("One\n\na\n\nTwo\n\nb", [(0, 5), (8, 13)], ["One", "Two"], "# One\n\na\n\n# Two\n\nb\n"),
        ("a\n\nPart\n\nOne\nb", [(3, 12)], ["", "Part", "One"], "a\n\n# Part\n\n# One\n\nb\n"),
        ("## One\n\na", [(0, 8)], [""], "## One\n\na\n"),
        ("a\n\nOn", [(3, 8)], ["", "On"], "a\n\n# On\n"),
        ("a\n\nOne", [(90, 95)], [""], "a\n\nOne\n"),
    ],
)
def test_lines_at_headings_are_titles_of_chapters(
    text: str, headings: list[tuple[int, int]], chapters: list[str], markdown: str
) -> None:
    book = book_of_prose(text, headings=headings)
    assert [chapter.title for chapter in book.chapters] == chapters
    assert write_markdown(book).decode() == markdown
    assert write_plain_text(book).decode() == f"{text}\n", "as it is"


def test_a_title_stands_before_the_first_heading() -> None:
    book = book_of_prose("One\n\na", "Title", headings=[(0, 5)])
    assert write_plain_text(book) == b"Title\n\nOne\n\na\n"
    assert write_markdown(book) == b"# Title\n\n## One\n\na\n"
