"""Writes a book as plain text: the words alone, parted as they were."""

from __future__ import annotations

from collections.abc import Iterator

from templora_cli.documents.book import Book, BookChapter, BookParagraph

_APART = "\n\n"
_SCENE_BREAK = "* * *"


def write_plain_text(book: Book) -> bytes:
    """The file, in UTF-8. Prose has the bytes that it had, but for white space at its ends."""
    pieces = [piece for words in (book.title, book.author) if words for piece in (_APART, words)]
    for chapter in book.chapters:
        pieces += _pieces(chapter)
    return ("".join(pieces[1:]) + "\n").encode("utf-8")  # nothing stands before the first words


def _pieces(chapter: BookChapter) -> Iterator[str]:
    """What is written for a chapter: white space and words in turn."""
    if chapter.title:
        yield from (_APART, chapter.title)
    for index, paragraph in enumerate(chapter.paragraphs):
        if isinstance(paragraph, BookParagraph):
            yield from (paragraph.gap if index else _APART, paragraph.text)
        else:
            yield from (_APART, _SCENE_BREAK)
