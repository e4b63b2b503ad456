"""What the bytes of a file are, whatever its name says."""

from __future__ import annotations

import re

from templora_cli.errors import TemploraError

_ZIP = "a zip archive"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_MARKED = {
    b"PK\x03\x04": _ZIP,
    b"PK\x05\x06": "an empty zip archive",
    b"%PDF": "a PDF",
    _OLE: "an old Office file",
    b"{\\rtf": "an RTF file",
    b"\x1f\x8b": "compressed with gzip",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\x7fELF": "a program",
    b"ITSF": "a CHM file",
}
_MOBI = b"BOOKMOBI"


def check_not_empty(content: bytes, name: str) -> None:
    """Raise TemploraError where there is nothing in `content`; `name` names the file in errors."""
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise TemploraError(f"{name} is empty", "give a file with text in it")


def check_text(content: bytes, suffix: str, name: str) -> None:
    """Raise TemploraError where `content` is plainly no text."""
    found = _found(content)
    if found not in (None, "an HTML page", "a text"):
        wanted = f"a text ({suffix})" if suffix else "a text"
        raise TemploraError(f"{name} is {found}, not {wanted}", _hint(found))


def check_word(content: bytes, suffix: str, name: str) -> None:
    """Raise TemploraError where `content` is plainly no Word document, or one with a password."""
    if content.startswith(_OLE):
        raise TemploraError(
            f"{name} is protected with a password, or an old Word file (.doc)",
            "open it in Word or LibreOffice and save it as .docx without a password",
        )
    check_zip(content, suffix, name, "a Word document")


def check_zip(content: bytes, suffix: str, name: str, wanted: str) -> None:
    """Raise TemploraError where `content` is no zip archive, as `wanted` ("an EPUB") would be."""
    found = _found(content)
    if found != _ZIP:
        raise TemploraError(f"{name} is {found or 'no zip archive'}, not {wanted}", _hint(found))


def _found(content: bytes) -> str | None:
    """What `content` is, in words; None if nothing tells."""
    for mark, words in _MARKED.items():
        if content.startswith(mark):
            return words
    if content[60:68] == _MOBI:
        return "a Kindle book"
    if _HTML.match(content[:4096].removeprefix(b"\xef\xbb\xbf")):
        return "an HTML page"
    return None if b"\0" in content[:4096] else "a text"


def _hint(found: str | None) -> str:
    if found == "an HTML page":
        return "download the file again (a site sends such a page instead of a file); or name it .html"
    return "give the file the suffix of what it is, or convert it"
