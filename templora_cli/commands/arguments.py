"""Arguments shared by several commands: lengths, output files, texts."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.commands.terminal import say
from templora_cli.errors import TemploraError
from templora_cli.files import expanded, numbered_name, unused_name

if TYPE_CHECKING:
    from templora_cli.documents.manuscript import Manuscript
    from templora_cli.runner import Length

Notify = Callable[[str], None]
MAX_EMPTY_CHAPTERS = 2
"""More headings without any prose are an outline."""
MAX_LENGTH = 1_000_000_000
"""An upper limit for lengths, larger than any book."""
EXAMPLE = 'templora write --premise "A lighthouse keeper..."'

_FILE_NAME = re.compile(r"\S+\.(?:txt|md|text|markdown|docx?|odt|rtf|epub|html?|pdf)", re.IGNORECASE)


def length_of(words: int | None, tokens: int | None, chunks: int | None) -> Length | None:
    """The requested length; None without a flag.

    Raises TemploraError for more than one flag, for a length below 1 and for one above `MAX_LENGTH`.
    """
    lengths = {"--words": words, "--tokens": tokens, "--chunks": chunks}
    chosen = {name: value for name, value in lengths.items() if value is not None}
    if len(chosen) > 1:
        raise TemploraError(f"{' and '.join(chosen)} cannot be combined", "use one of them")
    for name, value in chosen.items():
        hint = "--chunks 4" if name == "--chunks" else f"{name} 1000"
        if value < 1:
            raise TemploraError(f"{name} {value}: must be at least 1", hint)
        if value > MAX_LENGTH:
            raise TemploraError(f"{name} {value}: must be at most {MAX_LENGTH:,}", hint)
    if words is not None:
        return words, "words"
    if tokens is not None:
        return tokens, "tokens"
    return None if chunks is None else (chunks, "chunks")


def check_out(path: Path) -> Path:
    """The absolute path for `--out`. Raises TemploraError if a book cannot be written there."""
    from templora_cli.documents.registry import check_book_suffix

    check_no_folder(path, "book.md")
    if str(path) == "-":
        raise TemploraError(
            "--out - is not a file, and the prose goes to standard output anyway", "leave it out"
        )
    check_book_suffix(path)
    return check_writable(path)


def check_no_folder(path: Path, name: str) -> None:
    """Raise TemploraError if `path` is a folder; `name` is a possible file in it, for the hint."""
    if os.path.isdir(path):  # noqa: PTH112  (False for names that no file can have)
        free = unused_name(path / name)
        raise TemploraError(f"{path} is a folder", f"--out {shlex.quote(str(free))}")


def check_writable(path: Path) -> Path:
    """The absolute path of a new file. Raises TemploraError if the file exists or cannot be written."""
    absolute = checked_path(path)
    if path.exists():
        raise TemploraError(
            f"{path} exists, and templora does not overwrite it",
            f"--out {shlex.quote(str(numbered_name(path)))}",
        )
    return absolute


def checked_path(path: Path) -> Path:
    """The absolute path. Raises TemploraError if the file cannot be written."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:  # bytes that are not UTF-8 become surrogates, which a session cannot save
        raise TemploraError(f"{path}: this name is not UTF-8", "choose another --out") from None
    folder = path.absolute().parent
    try:
        if not folder.is_dir():
            if folder.exists():
                raise TemploraError(f"{folder} is a file, not a folder", "choose another --out")
            hint = f"mkdir -p {shlex.quote(str(path.parent))}"
            if str(path).startswith("~"):  # who deletes a folder called ~ may delete the home folder
                hint = f"write the path without {path.parts[0]}, which is not the home folder of a user"
            raise TemploraError(f"the folder {folder} does not exist", hint)
        path.exists()
        # A book is first written under this name, which is longer than its own.
        trial = path.with_name(f".{path.name}.tmp")
        trial.touch()
        trial.unlink()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TemploraError(f"{path} cannot be written: {reason}", "choose another --out") from None
    return path.absolute()


def save(session: Path, target: Path, content: str | bytes, *, force: bool) -> Path:
    """Write `content` of a session to a file and print its path.

    `force` replaces an existing file and saves a copy of it.

    Raises TemploraError if the file cannot be written, or exists and is not an unchanged earlier export.
    """
    from templora_cli.sessions.exports import save_export

    path = checked_path(target)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        aside = save_export(session, path, data, force=force)
    except OSError as error:
        raise TemploraError(f"{target} cannot be written: {error.strerror}", "choose another --out") from None
    if aside is not None:
        say(f"note: the previous file is saved as {aside}", err=True)
    say(str(path))
    return path


def read_texts(
    premise: str | None,
    premise_file: Path | None,
    opening: Path | None,
    encoding: str | None = None,
    *,
    planned: bool = False,
    notify: Notify | None = None,
) -> tuple[str, Manuscript | None]:
    """Premise ("" without one) and opening of a book; "-" is standard input.

    A `planned` book needs neither. `notify` is told of a guessed encoding, and of the opening's chapters.
    Raises TemploraError: neither, both from standard input, and as `read_premise` does.
    """
    from_input = ["--premise -"] * (premise == "-") + ["--premise-file -"] * (str(premise_file) == "-")
    if from_input and str(opening) == "-":
        raise TemploraError(
            f"{from_input[0]} and --from - both read standard input", "put one of the texts into a file"
        )
    if encoding is not None and premise != "-" and premise_file is None and opening is None:
        raise TemploraError("--encoding needs --premise-file or --from", "leave it out")
    required = opening is None and not planned
    text = read_premise(premise, premise_file, required=required, encoding=encoding, notify=notify)
    return text, None if opening is None else _read_opening(opening, encoding, notify)


