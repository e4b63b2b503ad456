"""The formats of files: how each is read, and how a book is written in it.

A new format is a row of `FORMATS`, and a file of its own in `readers/` or `writers/`. That file is imported
where its row is used: a command that only looks at a suffix loads no parser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from templora_cli.documents.book import Book
from templora_cli.documents.document import MAX_BYTES, MAX_TEXT_BYTES, Document
from templora_cli.documents.signature import check_not_empty, check_text, check_word, check_zip
from templora_cli.errors import TemploraError

Read = Callable[[bytes, str, str, str | None], Document]
"""Of the content of a file, its suffix, its name in errors, and the encoding that the user says it has."""
Check = Callable[[bytes, str, str], None]
"""Of the content, suffix and name: raises TemploraError where the content is plainly of another format."""
Write = Callable[[Book], bytes]

_SPLIT = "split it and translate the parts"


@dataclass(frozen=True)
class FileFormat:
    """A row of the table; `suffixes` are in lower case, with their dots."""

    suffixes: tuple[str, ...]
    read: Read
    is_text: bool
    """A text has an encoding, which a user may say, and a size that no book exceeds; else its reader sees
    to both."""
    check: Check | None = None
    write: Write | None = None


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


def _write_txt(book: Book) -> bytes:
    from templora_cli.documents.writers.plain_text import write_plain_text

    return write_plain_text(book)


def _write_md(book: Book) -> bytes:
    from templora_cli.documents.writers.markdown import write_markdown

    return write_markdown(book)


FORMATS = (
    FileFormat((".txt",), _read_txt, is_text=True, check=check_text, write=_write_txt),
    FileFormat((".md",), _read_md, is_text=True, check=check_text, write=_write_md),
    FileFormat((".html", ".htm"), _read_html, is_text=True, check=check_text),
    FileFormat((".epub",), _read_epub, is_text=False, check=partial(check_zip, wanted="an EPUB")),
    FileFormat((".docx",), _read_docx, is_text=False, check=check_word),
)


def read_document(
    path: Path,
    *,
    encoding: str | None = None,
    formats: Sequence[FileFormat] = FORMATS,
    max_bytes: int = MAX_BYTES,
) -> Document:
    """Read a file of one of the `formats`.

    `encoding` says what the bytes of a text are, where detection fails or errs.
    Raises TemploraError: missing, unreadable, too large, and all that `parse_document` raises.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise TemploraError(f"{path} is over {max_bytes >> 20} MB", _SPLIT)
        content = path.read_bytes()
    except FileNotFoundError:
        raise TemploraError(f"there is no file {path}", "check the path") from None
    except OSError as error:
        raise TemploraError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    return parse_document(content, path.suffix, str(path), encoding=encoding, formats=formats)


def parse_document(
    content: bytes,
    suffix: str,
    name: str,
    *,
    encoding: str | None = None,
    formats: Sequence[FileFormat] = FORMATS,
    max_text_bytes: int = MAX_TEXT_BYTES,
) -> Document:
    """The document of a file's bytes; `suffix` says the format and `name` names the file in errors.

    Raises TemploraError: an unknown suffix, bytes that are of another format, damaged, protected or empty,
    an encoding that is unknown or wrong, no words to translate.
    """
    suffix = suffix.lower()
    found = _format_of(suffix, formats)
    if found is None:
        readable = " ".join(suffix for known in formats for suffix in known.suffixes)
        raise TemploraError(
            f"{name}: {suffix or 'a file without a suffix'} cannot be read",
            f"convert it to one of {readable}, for example with Calibre or LibreOffice",
        )
    if encoding is not None and not found.is_text:
        raise TemploraError(f"{name}: an encoding is for text files", "leave it out: the file says its own")
    check_not_empty(content, name)
    if found.check is not None:
        found.check(content, suffix, name)
    if found.is_text and len(content) > max_text_bytes:
        raise TemploraError(f"{name} is over {max_text_bytes >> 20} MB of text", _SPLIT)
    document = found.read(content, suffix, name, encoding)
    if not document.paragraphs:
        raise TemploraError(f"{name} has no words to translate", "give a file with text in it")
    return document


def render_book(book: Book, path: Path, *, formats: Sequence[FileFormat] = FORMATS) -> bytes:
    """The file of `book` in the format that the suffix of `path` asks for.

    Raises TemploraError where no book is written in it.
    """
    return _writer_for(path, formats)(book)


def check_book_suffix(path: Path, *, formats: Sequence[FileFormat] = FORMATS) -> None:
    """Raise TemploraError where `render_book` would."""
    _writer_for(path, formats)


def _writer_for(path: Path, formats: Sequence[FileFormat]) -> Write:
    found = _format_of(path.suffix.lower(), formats)
    if found is None or found.write is None:
        suffixes = sorted(suffix for known in formats if known.write for suffix in known.suffixes)
        raise TemploraError(f"{path.name}: a book is written as {' or '.join(suffixes)}", "--out book.md")
    return found.write


def _format_of(suffix: str, formats: Sequence[FileFormat]) -> FileFormat | None:
    return next((known for known in formats if suffix in known.suffixes), None)
