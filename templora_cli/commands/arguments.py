"""Arguments that several commands read the same way: lengths, files that are written, texts."""

from __future__ import annotations

import os
import re
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.runner import Length

MOST = 1_000_000_000
"""Of any length: no book is so long."""
EXAMPLE = 'templora write --premise "A lighthouse keeper..."'

_CONTROLS = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours and the like
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles of a window and the like
    r"|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""What a terminal obeys, and other controls: none of it is text. Tabs and line ends are."""
_FILE_NAME = re.compile(r"\S+\.(?:txt|md|text|markdown|docx?|odt|rtf|epub|html?|pdf)", re.IGNORECASE)


def length_of(words: int | None, tokens: int | None, chunks: int | None) -> Length | None:
    """The length asked for; None where no flag was given.

    Raises TemploraError for two lengths at once, for one below 1 and for one above `MOST`.
    """
    given = {"--words": words, "--tokens": tokens, "--chunks": chunks}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise TemploraError(f"{' and '.join(chosen)} are two lengths", "give one of them")
    for name, value in chosen.items():
        hint = "--chunks 4" if name == "--chunks" else f"{name} 1000"
        if value < 1:
            raise TemploraError(f"{name} {value}: must be at least 1", hint)
        if value > MOST:
            raise TemploraError(f"{name} {value}: must be at most {MOST:,}", hint)
    if words is not None:
        return words, "words"
    if tokens is not None:
        return tokens, "tokens"
    return None if chunks is None else (chunks, "chunks")


def check_out(path: Path) -> Path:
    """The absolute path for `--out`. Raises TemploraError where a book cannot be written there."""
    from templora_cli.documents.registry import check_book_suffix

    if os.path.isdir(path):  # noqa: PTH112  (False for names that no file can have)
        raise TemploraError(f"{path} is a folder", f"--out {shlex.quote(str(path / 'book.md'))}")
    if str(path) == "-":
        raise TemploraError(
            "--out - is no file, and the prose goes to standard output anyway", "leave it out"
        )
    check_book_suffix(path)
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """The absolute path. Raises TemploraError where no file can be written there, or one is there."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:  # bytes that are no UTF-8 come as surrogates, and no session could keep it
        raise TemploraError(f"{path}: this name is not UTF-8", "choose another --out") from None
    folder = path.absolute().parent
    try:
        if not folder.is_dir():
            if folder.exists():
                raise TemploraError(f"{folder} is a file, and no folder", "choose another --out")
            hint = f"mkdir -p {shlex.quote(str(path.parent))}"
            raise TemploraError(f"there is no folder {folder}", hint)
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


def read_texts(
    premise: str | None, premise_file: Path | None, opening: Path | None, encoding: str | None = None
) -> tuple[str, str | None]:
    """Premise ("" without one) and opening of a book, "-" standing for standard input.

    Raises TemploraError: neither, two premises, both from standard input, and as `read_premise` does.
    """
    from_input = ["--premise -"] * (premise == "-") + ["--premise-file -"] * (str(premise_file) == "-")
    if from_input and str(opening) == "-":
        raise TemploraError(
            f"{from_input[0]} and --from - both read standard input", "put one of the two texts in a file"
        )
    if encoding is not None and premise != "-" and premise_file is None and opening is None:
        raise TemploraError("--encoding is for --premise-file and --from", "leave it out")
    text = read_premise(premise, premise_file, required=opening is None, encoding=encoding)
    return text, None if opening is None else _text_of(opening, "the opening", encoding)


def read_premise(
    premise: str | None, file: Path | None, *, required: bool, encoding: str | None = None
) -> str:
    """The premise from the flag, standard input ("-") or a file; "" where none is needed.

    Raises TemploraError: two of them, none, an empty one, the name of a file in its place, no text, an
    encoding that is wrong or unknown.
    """
    if premise is not None and file is not None:
        raise TemploraError("--premise and --premise-file are two premises", "give one of them")
    if premise is None and file is None:
        if required:
            raise TemploraError("nothing to write about", EXAMPLE)
        return ""
    if file is not None or premise == "-":
        return _text_of(file or Path("-"), "the premise", encoding).strip()
    assert premise is not None
    _check_is_no_file(premise)
    try:
        premise.encode("utf-8")
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8 come as surrogates
        raise TemploraError("the premise is not UTF-8", "put it in a file: --premise-file") from None
    return _with_words(premise, "the premise", EXAMPLE).strip()


def _check_is_no_file(premise: str) -> None:
    """Refuse the name of a file that was meant to be read."""
    name = shlex.quote(premise)
    if os.path.isfile(premise):  # noqa: PTH113  (False for names that no file can have)
        raise TemploraError(f"--premise {name} is a file here, and no premise", f"--premise-file {name}")
    if os.path.isdir(premise) and {"/", os.sep} & set(premise):  # noqa: PTH112
        raise TemploraError(f"--premise {name} is a folder here, and no premise", EXAMPLE)
    if _FILE_NAME.fullmatch(premise.strip()):
        raise TemploraError(
            f"--premise {name} is the name of a file that is not there",
            "check the path, then: --premise-file",
        )


def _text_of(path: Path, what: str, encoding: str | None) -> str:
    """The text of a file of any format, or of standard input, without controls."""
    from templora_cli.documents.prose import read_prose
    from templora_cli.documents.text_input import checked_text

    if str(path) != "-":
        text = read_prose(path, encoding, flag="--encoding")
        return _with_words(text, str(path), "give a file with text in it")
    if sys.stdin is None:
        raise TemploraError("there is no standard input to read", "give a file")
    text = checked_text(sys.stdin.buffer.read(), what, encoding, flag="--encoding")
    return _with_words(text, what, EXAMPLE)


def _with_words(text: str, what: str, hint: str) -> str:
    """`text` without controls. Raises TemploraError where nothing else is in it."""
    text = _CONTROLS.sub("", text)
    if not any(unicodedata.category(char)[0] in "LNPS" for char in text):
        raise TemploraError(f"{what} is empty", hint)
    return text
