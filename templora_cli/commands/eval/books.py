"""The books that `templora eval prose` measures, and those that it compares them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.commands.terminal import engine_in_use
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.documents.document import Document
    from templora_cli.evaluation.prose_reference import ReferenceBook
    from templora_cli.evaluation.prose_text import ProseChapter

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Book:
    """A book to measure."""

    name: str
    path: Path
    """Its file, or the folder of its session."""
    chapters: Sequence[ProseChapter]


def read_books(
    arguments: Sequence[Path], encoding: str | None, limit_words: int | None, notify: Notify
) -> list[Book]:
    """The books that the arguments name: files, and ids of sessions. A book that is named twice is read once.

    Raises TemploraError if a file cannot be read, a session does not exist, or a book has no words.
    """
    books: dict[Path, Book] = {}
    for argument in arguments:
        book = _read_book(argument, encoding, notify)
        if book.path.resolve() in books:
            notify(f"{argument} is named twice and measured once")
            continue
        if limit_words is not None:
            from templora_cli.evaluation.prose_text import limited

            book = replace(book, chapters=limited(book.chapters, limit_words))
        books[book.path.resolve()] = book
    names = [book.name for book in books.values()]
    return [b if names.count(b.name) == 1 else replace(b, name=str(b.path)) for b in books.values()]


def _read_book(argument: Path, encoding: str | None, notify: Notify) -> Book:
    if argument.is_file() or argument.suffix or len(argument.parts) > 1:
        return Book(argument.name, argument, _chapters_of_file(argument, encoding, notify))
    from templora_cli.evaluation.prose_text import chapters_of
    from templora_cli.sessions.store import Store

    try:
        folder = Store().find(str(argument))
    except TemploraError as error:
        raise TemploraError(
            f"{argument} is neither a file nor a session: {error.message}", error.hint
        ) from None
    chapters = chapters_of(_document_of_session(folder, notify))
    if not chapters:
        raise TemploraError(f"session {folder.name} has no text yet", f"templora resume {folder.name}")
    return Book(folder.name, folder, chapters)


def _chapters_of_file(path: Path, encoding: str | None, notify: Notify) -> list[ProseChapter]:
    from templora_cli.documents.registry import FORMATS, read_document
    from templora_cli.evaluation.prose_text import chapters_of

    is_text = any(path.suffix.lower() in row.suffixes for row in FORMATS if row.is_text)
    chapters = chapters_of(read_document(path, encoding=encoding if is_text else None, notify=notify))
    if not chapters:
        raise TemploraError(f"{path} has no prose, only headings or tables", "use a file that contains text")
    return chapters


def _document_of_session(folder: Path, notify: Notify) -> Document:
    """The translation or the prose of a session so far."""
    from templora_cli.documents.registry import parse_document
    from templora_cli.sessions.manifest import load_manifest
    from templora_cli.sessions.steps import readable_text

    manifest = load_manifest(folder)
    kind = engine_in_use().kinds.get(manifest.task)
    export = None if kind is None else kind.export(folder, manifest)
    if export is not None:
        return parse_document(export.content(), export.suffix, f"session {folder.name}")
    text, problems = readable_text(folder / "steps")
    for problem in problems:
        notify(problem)
    if not text.strip():
        raise TemploraError(f"session {folder.name} has no text yet", f"templora resume {folder.name}")
    return parse_document(text.encode("utf-8", "replace"), ".txt", f"session {folder.name}", encoding="utf-8")


def read_references(paths: Sequence[Path], encoding: str | None, notify: Notify) -> list[ReferenceBook]:
    """The books of `--reference`, each once: texts, and the books of .json files of word counts."""
    from templora_cli.evaluation.prose_reference import ReferenceBook, read_counts
    from templora_cli.evaluation.prose_text import words_of

    unique = {path.resolve(): path for path in paths}.values()
    texts: list[ReferenceBook] = []
    for path in unique:
        if path.suffix.lower() != ".json":
            chapters = _chapters_of_file(path, encoding, notify)
            words = [word for chapter in chapters for text in chapter.paragraphs for word in words_of(text)]
            texts.append(ReferenceBook(path.name, path, len(words), words))
    stems = {book.file.stem for book in texts}
    counted = [book for path in unique if path.suffix.lower() == ".json" for book in read_counts(path)]
    return [*texts, *(book for book in counted if book.name not in stems)]


def others(book: Book, references: Sequence[ReferenceBook]) -> list[ReferenceBook]:
    """The reference books without `book` itself."""
    return [reference for reference in references if not _is_same(book, reference)]


def _is_same(book: Book, reference: ReferenceBook) -> bool:
    """Whether they are one file or, if the reference is only counts, have one name."""
    if reference.counts is not None:
        return reference.name == book.path.stem
    return reference.file.resolve() == book.path.resolve()
