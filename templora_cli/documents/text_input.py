"""Texts from the user, in a file or on standard input, in any encoding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from templora_cli.documents.encoding import decode, guessed_encoding, notice_of_guess
from templora_cli.documents.signature import check_text
from templora_cli.errors import TemploraError

_CONTROLS = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours and the like
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles of a window and the like
    r"|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def read_text(
    path: Path,
    encoding: str | None = None,
    *,
    flag: str | None = None,
    languages: Sequence[str] = (),
    notify: Callable[[str], None] | None = None,
) -> str:
    """The text of a file, without a byte order mark and with "\\n" as line ends.

    `encoding` is the user's choice, and `flag` the option that sets it, for error messages. None detects the
    encoding; `languages` (BCP 47 codes) help if they are known. `notify` gets a message about a guess.
    Raises TemploraError if the file is missing, a folder, unreadable, not text or empty, or if the encoding
    is wrong or unknown.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    text = checked_text(
        content, str(path), encoding, suffix=path.suffix, flag=flag, languages=languages, notify=notify
    )
    if not text.strip():
        raise TemploraError(f"{path} is empty", "use a file that contains text")
    return text


def without_controls(text: str) -> str:
    """`text` without escape sequences and control characters, except tabs and line ends."""
    return _CONTROLS.sub("", text)


def has_text(text: str) -> bool:
    """Whether a text has a visible character."""
    return any(unicodedata.category(char)[0] in "LNPS" for char in text)


def unreadable(path: Path, error: OSError) -> TemploraError:
    """The error if a file of the user cannot be read."""
    if isinstance(error, FileNotFoundError):
        return TemploraError(f"there is no file {path}", "check the path")
    if path.is_dir():  # Windows reports no permission
        return TemploraError(f"{path} is a folder", "name a file in it")
    return TemploraError(f"{path} cannot be read: {error.strerror}", "check the path")


def checked_text(
    content: bytes,
    source: str,
    encoding: str | None = None,
    *,
    suffix: str = "",
    flag: str | None = None,
    languages: Sequence[str] = (),
    notify: Callable[[str], None] | None = None,
) -> str:
    """Decode `content`, which may be empty, as `read_text` does. `source` is its name in error messages."""
    check_text(content, suffix, source)
    if encoding is None and notify is not None:
        encoding = guessed_encoding(content, source, languages=languages, flag=flag)
        if encoding is not None:
            notify(notice_of_guess(encoding, source, flag))
    text = decode(content, source, encoding, flag=flag, languages=languages)
    return text.replace("\r\n", "\n").replace("\r", "\n")
