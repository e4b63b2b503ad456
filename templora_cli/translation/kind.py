"""Translations as a kind of task: what is asked for, and what a session of one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.documents.document import Document
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, TranslationFinished, Unit, Working
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.kind import Export, TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session
from templora_cli.translation.checks import run_checks
from templora_cli.translation.languages import Language
from templora_cli.translation.long_paragraphs import CutDocument, cuts_of
from templora_cli.translation.pair_format import PairFormat, pair_format
from templora_cli.translation.task import MAX_LEARNT, MAX_SEEN, Check, TranslationTask
from templora_cli.translation.terminology import Glossary
from templora_cli.translation.translated_book import ASKED, TranslatedBook, fingerprint, selected

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "translation"


@dataclass(frozen=True)
class TranslationRequest:
    """A document, or some of it, in another language."""

    document: Document
    path: Path
    """Where it was read."""
    languages: tuple[Language, Language]
    """Of source and target."""
    out: Path | None
    """The translated file; None for a session that is never begun."""
    first: int
    """The first paragraph, by its place in the document."""
    end: int
    """Before this one it ends."""
    glossary: Glossary = field(default_factory=lambda: Glossary(()))
    encoding: str | None = None
    """That of the file, where the user says it."""
    bilingual: bool = False
    kind: str = "translation"

    @property
    def content(self) -> bytes:
        """The bytes of the file as they were read."""
        return self.document.render({}, self.languages[0].code)  # with nothing translated

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        texts = load_prompts(PROMPTS, config.prompts)
        form = pair_format(tokenizer, texts, *self.languages)
        cut = self.cut(form, config)
        request = {
            "path": str(self.path.absolute()),
            "suffix": self.document.suffix,
            "encoding": self.encoding,
            "from": self.languages[0].code,
            "to": self.languages[1].code,
            "first": cut.place(self.first),
            "end": cut.place(self.end),
            "bilingual": self.bilingual,
            "again": [],
            "paragraphs_sha256": fingerprint(self.document),
            "cuts": dict(cut.cuts),
            "terms": [{**asdict(term), "forbidden": list(term.forbidden)} for term in self.glossary.terms],
        }
        return NewSession(
            self.kind,
            config,
            named_after=self.path.stem,
            goal=(len(selected(cut, request)), "paragraphs"),
            header_tokens=len(form.header) + config.decode.context_tokens // 2,  # the terms of a glossary
            request=request,
            prompts=(texts,),
            source=self.content,
            suffix=self.document.suffix,
            out=self.out,
            chunk_tokens=MAX_LEARNT * config.decode.chunk_tokens,
            seen_tokens=MAX_SEEN * config.decode.chunk_tokens,
            notices=tuple(self._cuts_told(cut, config.decode.chunk_tokens // 2)),
        )

    def cut(self, form: PairFormat, config: Config) -> CutDocument:
        """The document with what is too long for a chunk in parts."""
        most = config.decode.chunk_tokens // 2
        cuts = cuts_of(self.document.paragraphs, lambda text: len(form.source_tokens(text)), most)
        return CutDocument(self.document, cuts)

    def _cuts_told(self, cut: CutDocument, most: int) -> Iterator[str]:
        if not cut.cuts:
            return
        longest = f"too long for a chunk ({most:,} tokens)"
        first = int(next(iter(cut.cuts))) + 1
        parts = len(cut.paragraphs) - len(self.document.paragraphs) + len(cut.cuts)
        what = f"paragraph {first} is {longest}"
        if len(cut.cuts) > 1:
            what = f"{len(cut.cuts):,} paragraphs are {longest}, paragraph {first} the first of them"
        yield f"{what}: translated in {parts:,} parts, cut at the ends of sentences"


class Translation(TaskKind):
    """A document that is translated paragraph by paragraph."""

    units: tuple[Unit, ...] = ("paragraphs",)
    asked = ASKED
    prompts = frozenset((PROMPTS,))

    def __init__(self, name: str = "translation", *, check: Check = run_checks) -> None:
        """`check` says what is wrong with a translation."""
        self.name, self.check = name, check

    def task(self, session: Session, model: LanguageModel, config: Config) -> TranslationTask:
        """See `TaskKind.task`."""
        book = TranslatedBook(session.path, session.manifest)
        texts = PromptFile(PROMPTS, session.manifest.prompts[PROMPTS], "")
        return task_of(
            book.languages,
            book.paragraphs,
            book.glossary,
            model=model,
            config=config,
            texts=texts,
            numbers=book.document.numbers,
            check=self.check,
        )

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """See `TaskKind.done`."""
        return sum(len(chunk["record"]["paragraphs"]) for chunk in chunks)

    def notices(self, session: Session) -> list[str]:
        """See `TaskKind.notices`."""
        if not TranslatedBook(session.path, session.manifest).source_has_changed:
            return []
        name = Path(session.manifest.request["path"]).name
        goes_on = "which goes on with its own copy; to translate the new version: templora translate"
        return [f"{name} has changed since session {session.id} began, {goes_on}"]

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`: document and report are written."""
        book = TranslatedBook(session.path, session.manifest)
        yield Working("writing the document")
        if notice := book.write():
            yield Notice(notice)
        yield TranslationFinished(
            session=session.id,
            paragraphs=book.report.paragraphs,
            **book.report.counts,
            out=str(session.manifest.out),
            report=str(session.path / "report.html"),
        )

    def export(self, folder: Path, manifest: Manifest) -> Export:
        """See `TaskKind.export`."""
        book = TranslatedBook(folder, manifest)
        return Export(book.request["suffix"], lambda: book.rendered(book.readable_records()))


def task_of(
    languages: tuple[Language, Language],
    paragraphs: Sequence[tuple[int, str]],
    glossary: Glossary,
    *,
    model: LanguageModel,
    config: Config,
    texts: PromptFile,
    numbers: dict[int, str],
    check: Check = run_checks,
) -> TranslationTask:
    """The translation of `paragraphs`, each with its place in the document, with texts of a prompt file."""
    return TranslationTask(
        pair_format(model.tokenizer, texts, *languages),
        paragraphs,
        glossary,
        config.decode,
        config.translation,
        frozenset(model.banned_tokens),
        numbers=numbers,
        check=check,
    )


def trial_task(request: TranslationRequest, model: LanguageModel, config: Config) -> TranslationTask:
    """What a session for `request` would do, without one."""
    texts = load_prompts(PROMPTS, config.prompts)
    form = pair_format(model.tokenizer, texts, *request.languages)
    cut = request.cut(form, config)
    places = {"first": cut.place(request.first), "end": cut.place(request.end), "again": []}
    return task_of(
        request.languages,
        selected(cut, places),
        request.glossary,
        model=model,
        config=config,
        texts=texts,
        numbers=cut.numbers,
    )


def require_translation(session: Session) -> TranslatedBook:
    """The session as a translated book. Raises TemploraError where it is none."""
    if session.manifest.task != "translation":
        raise TemploraError(f"{session.id} is no translation", "templora sessions list")
    return TranslatedBook(session.path, session.manifest)
