"""Detects the format of a file by its bytes, whatever its name."""

from __future__ import annotations

import re

from templora_cli.errors import TemploraError

_ZIP = "a zip archive"
_OPEN_DOCUMENT = "an OpenDocument file (.odt)"
_OLD_OFFICE, _RTF = "an old Office file", "an RTF file"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OPEN_DOCUMENT_TYPE = b"mimetypeapplication/vnd.oasis.opendocument."
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_SIGNATURES = {
    b"PK\x03\x04": _ZIP,
    b"PK\x05\x06": "an empty zip archive",
    b"%PDF": "a PDF",
    _OLE: _OLD_OFFICE,
    b"{\\rtf": _RTF,
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
_TEXTS = (".txt", ".md", ".html", ".htm")


def check_not_empty(content: bytes, name: str) -> None:
    """Raise TemploraError if `content` is empty or blank; `name` names the file in errors."""
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise TemploraError(f"{name} is empty", "use a file that contains text")


def check_text(content: bytes, suffix: str, name: str) -> None:
    """Raise TemploraError if `content` is clearly not text."""
    detected = _detect_format(content)
    if detected not in (None, "an HTML page", "a text"):
        expected = f"a text ({suffix})" if suffix in _TEXTS else "a text"
        raise TemploraError(f"{name} is {detected}, not {expected}", _hint(detected))


def is_html(content: bytes) -> bool:
    """Whether `content` begins like an HTML page."""
    return _HTML.match(content[:4096].removeprefix(b"\xef\xbb\xbf")) is not None


def check_word(content: bytes, suffix: str, name: str) -> None:
    """Raise TemploraError if `content` is clearly not a Word document, or one with a password."""
    if content.startswith(_OLE):
        raise TemploraError(
            f"{name} is protected with a password or is an old Word file (.doc)",
            "open it in Word or LibreOffice and save it as .docx without a password",
        )
    check_zip(content, suffix, name, "a Word document")


def check_zip(content: bytes, suffix: str, name: str, expected: str) -> None:
    """Raise TemploraError if `content` is not a zip archive, as `expected` ("an EPUB") is."""
    detected = _detect_format(content)
    if detected != _ZIP:
        raise TemploraError(
            f"{name} is {detected or 'of an unknown format'}, not {expected}", _hint(detected)
        )


def _detect_format(content: bytes) -> str | None:
    """The format of `content` in words; None if it is unknown."""
    if content.startswith(_OPEN_DOCUMENT_TYPE, 30):
        return _OPEN_DOCUMENT
    for signature, words in _SIGNATURES.items():
        if content.startswith(signature):
            return words
    if content[60:68] == _MOBI:
        return "a Kindle book"
    if is_html(content):
        return "an HTML page"
    if b"<FictionBook" in content[:4096]:
        return "a FictionBook (.fb2)"
    return None if b"\0" in content[:4096] else "a text"


def _hint(detected: str | None) -> str:
    if detected == "an HTML page":
        return "download the file again (the site sent a web page instead), or rename it to .html"
    if detected == "a text":
        return "rename it to .txt or .md"
    if detected in (_OPEN_DOCUMENT, _OLD_OFFICE, _RTF):
        return "open it in Word or LibreOffice and save it as .docx"
    convert = "convert it to .txt, .epub or .docx, for example with Calibre or LibreOffice"
    return f"rename it to .docx or .epub if it is such a file, or {convert}" if detected == _ZIP else convert
