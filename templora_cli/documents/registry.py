"""The table of file formats: the reader and the writer of each.

A new format is a row of `FORMATS` and a file in `readers/` or `writers/`. That file is imported only when its
row is used, so a command that only checks a suffix loads no parser.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from templora_cli.documents.book import Book
from templora_cli.documents.document import MAX_BYTES, MAX_TEXT_BYTES, Document
from templora_cli.documents.encoding import guessed_encoding, notice_of_guess
from templora_cli.documents.manuscript_blocks import ManuscriptSource
from templora_cli.documents.signature import check_not_empty, check_text, check_word, check_zip, is_html
from templora_cli.documents.text_input import unreadable
from templora_cli.errors import TemploraError

Read = Callable[[bytes, str, str, str | None], Document]
"""Arguments: content, suffix, name in errors, and the encoding that the user named, if any."""
ReadManuscript = Callable[[bytes, str, str, str | None], ManuscriptSource]
"""Arguments: as those of `Read`."""
Check = Callable[[bytes, str, str], None]
"""Arguments: content, suffix, name in errors. Raises TemploraError for content of another format."""
Write = Callable[[Book], bytes]

_SPLIT = "split it into parts"


@dataclass(frozen=True)
class FileFormat:
    """A row of the table; `suffixes` are in lower case, with the dot."""

    suffixes: tuple[str, ...]
    read: Read
    is_text: bool
    """Whether the file is one text. Then the user may name its encoding, and the limit on texts holds for it.
    Readers of other formats handle both."""
    check: Check | None = None
    declared: Callable[[bytes], str | None] | None = None
    """Returns the encoding that a text itself states, if the format has a place for it."""
    write: Write | None = None
    manuscript: ReadManuscript | None = None


def _read_txt(content: bytes, suffix: str, name: str, encoding: str | None) -> Document:
    from templora_cli.documents.readers.text_file import TextDocument

    return TextDocument(content, name, encoding)


def _read_md(content: bytes, suffix: str, name: str, encoding: str | None) -> Document:
    from templora_cli.documents.readers.markdown import MarkdownDocument

    return MarkdownDocument(content, name, encoding)


def _read_html(content: bytes, suffix: str, name: str, encoding: str | None) -> Document:
    from templora_cli.documents.readers.html import HtmlDocument

    return HtmlDocument(content, name, encoding, suffix=suffix)


def _read_epub(content: bytes, suffix: str, name: str, encoding: str | None) -> Document:
    from templora_cli.documents.readers.epub import EpubDocument

    return EpubDocument(content, name)


def _read_docx(content: bytes, suffix: str, name: str, encoding: str | None) -> Document:
    from templora_cli.documents.readers.docx import DocxDocument

    return DocxDocument(content, name)


def _manuscript_txt(content: bytes, suffix: str, name: str, encoding: str | None) -> ManuscriptSource:
    from templora_cli.documents.readers.manuscript_text import read_text_manuscript

    return read_text_manuscript(content, name, encoding)


def _manuscript_md(content: bytes, suffix: str, name: str, encoding: str | None) -> ManuscriptSource:
    from templora_cli.documents.readers.manuscript_markdown import read_markdown_manuscript

    return read_markdown_manuscript(content, name, encoding)


def _manuscript_html(content: bytes, suffix: str, name: str, encoding: str | None) -> ManuscriptSource:
    from templora_cli.documents.readers.manuscript_page import read_html_manuscript

    return read_html_manuscript(content, name, encoding)


def _manuscript_epub(content: bytes, suffix: str, name: str, encoding: str | None) -> ManuscriptSource:
    from templora_cli.documents.readers.manuscript_epub import read_epub_manuscript

    return read_epub_manuscript(content, name)


def _manuscript_docx(content: bytes, suffix: str, name: str, encoding: str | None) -> ManuscriptSource:
    from templora_cli.documents.readers.manuscript_docx import read_docx_manuscript

    return read_docx_manuscript(content, name)


def _write_txt(book: Book) -> bytes:
    from templora_cli.documents.writers.plain_text import write_plain_text

    return write_plain_text(book)


def _write_md(book: Book) -> bytes:
    from templora_cli.documents.writers.markdown import write_markdown

    return write_markdown(book)


def _declared_html(content: bytes) -> str | None:
    from templora_cli.documents.readers.html import declared_encoding

    return declared_encoding(content)


FORMATS = (
    FileFormat(
        (".txt",), _read_txt, is_text=True, check=check_text, write=_write_txt, manuscript=_manuscript_txt
    ),
    FileFormat(
        (".md",), _read_md, is_text=True, check=check_text, write=_write_md, manuscript=_manuscript_md
    ),
    FileFormat(
        (".html", ".htm"),
        _read_html,
        is_text=True,
        check=check_text,
        declared=_declared_html,
        manuscript=_manuscript_html,
    ),
    FileFormat(
        (".epub",),
        _read_epub,
        is_text=False,
        check=partial(check_zip, expected="an EPUB"),
        manuscript=_manuscript_epub,
    ),
    FileFormat((".docx",), _read_docx, is_text=False, check=check_word, manuscript=_manuscript_docx),
)
_PLAIN_TEXT, _MARKDOWN, _HTML = FORMATS[:3]


def read_document(
    path: Path,
    *,
    encoding: str | None = None,
    formats: Sequence[FileFormat] = FORMATS,
    max_bytes: int = MAX_BYTES,
    notify: Callable[[str], None] | None = None,
) -> Document:
    """Read a file of one of the `formats`.

    `encoding` is that of a text file; without it, the encoding is detected, and `notify` is told of a guess.
    Raises TemploraError: missing, unreadable, too large, and all that `parse_document` raises.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise TemploraError(f"{path} is over {max_bytes >> 20} MB", _SPLIT)
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    return parse_document(content, path.suffix, str(path), encoding=encoding, formats=formats, notify=notify)


