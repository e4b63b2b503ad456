"""A translation session as a document: its source, what its chunks have made of it, and the file of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from templora_cli.documents.document import Document
from templora_cli.documents.registry import parse_document
from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.steps import StepDamaged, read_chunks, readable_chunks
from templora_cli.sessions.store import free_name, sha256_of
from templora_cli.translation.corrections import relapses
from templora_cli.translation.languages import Language, language
from templora_cli.translation.long_paragraphs import CutDocument
from templora_cli.translation.report import Report, lines_of
from templora_cli.translation.task import best_of, corrections_in
from templora_cli.translation.terminology import Glossary, Term, consistency

ASKED = frozenset(
    ("path", "suffix", "encoding", "from", "to", "first", "end", "bilingual", "terms", "again")
) | {"paragraphs_sha256", "cuts"}
"""What the request of a translation's manifest holds."""


class TranslatedBook:
    """The document of a session, its translation as it was when first asked for, and the file of `--out`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """`folder` is that of a session of `templora translate`; its newest step is good.

        Raises TemploraError where the manifest does not say what was asked.
        """
        self.folder, self.manifest, self.request = folder, manifest, manifest.request
        if missing := ASKED.difference(self.request):
            place = f"session {folder.name}: {folder / 'session.json'}"
            raise TemploraError(
                f"{place} lacks {', '.join(sorted(missing))} of its request", "begin anew: templora translate"
            )

    @cached_property
    def document(self) -> CutDocument:
        """The source, from the session's own copy, with long paragraphs in parts.

        Raises TemploraError where it is damaged.
        """
        path = self.folder / f"source{self.request['suffix']}"
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if sha256_of(content) != self.manifest.source_sha256:
            raise TemploraError(
                f"session {self.folder.name}: {path} is damaged",
                f"put {self.request['path']} back there, if it is still as it was",
            )
        encoding = self.request["encoding"]
        document = parse_document(content, self.request["suffix"], self.request["path"], encoding=encoding)
        if fingerprint(document) != self.request["paragraphs_sha256"]:
            raise TemploraError(
                f"session {self.folder.name}: this version reads the paragraphs of its source otherwise",
                "use the version of templora that it was begun with",
            )
        return CutDocument(document, self.request["cuts"])

    @property
    def source_has_changed(self) -> bool:
        """Is the file that is translated another one by now? One that is gone is not."""
        try:
            return sha256_of(Path(self.request["path"]).read_bytes()) != self.manifest.source_sha256
        except OSError:
            return False

    @property
    def languages(self) -> tuple[Language, Language]:
        """Of source and target."""
        return languages_of(self.request)

    @property
    def glossary(self) -> Glossary:
        """The terms that the session began with."""
        return Glossary(
            tuple(Term(**{**t, "forbidden": tuple(t["forbidden"])}) for t in self.request["terms"])
        )

    @property
    def paragraphs(self) -> list[tuple[int, str]]:
        """What is to be translated, in order: its place in the document, and its text."""
        return selected(self.document, self.request)

    @cached_property
    def records(self) -> list[Any]:
        """What the task kept of each chunk. Raises TemploraError where one is damaged."""
        try:
            return [chunk["record"] for chunk in read_chunks(self.folder / "steps")]
        except StepDamaged as damage:
            name = self.folder.name
            raise TemploraError(f"session {name}: {damage}", f"templora resume {name} mends it") from None

    @property
    def finished(self) -> bool:
        """Has everything that was asked for been translated?"""
        return sum(len(record["paragraphs"]) for record in self.records) >= len(self.paragraphs)

    @cached_property
    def report(self) -> Report:
        """What became of each paragraph."""
        chosen = dict(self.paragraphs)
        title = Path(self.request["path"]).name
        records = self.records
        lines = list(lines_of(chosen, best_of(records), self.document.numbers))
        wrong = relapses(corrections_in(records), lines)
        told = [replace(line, relapses=tuple(wrong.get(line.paragraph, ()))) for line in lines]
        pairs = ((line.source, line.target) for line in lines)
        return Report(title, told, len(chosen), consistency(pairs, self.glossary).terms)

    def readable_records(self) -> list[Any]:
        """The records of all chunks that can be read at all."""
        return [record for chunk in readable_chunks(self.folder / "steps") if (record := chunk.get("record"))]

    def rendered(self, records: Sequence[Any] | None = None) -> bytes:
        """The document with the translations so far; what has none stays as it is in the source."""
        best = best_of(self.records if records is None else records)
        targets = {number: one["target"] for number, one in best.items() if one["target"].strip()}
        for number, first in repeated_titles(self.document, self.request).items():
            if first in targets:
                targets[number] = targets[first]
        bilingual = self.request["bilingual"]
        return self.document.render(targets, self.request["to"], bilingual=bilingual)

    def write(self) -> str | None:
        """Write document and report; returns what to tell of a version that was edited and set aside.

        Raises TemploraError where they cannot be written; the session is not touched by that.
        """
        assert self.manifest.out is not None
        out, known = Path(self.manifest.out), self.folder / "out.sha256"
        content, report = self.rendered(), self.report
        notice = None
        try:
            own = known.read_text("ascii").split() if known.exists() else []
            before = sha256_of(out.read_bytes()) if out.exists() else ""
            if before not in ("", sha256_of(content), *own):
                aside = free_name(out)
                out.replace(aside)
                notice = f"{out.name} was edited: your version is kept as {aside}"
            # Both are known as templora's own while kills may leave the one or the other.
            write_atomically(known, f"{before}\n{sha256_of(content)}")
            write_atomically(out, content)
            for suffix, text in (
                (".html", report.as_html()),
                (".json", report.as_json()),
                (".txt", report.as_text()),
            ):
                write_atomically(self.folder / f"report{suffix}", text)
        except OSError as error:
            raise TemploraError(
                f"{error.filename or out} cannot be written: {error.strerror}. The session itself is safe",
                f"make room, then: templora resume {self.folder.name}",
            ) from error
        return notice


def fingerprint(document: Document) -> str:
    """Of its paragraphs, uncut: translations are kept by their places."""
    return sha256_of("\n".join(paragraph.text for paragraph in document.paragraphs))


def languages_of(request: Mapping[str, Any]) -> tuple[Language, Language]:
    """Of source and target, as a session was asked."""
    return language(request["from"]), language(request["to"])


def selected(document: Document, request: Mapping[str, Any]) -> list[tuple[int, str]]:
    """What is asked to be translated, in order: its place in the document, and its text.

    Titles that are there already are left out. What is to be translated again comes once more, at the end.
    """
    left_out = repeated_titles(document, request)
    numbers = [n for n in range(request["first"], request["end"]) if n not in left_out]
    return [(number, document.paragraphs[number].text) for number in [*numbers, *request["again"]]]


def repeated_titles(document: Document, request: Mapping[str, Any]) -> dict[int, int]:
    """Titles, headings and entries of contents whose words stood in one before: its place by theirs.

    One translation serves them all, so that the title of a book is not called two ways.
    """
    first: dict[str, int] = {}
    repeated: dict[int, int] = {}
    for number in range(request["first"], request["end"]):
        paragraph = document.paragraphs[number]
        if paragraph.kind in ("metadata", "heading", "contents"):
            if paragraph.text in first:
                repeated[number] = first[paragraph.text]
            first.setdefault(paragraph.text, number)
    return repeated
