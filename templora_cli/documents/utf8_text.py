"""Files that must be UTF-8: a text is read, or refused with what to do."""

from __future__ import annotations

from pathlib import Path

from templora_cli.errors import TemploraError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (with or without a byte order mark), line ends as "\\n".

    Raises TemploraError: missing, unreadable, a folder, binary, another encoding, empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TemploraError(f"there is no file {path}", "check the path") from None
    except OSError as error:
        raise TemploraError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    text = checked_text(content, str(path))
    if not text.strip():
        raise TemploraError(f"{path} is empty", "give a file with text in it")
    return text


def checked_text(content: bytes, source: str) -> str:
    """The text of UTF-8 `content`, line ends as "\\n"; `source` names it in the errors of `read_text`."""
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TemploraError(f"{source} is binary, not a text", "give a .txt or .md file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TemploraError(
            f"{source} is not UTF-8 (byte {error.start})",
            "convert it first, for example: iconv -f WINDOWS-1252 -t UTF-8 old.txt > new.txt",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
