"""Untrusted zip archives: read in memory within limits, and rebuilt with some entries replaced."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping

from templora_cli.documents.document import MAX_BYTES, MAX_TEXT_BYTES
from templora_cli.errors import TemploraError

_MAX_ENTRIES = 50_000
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,  # a damaged name
    NotImplementedError,  # an unknown compression method
    OSError,  # damaged bz2
)
"""Raised by `zipfile` for bytes that are not an archive, or a damaged one."""


class Archive:
    """The entries of a zip archive, unpacked one at a time, never to disk."""

    def __init__(self, content: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> None:
        """Raises TemploraError: not an archive, damaged, protected with a password, or over the limits."""
        self._name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except _ZIP_ERRORS as error:
            raise self._damaged(error) from None
        # of two entries with the same name, zip readers use the last
        self._entries = {info.filename: info for info in self._zip.infolist()}
        size = sum(info.file_size for info in self._zip.infolist())
        if size > max_bytes or len(self._zip.infolist()) > _MAX_ENTRIES:
            raise TemploraError(
                f"{name} unpacks to {size >> 20} MB in {len(self._zip.infolist())} files; "
                f"the limits are {max_bytes >> 20} MB and {_MAX_ENTRIES} files",
                "check where it comes from",
            )
        if any(info.flag_bits & 1 for info in self._entries.values()):
            raise TemploraError(f"{name} is protected with a password", "give a file without a password")

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def read(self, entry: str) -> bytes:
        """The bytes of the text `entry`, which must exist.

        Raises TemploraError: damaged, or over `MAX_TEXT_BYTES`.
        """
        if self._entries[entry].file_size > MAX_TEXT_BYTES:
            raise TemploraError(
                f"{self._name}, {entry}, is over {MAX_TEXT_BYTES >> 20} MB", "check where it comes from"
            )
        return self._bytes(entry)

    def _bytes(self, entry: str) -> bytes:
        try:
            return self._zip.read(self._entries[entry])
        except _ZIP_ERRORS as error:
            raise self._damaged(error, entry) from None

    def rebuild(self, changed: Mapping[str, bytes], *, stored_first: str | None = None) -> bytes:
        """The archive with the entries in `changed` replaced or, if they are new, added at the end.

        The entry `stored_first` comes first and is not compressed, as EPUB requires for its mimetype. Entries
        keep their times, so equal changes give equal bytes.
        """
        out = io.BytesIO()
        names = sorted(dict.fromkeys([*self._entries, *changed]), key=lambda name: name != stored_first)
        with zipfile.ZipFile(out, "w") as target:
            for name in names:
                old = self._entries.get(name)
                info = zipfile.ZipInfo(name, old.date_time if old else (1980, 1, 1, 0, 0, 0))
                info.external_attr = old.external_attr if old else 0o644 << 16
                info.create_system = old.create_system if old else 3
                info.compress_type = zipfile.ZIP_DEFLATED
                if name == stored_first or (old and old.compress_type == zipfile.ZIP_STORED):
                    info.compress_type = zipfile.ZIP_STORED
                target.writestr(info, changed[name] if name in changed else self._bytes(name))
        return out.getvalue()

    def _damaged(self, error: Exception, entry: str | None = None) -> TemploraError:
        location = f"{self._name}, {entry}," if entry else self._name
        return TemploraError(f"{location} is damaged: {error}", "download or copy it again")
