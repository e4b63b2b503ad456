"""Zip archives of untrusted origin: read in memory within bounds, written with all that did not change."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping

from templora_cli.documents.document import MAX_BYTES, MAX_TEXT_BYTES
from templora_cli.errors import TemploraError

MAX_ENTRIES = 50_000
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,  # a damaged name
    NotImplementedError,  # a method of compression that nobody has
    OSError,  # damaged bz2
)
"""What `zipfile` raises for bytes that are no archive, or a damaged one."""


class Archive:
    """The entries of a zip archive, unpacked one at a time and never to the disk."""

    def __init__(self, content: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> None:
        """Raises TemploraError: no readable archive, one with a password, or too much in it."""
        self._name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except UNREADABLE as error:
            raise self._damaged(error) from None
        # of two entries with one name, readers take the last
        self._entries = {info.filename: info for info in self._zip.infolist()}
        size = sum(info.file_size for info in self._zip.infolist())
        if size > max_bytes or len(self._zip.infolist()) > MAX_ENTRIES:
            raise TemploraError(
                f"{name} unpacks to {size >> 20} MB in {len(self._entries)} files, which no book does",
                "check where it comes from",
            )
        if any(info.flag_bits & 1 for info in self._entries.values()):
            raise TemploraError(f"{name} is protected with a password", "give a file without one")

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def read(self, entry: str) -> bytes:
        """The bytes of the text `entry`, which must be there.

        Raises TemploraError: they are damaged, or too many for a text.
        """
        if self._entries[entry].file_size > MAX_TEXT_BYTES:
            raise TemploraError(
                f"{self._name}, {entry}, is too large for a text", "check where it comes from"
            )
        return self._bytes(entry)

    def _bytes(self, entry: str) -> bytes:
        try:
            return self._zip.read(self._entries[entry])
        except UNREADABLE as error:
            raise self._damaged(error, entry) from None

    def written(self, changed: Mapping[str, bytes], *, stored_first: str | None = None) -> bytes:
        """The archive with entries `changed`; those that were not there come last.

        The entry `stored_first` stands first and is not compressed, as EPUB wants its mimetype. The times of
        entries stay, so equal changes give equal bytes.
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
        where = f"{self._name}, {entry}," if entry else self._name
        return TemploraError(f"{where} is damaged: {error}", "download or copy it again")
