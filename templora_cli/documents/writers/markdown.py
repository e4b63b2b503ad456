"""Writes a book as Markdown.

Words are written as they are: no sign in them is escaped. Models and people write *so* in prose and mean it,
and a line of theirs that begins with "#" is a heading to whoever reads the file as Markdown. Escaping would
spoil both, and change what is in the files of books that are being written.
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
"""Where one of these, or the end of a paragraph, is outside, asterisks are markup whatever they enclose."""


def write_markdown(book: Book) -> bytes:
    """The file, in UTF-8. Paragraphs have a blank line between them, for Markdown would join them, and no
    indent, for it would take them for code.
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
    if len(spans) == 1 and not _asterisks(spans[0]):  # as in all of a novel, written after every chunk
        return spans[0].text
    seen = (span for span in spans if span.text)
    looks = [(look, "".join(span.text for span in alike)) for look, alike in groupby(seen, _asterisks)]
    befores = ["", *(_beside(look, text[-1:]) for look, text in looks)]
    afters = [*(_beside(look, text[:1]) for look, text in looks[1:]), ""]
    return "".join(
        _marked(text, look, before, after) if look and text.strip() else text
        for (look, text), before, after in zip(looks, befores, afters, strict=False)
    )


def _asterisks(span: Span) -> str:
    return "*" * (span.emphasis + 2 * span.strong)


def _beside(look: str, char: str) -> str:
    """What a neighbour with `look` has there: `char`, or markup, which is taken to be an asterisk."""
    return "*" if look and not char.isspace() else char


def _marked(text: str, asterisks: str, before: str, after: str) -> str:
    """`text` between asterisks, or tags where those would not be read as markup: as between a letter and a
    quotation mark, or beside others. Blanks at its ends stay outside.
    """
    words = text.strip()
    start = text.index(words)
    lead, trail = text[:start], text[start + len(words) :]
    opening = closing = asterisks
    if not (_fits(lead[-1:] or before, words[0]) and _fits(trail[:1] or after, words[-1])):
        opening, closing = _TAGS[asterisks]
    return f"{lead}{opening}{words}{closing}{trail}"


def _fits(outside: str, inside: str) -> bool:
    """Whether asterisks between these two characters are markup."""
    return outside in _BLANKS or (inside.isalnum() and outside != "*")