def parse_document(
    content: bytes,
    suffix: str,
    name: str,
    *,
    encoding: str | None = None,
    formats: Sequence[FileFormat] = FORMATS,
    max_text_bytes: int = MAX_TEXT_BYTES,
    notify: Callable[[str], None] | None = None,
) -> Document:
    """The document in the bytes of a file; `suffix` is its format, `name` names the file in errors.

    Raises TemploraError: an unknown suffix; content of another format, damaged, protected or empty; an
    unknown or wrong encoding; no words to translate.
    """
    suffix = suffix.lower()
    file_format = _format_of(suffix, formats)
    if file_format is None:
        readable = " ".join(suffix for row in formats for suffix in row.suffixes)
        raise TemploraError(
            f"{name}: {suffix or 'a file without a suffix'} cannot be read",
            f"convert it to one of {readable}, for example with Calibre or LibreOffice",
        )
    encoding = _checked_encoding(
        content, suffix, name, file_format, encoding, max_text_bytes=max_text_bytes, notify=notify
    )
    document = file_format.read(content, suffix, name, encoding)
    if not document.paragraphs:
        raise TemploraError(f"{name} has no words in it", "use a file that contains text")
    return document


def parse_manuscript_source(
    content: bytes,
    suffix: str,
    name: str,
    *,
    encoding: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> ManuscriptSource:
    """The manuscript in the bytes of a file, as the reader of its format returns it.

    A file with an unknown suffix is plain text, or an HTML page if it begins like one.
    Raises TemploraError as `parse_document` does, except for an unknown suffix.
    """
    suffix = suffix.lower()
    row = _format_of(suffix, FORMATS) or (_MARKDOWN if suffix in (".markdown", ".mkd") else _PLAIN_TEXT)
    if row is _PLAIN_TEXT and is_html(content):
        row = _HTML
    encoding = _checked_encoding(content, suffix, name, row, encoding, notify=notify)
    assert row.manuscript is not None
    return row.manuscript(content, suffix, name, encoding)


def _checked_encoding(
    content: bytes,
    suffix: str,
    name: str,
    file_format: FileFormat,
    encoding: str | None,
    *,
    max_text_bytes: int = MAX_TEXT_BYTES,
    notify: Callable[[str], None] | None,
) -> str | None:
    """The encoding of a file that can be read in the format, or None if it leaves no doubt.

    Raises TemploraError: an encoding for a format that is not text; content of another format, empty or too
    large.
    """
    if encoding is not None and not file_format.is_text:
        raise TemploraError(
            f"{name}: an encoding is only for text files",
            "leave out --encoding: the file states its own",
        )
    check_not_empty(content, name)
    if file_format.check is not None:
        file_format.check(content, suffix, name)
    if file_format.is_text and len(content) > max_text_bytes:
        raise TemploraError(f"{name} is over {max_text_bytes >> 20} MB of text", _SPLIT)
    if encoding is None and notify is not None:
        return _guess(content, name, file_format, notify)
    return encoding


def _guess(content: bytes, name: str, file_format: FileFormat, notify: Callable[[str], None]) -> str | None:
    """The encoding of a text that does not state it, after telling `notify`; None if there is no doubt."""
    if not file_format.is_text or (file_format.declared and file_format.declared(content)):
        return None
    guess = guessed_encoding(content, name)
    if guess is not None:
        notify(notice_of_guess(guess, name))
    return guess


def render_book(book: Book, path: Path, *, formats: Sequence[FileFormat] = FORMATS) -> bytes:
    """The bytes of `book` in the format of the suffix of `path`.

    Raises TemploraError if that format has no writer.
    """
    return _writer_for(path, formats)(book)


def check_book_suffix(path: Path, *, formats: Sequence[FileFormat] = FORMATS) -> None:
    """Raise TemploraError if `render_book` would."""
    _writer_for(path, formats)


def _writer_for(path: Path, formats: Sequence[FileFormat]) -> Write:
    file_format = _format_of(path.suffix.lower(), formats)
    if file_format is None or file_format.write is None:
        suffixes = sorted(suffix for row in formats if row.write for suffix in row.suffixes)
        instead = shlex.quote(str(path.with_name(f"{path.stem or 'book'}.md")))
        raise TemploraError(f"{path.name}: a book is written as {' or '.join(suffixes)}", f"--out {instead}")
    return file_format.write


def _format_of(suffix: str, formats: Sequence[FileFormat]) -> FileFormat | None:
    return next((row for row in formats if suffix in row.suffixes), None)
