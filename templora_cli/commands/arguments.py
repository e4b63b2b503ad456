"""Arguments that several commands read the same way: lengths, files that are written, a premise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.config import MAX_TOKENS
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.runner import Length


def length_of(words: int | None, tokens: int | None, chunks: int | None) -> Length | None:
    """The length asked for; None where no flag was given.

    Raises TemploraError for two lengths at once and for one below 1.
    """
    given = {"--words": words, "--tokens": tokens, "--chunks": chunks}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise TemploraError(f"{' and '.join(chosen)} are two lengths", "give one of them")
    for name, value in chosen.items():
        if not 1 <= value <= MAX_TOKENS * MAX_TOKENS:
            raise TemploraError(f"{name} {value}: must be at least 1, and not absurd", f"{name} 1000")
    if words is not None:
        return words, "words"
    if tokens is not None:
        return tokens, "tokens"
    return None if chunks is None else (chunks, "chunks")


def check_out(path: Path) -> Path:
    """The absolute path for `--out`. Raises TemploraError where a book cannot be written there."""
    from templora_cli.documents.registry import check_book_suffix

    check_book_suffix(path)
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """The absolute path. Raises TemploraError where no file can be written there, or one is there."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise TemploraError(f"there is no folder {folder}", f"mkdir -p {path.parent}")
    try:
        there = path.exists()
        # Under the name that a book is written first, which is longer than its own.
        trial = path.with_name(f".{path.name}.tmp")
        trial.touch()
        trial.unlink()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TemploraError(f"{path} cannot be written: {reason}", "choose another --out") from None
    if there:
        raise TemploraError(
            f"{path} is there already, and templora does not overwrite it", "choose another --out"
        )
    return path.absolute()


def read_premise(premise: str | None, file: Path | None, *, required: bool) -> str:
    """The premise from the flag, standard input ("-") or a file; "" where none is needed.

    Raises TemploraError: two of them, none, or an empty one.
    """
    from templora_cli.documents.utf8_text import checked_text, read_text

    if premise is not None and file is not None:
        raise TemploraError("--premise and --premise-file are two premises", "give one of them")
    if file is not None:
        return read_text(file).strip()
    if premise is None and not required:
        return ""
    if premise is None:
        raise TemploraError("nothing to write about", 'templora write --premise "A lighthouse keeper..."')
    try:
        content = sys.stdin.buffer.read() if premise == "-" else premise.encode("utf-8")
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8 come as surrogates
        raise TemploraError("the premise is not UTF-8", "put it in a file: --premise-file") from None
    text = checked_text(content, "the premise").strip()
    if not text:
        raise TemploraError("the premise is empty", 'templora write --premise "A lighthouse keeper..."')
    return text
