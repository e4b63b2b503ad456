"""The session of a translation: its source document, its translations so far, and its files."""

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
from templora_cli.languages import Language, language
from templora_cli.sessions.book_file import unwritable
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.steps import StepDamagedError, read_chunks, readable_chunks
from templora_cli.sessions.store import free_name, sha256_of
from templora_cli.translation.corrections import find_repeated_mistakes
from templora_cli.translation.long_paragraphs import SplitDocument
from templora_cli.translation.report import Report, paragraph_reports
from templora_cli.translation.task import best_translations, corrections_in
from templora_cli.translation.terminology import Glossary, Term, consistency

REQUEST_KEYS = frozenset(
    ("path", "suffix", "encoding", "from", "to", "first", "end", "bilingual", "terms", "retries")
) | {"paragraphs_sha256", "splits"}
"""The keys of a translation's request in its manifest."""


class TranslatedBook:
    """A translation session. Records are read once: later chunks need a new instance."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """`folder` is that of a session of `templora translate`, whose newest step is intact.

        Raises TemploraError if the manifest is incomplete.
        """
        self.folder, self.manifest, self.request = folder, manifest, manifest.request
        if missing := REQUEST_KEYS.difference(self.request):
            raise TemploraError(
                f"session {folder.name}: {folder / 'session.json'} lacks {', '.join(sorted(missing))} "
                "in its request",
                "start again: templora translate",
            )

    @cached_property
    def document(self) -> SplitDocument:
        """The source, read from the session's copy, with long paragraphs split.

        Raises TemploraError if it is damaged.
        """
        path = self.folder / f"source{self.request['suffix']}"
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if sha256_of(content) != self.manifest.source_sha256:
            raise TemploraError(
                f"session {self.folder.name}: {path} is damaged",
                f"if {self.request['path']} has not changed, copy it there",
            )
        encoding = self.request["encoding"]
        document = parse_document(content, self.request["suffix"], self.request["path"], encoding=encoding)
        if paragraphs_sha256(document) != self.request["paragraphs_sha256"]:
            raise TemploraError(
                f"session {self.folder.name}: this version of templora reads its paragraphs differently",
                "use the version of templora that started the session",
            )
        return SplitDocument(document, self.request["splits"])

    @property
    def source_has_changed(self) -> bool:
        """Whether the source file exists with a different content."""
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
        """The terms that the session started with."""
        return Glossary(
            tuple(Term(**{**t, "forbidden": tuple(t["forbidden"])}) for t in self.request["terms"])
        )

    @property
    def paragraphs(self) -> list[tuple[int, str]]:
        """The paragraphs to translate, in order: index in the document, and text."""
        return selected_paragraphs(self.document, self.request)

    @cached_property
    def records(self) -> list[Any]:
        """The record of each chunk. Raises TemploraError if a chunk is damaged."""
        try:
            return [chunk["record"] for chunk in read_chunks(self.folder / "steps")]
        except StepDamagedError as damage:
            name = self.folder.name
            raise TemploraError(
                f"session {name}: {damage}", f"to repair it: templora resume {name}"
            ) from None

    @property
    def finished(self) -> bool:
        """Whether all requested paragraphs are translated."""
        return sum(len(record["paragraphs"]) for record in self.records) >= len(self.paragraphs)

    @cached_property
    def report(self) -> Report:
        """The report of all paragraphs that are translated so far."""
        sources = dict(self.paragraphs)
        title = Path(self.request["path"]).name
        best = best_translations(self.records)
        paragraphs = list(paragraph_reports(sources, best, self.document.numbers))
        mistakes = find_repeated_mistakes(corrections_in(self.records), paragraphs)
        with_mistakes = [
            replace(paragraph, repeated_mistakes=tuple(mistakes.get(paragraph.paragraph, ())))
            for paragraph in paragraphs
        ]
        pairs = ((paragraph.source, paragraph.target) for paragraph in paragraphs)
        return Report(title, with_mistakes, len(sources), consistency(pairs, self.glossary).terms)

    def readable_records(self) -> list[Any]:
        """The records of all undamaged chunks."""
        return [record for chunk in readable_chunks(self.folder / "steps") if (record := chunk.get("record"))]

    def rendered(self, records: Sequence[Any] | None = None) -> bytes:
        """The document with the translations so far; paragraphs without one stay in the source language."""
        best = best_translations(self.records if records is None else records)
        targets = {index: record["target"] for index, record in best.items() if record["target"].strip()}
        for index, first_index in repeated_titles(self.document, self.request).items():
            if first_index in targets:
                targets[index] = targets[first_index]
        bilingual = self.request["bilingual"]
        return self.document.render(targets, self.request["to"], bilingual=bilingual)

    def write(self) -> str | None:
        """Write document and report. Returns a notice if the document was edited by hand and so was renamed.

        Raises TemploraError if they cannot be written; the session is not affected.
        """
        assert self.manifest.out is not None
        out, digests = Path(self.manifest.out), self.folder / "out.sha256"
        content, report = self.rendered(), self.report
        notice = None
        try:
            own_digests = digests.read_text("ascii").split() if digests.exists() else []
            current_digest = sha256_of(out.read_bytes()) if out.exists() else ""
            if current_digest not in ("", sha256_of(content), *own_digests):
                renamed = free_name(out)
                out.replace(renamed)
                notice = f"{out.name} was edited: your version is saved as {renamed}"
            # If the process is killed in between, the document may be either version; neither is an edit.
            write_atomically(digests, f"{current_digest}\n{sha256_of(content)}")
            write_atomically(out, content)
            for suffix, text in (
                (".html", report.as_html()),
                (".json", report.as_json()),
                (".txt", report.as_text()),
            ):
                write_atomically(self.folder / f"report{suffix}", text)
        except OSError as error:
            path, command = error.filename or out, f"templora resume {self.folder.name}"
            raise unwritable(path, error, command) from error
        return notice


def paragraphs_sha256(document: Document) -> str:
    """SHA-256 of the paragraphs before splitting; records refer to paragraphs by index."""
    return sha256_of("\n".join(paragraph.text for paragraph in document.paragraphs))


def languages_of(request: Mapping[str, Any]) -> tuple[Language, Language]:
    """Source and target language of a request."""
    return language(request["from"]), language(request["to"])


def selected_paragraphs(document: Document, request: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The requested paragraphs in order: index in the document, and text.

    Repeated titles are left out. Paragraphs to retry come a second time, at the end.
    """
    repeated = repeated_titles(document, request)
    indices = [index for index in range(request["first"], request["end"]) if index not in repeated]
    return [(index, document.paragraphs[index].text) for index in [*indices, *request["retries"]]]


def repeated_titles(document: Document, request: Mapping[str, Any]) -> dict[int, int]:
    """Titles, headings and entries of contents with the text of an earlier one: their index to its index.

    They share one translation, so that a title is the same everywhere.
    """
    first: dict[str, int] = {}
    repeated: dict[int, int] = {}
    for index in range(request["first"], request["end"]):
        paragraph = document.paragraphs[index]
        if paragraph.kind in ("metadata", "heading", "contents"):
            if paragraph.text in first:
                repeated[index] = first[paragraph.text]
            first.setdefault(paragraph.text, index)
    return repeated
