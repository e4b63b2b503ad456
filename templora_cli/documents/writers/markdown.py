"""Writes a book as Markdown.

Text is not escaped. Models and people write Markdown in prose on purpose: *so* is emphasis, and a line that
begins with "#" is a heading. Escaping would spoil both, and would change the files of unfinished books.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from templora_cli.documents.book import Book, BookParagraph, Span

_SCENE_BREAK = "* * *"
_TAGS = {
    "*": ("<em>", "</em>"),
    "**": ("<strong>", "</strong>"),
    "***": ("<em><strong>", "</strong></em>"),
}
_BLANKS = ("", " ", "\u3000")
"""Next to one of these, or to the end of a paragraph, asterisks are always markup."""


def write_markdown(book: Book) -> bytes:
    """The file, in UTF-8. Blank lines separate paragraphs, because Markdown joins adjacent lines; indents are
    dropped, because Markdown reads indented lines as code.
    """
    return ("\n\n".join(_blocks(book)) + "\n").encode("utf-8")


def _blocks(book: Book) -> Iterator[str]:
    if book.title:
        yield f"# {book.title}"
    if book.author:
        yield book.author
    marks = "##" if book.title else "#"
    for chapter in book.chapters:
        if chapter.title:
            yield f"{marks} {chapter.title}"
        for paragraph in chapter.paragraphs:
            yield _words(paragraph.spans) if isinstance(paragraph, BookParagraph) else _SCENE_BREAK


def _words(spans: tuple[Span, ...]) -> str:
    """The words of a paragraph with their emphasis."""
    if len(spans) == 1 and not _asterisks(
        spans[0]
    ):  # the usual case, and fast: the book is written after every chunk
        return spans[0].text
    with_text = (span for span in spans if span.text)
    parts = [(marks, "".join(span.text for span in group)) for marks, group in groupby(with_text, _asterisks)]
    befores = ["", *(_neighbour(marks, text[-1:]) for marks, text in parts)]
    afters = [*(_neighbour(marks, text[:1]) for marks, text in parts[1:]), ""]
    return "".join(
        _emphasise(text, marks, before, after) if marks and text.strip() else text
        for (marks, text), before, after in zip(parts, befores, afters, strict=False)
    )


def _asterisks(span: Span) -> str:
    return "*" * (span.emphasis + 2 * span.strong)


def _neighbour(marks: str, char: str) -> str:
    """The character next to a part: `char`, or an asterisk if `char` is inside `marks`."""
    return "*" if marks and not char.isspace() else char


def _emphasise(text: str, asterisks: str, before: str, after: str) -> str:
    """`text` between asterisks, or between tags where asterisks would not be markup: between a letter and a
    quotation mark, or next to other asterisks. Blanks at its ends stay outside.
    """
    words = text.strip()
    start = text.index(words)
    lead, trail = text[:start], text[start + len(words) :]
    opening = closing = asterisks
    if not (_are_markup(lead[-1:] or before, words[0]) and _are_markup(trail[:1] or after, words[-1])):
        opening, closing = _TAGS[asterisks]
    return f"{lead}{opening}{words}{closing}{trail}"


def _are_markup(outside: str, inside: str) -> bool:
    """Whether asterisks between these two characters are markup."""
    return outside in _BLANKS or (inside.isalnum() and outside != "*")
