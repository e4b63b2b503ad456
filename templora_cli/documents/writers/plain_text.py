"""Writes a book as plain text, with its original blank lines and indents."""

from __future__ import annotations

from collections.abc import Iterator

from templora_cli.documents.book import Book, BookChapter, BookParagraph

_GAP = "\n\n"
_SCENE_BREAK = "* * *"


def write_plain_text(book: Book) -> bytes:
    """The file, in UTF-8. Prose from a model stays unchanged, except for white space at its ends."""
    pieces = [piece for words in (book.title, book.author) if words for piece in (_GAP, words)]
    for chapter in book.chapters:
        pieces += _pieces(chapter)
    return ("".join(pieces[1:]) + "\n").encode("utf-8")  # no gap before the first text


def _pieces(chapter: BookChapter) -> Iterator[str]:
    """The text of a chapter: gaps and texts in turn."""
    if chapter.title:
        yield from (chapter.gap, chapter.title)
    for index, paragraph in enumerate(chapter.paragraphs):
        if isinstance(paragraph, BookParagraph):
            yield from (paragraph.gap if index or chapter.title else _GAP, paragraph.text)
        else:
            yield from (_GAP, _SCENE_BREAK)