def _read_opening(path: Path, encoding: str | None, notify: Notify | None) -> Manuscript:
    """The manuscript in a file or on standard input; `notify` is told of its chapters and what is left out.

    Raises TemploraError as `read_manuscript` does, and for a manuscript of headings alone.
    """
    from templora_cli.documents.manuscript import parse_manuscript, read_manuscript
    from templora_cli.text import count_words

    if str(path) == "-":
        content = _standard_input("the opening")
        manuscript = parse_manuscript(
            content, ".txt", "the opening", encoding=encoding, notify=notify, hint=EXAMPLE
        )
    else:
        manuscript = read_manuscript(path, encoding=encoding, notify=notify)
    chapters = sum(bool(chapter.title) for chapter in manuscript.chapters)
    if chapters > MAX_EMPTY_CHAPTERS and not any(chapter.text for chapter in manuscript.chapters):
        raise TemploraError(
            f"{'the opening' if str(path) == '-' else path} has {chapters:,} headings and no prose",
            "use a file with the text of the book; an outline can be a premise: --premise-file FILE",
        )
    if notify is not None and (chapters or manuscript.left_out):
        size = f"{count_words(manuscript.text):,} words"
        if chapters:
            size = f"{chapters:,} chapter{'s' if chapters > 1 else ''}, {size}"
        left_out = f"; left out: {', '.join(manuscript.left_out)}" if manuscript.left_out else ""
        notify(f"the opening has {size}{left_out}")
    return manuscript


def read_premise(
    premise: str | None,
    file: Path | None,
    *,
    required: bool,
    encoding: str | None = None,
    notify: Notify | None = None,
    command: str = "write",
) -> str:
    """The premise from the flag, standard input ("-") or a file; "" if there is none and none is `required`.

    `command` is named in hints.

    Raises TemploraError: both flags, none, an empty premise, a file name as premise, a file without text, a
    wrong or unknown encoding.
    """
    if premise is not None and file is not None:
        raise TemploraError("--premise and --premise-file cannot be combined", "use one of them")
    example = f'templora {command} --premise "A lighthouse keeper..."'
    if premise is None and file is None:
        if required:
            instead = ", or templora write --from FILE to continue a text" if command == "write" else ""
            raise TemploraError("a premise is missing", f"{example}{instead}")
        return ""
    if file is not None or premise == "-":
        return _text_of(file or Path("-"), "the premise", encoding, notify, example).strip()
    assert premise is not None
    _check_is_no_file(premise, example)
    try:
        premise.encode("utf-8")
    except UnicodeEncodeError:  # arguments that are not UTF-8 contain surrogates
        raise TemploraError("the premise is not UTF-8", "put it into a file: --premise-file FILE") from None
    return _with_words(premise, "the premise", example).strip()


def read_file(path: Path, label: str, encoding: str | None = None, *, notify: Notify | None = None) -> str:
    """The text of a file of any format that holds a `label`, such as "the ledger".

    Raises TemploraError if it cannot be read or is empty.
    """
    return _text_of(path, label, encoding, notify, f"use a file that contains {label}")


def read_ledger_file(path: Path, encoding: str | None = None) -> str:
    """The text of a ledger. Raises TemploraError with the file and the line if it is not valid."""
    from templora_cli.memory.ledger import read_ledger
    from templora_cli.novel.shown import avoided_phrases

    text = read_file(path, "the ledger", encoding)
    avoided_phrases(read_ledger(text, str(path)), str(path))
    return text


def _check_is_no_file(premise: str, example: str) -> None:
    """Raise TemploraError if the premise is the name of a file or folder."""
    name, path = shlex.quote(premise), expanded(premise)
    if os.path.isfile(path):  # noqa: PTH113  (False for names that no file can have)
        raise TemploraError(f"--premise {name} is a file, not a premise", f"--premise-file {name}")
    if os.path.isdir(path) and {"/", os.sep} & set(premise):  # noqa: PTH112
        raise TemploraError(f"--premise {name} is a folder, not a premise", example)
    if _FILE_NAME.fullmatch(premise.strip()):
        raise TemploraError(
            f"--premise {name} is the name of a file that does not exist",
            "check the path, and use --premise-file",
        )


def _text_of(
    path: Path, label: str, encoding: str | None, notify: Notify | None, example: str = EXAMPLE
) -> str:
    """The text of a file of any format, or of standard input, without control characters.

    `label` names the text of standard input in error messages, and `example` is the hint if it is empty.
    """
    from templora_cli.documents.prose import read_prose
    from templora_cli.documents.text_input import checked_text

    if str(path) != "-":
        text = read_prose(path, encoding, flag="--encoding", notify=notify)
        return _with_words(text, str(path), "use a file that contains text")
    text = checked_text(_standard_input(label), label, encoding, flag="--encoding", notify=notify)
    return _with_words(text, label, example)


def _standard_input(label: str) -> bytes:
    """The bytes of standard input; `label` names the text that a person is to type."""
    if sys.stdin is None:
        raise TemploraError("standard input is closed", "use a file")
    if sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        say(f"type {label}, then press {end}", err=True)
    return sys.stdin.buffer.read()


def _with_words(text: str, label: str, hint: str) -> str:
    """`text` without control characters. Raises TemploraError if the rest is blank."""
    from templora_cli.documents.text_input import has_text, without_controls

    text = without_controls(text)
    if not has_text(text):
        raise TemploraError(f"{label} is empty", hint)
    return text
