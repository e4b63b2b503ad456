"""Prose as a book: nothing is lost or interpreted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.book import Book, BookChapter, BookParagraph, Span, book_of_prose

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
