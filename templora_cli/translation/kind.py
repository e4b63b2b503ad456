"""Translation as a task kind: its request, and its sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.documents.document import Document
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, TranslationFinished, Unit, Working
from templora_cli.languages import Language
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.kind import Export, TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import SHORTER_PROMPTS, HeaderPart, NewSession
from templora_cli.sessions.store import Session
from templora_cli.translation.checks import run_checks
from templora_cli.translation.long_paragraphs import SplitDocument, find_splits
from templora_cli.translation.pair_format import PairFormat, choose_pair_format
from templora_cli.translation.task import MAX_LEARNT_RATIO, MAX_READ_RATIO, Check, TranslationTask
from templora_cli.translation.terminology import Glossary
from templora_cli.translation.translated_book import (
    REQUEST_KEYS,
    TranslatedBook,
    languages_of,
    paragraphs_sha256,
    selected_paragraphs,
)

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "translation"


@dataclass(frozen=True)
class TranslationRequest:
    """A document, or a part of it, to translate."""

    document: Document
    path: Path
    """The file of the document."""
    languages: tuple[Language, Language]
    """Of source and target."""
    out: Path | None
    """The translated file; None for an estimate."""
    first: int
    """Index of the first paragraph in the document."""
    end: int
    """Index after the last paragraph."""
    glossary: Glossary = field(default_factory=lambda: Glossary(()))
    encoding: str | None = None
    """The encoding of the file if the user specified it."""
    bilingual: bool = False
    kind: str = "translation"

    @property
    def content(self) -> bytes:
        """The bytes of the file as they were read."""
        return self.document.render({}, self.languages[0].code)  # without translations

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        prompt_file = load_prompts(PROMPTS, config.prompts)
        pair_format = choose_pair_format(tokenizer, prompt_file, *self.languages)
        document = self.split_document(pair_format, config)
        request = {
            "path": str(self.path.absolute()),
            "suffix": self.document.suffix,
            "encoding": self.encoding,
            "from": self.languages[0].code,
            "to": self.languages[1].code,
            "first": document.index_of(self.first),
            "end": document.index_of(self.end),
            "bilingual": self.bilingual,
            "retries": [],
            "paragraphs_sha256": paragraphs_sha256(self.document),
            "splits": dict(document.splits),
            "terms": [{**asdict(term), "forbidden": list(term.forbidden)} for term in self.glossary.terms],
        }
        return NewSession(
            self.kind,
            config,
            named_after=self.path.stem,
            goal=(len(selected_paragraphs(document, request)), "paragraphs"),
            header_tokens=len(pair_format.header) + config.decode.context_tokens // 2,  # for glossary terms
            header_parts=(HeaderPart("the instruction", len(pair_format.header), 0, SHORTER_PROMPTS),),
            request=request,
            prompts=(prompt_file,),
            source=self.content,
            suffix=self.document.suffix,
            out=self.out,
            chunk_tokens=MAX_LEARNT_RATIO * config.decode.chunk_tokens,
            seen_tokens=MAX_READ_RATIO * config.decode.chunk_tokens,
            window_flag="--set decode.context_tokens=",
            notices=tuple(self._split_notices(document, config.decode.chunk_tokens // 2)),
        )

    def split_document(self, pair_format: PairFormat, config: Config) -> SplitDocument:
        """The document with the paragraphs split that are too long for a chunk."""

        def count_tokens(text: str) -> int:
            return len(pair_format.source_tokens(text))

        splits = find_splits(self.document.paragraphs, count_tokens, config.decode.chunk_tokens // 2)
        return SplitDocument(self.document, splits)

    def _split_notices(self, document: SplitDocument, max_tokens: int) -> Iterator[str]:
        count = len(document.splits)
        if not count:
            return
        first = int(next(iter(document.splits))) + 1
        parts = len(document.paragraphs) - len(self.document.paragraphs) + count
        reason = f"too long for a chunk (more than {max_tokens:,} tokens)"
        subject = f"paragraph {first} is {reason}"
        if count > 1:
            subject = f"{count:,} paragraphs, the first of them paragraph {first}, are {reason}"
        yield f"{subject}: translated in {parts:,} parts, split at the ends of sentences"


class Translation(TaskKind):
    """The task kind of documents that are translated paragraph by paragraph."""

    units: tuple[Unit, ...] = ("paragraphs",)
    request_keys = REQUEST_KEYS
    prompts = frozenset((PROMPTS,))

    def __init__(self, name: str = "translation", *, check: Check = run_checks) -> None:
        """`check` returns the failed checks of a translated paragraph."""
        self.name, self.check = name, check

    def task(self, session: Session, model: LanguageModel, config: Config) -> TranslationTask:
        """See `TaskKind.task`."""
        book = TranslatedBook(session.path, session.manifest)
        return make_task(
            book.languages,
            book.paragraphs,
            book.glossary,
            model=model,
            config=config,
            prompt_file=PromptFile(PROMPTS, session.manifest.prompts[PROMPTS], ""),
            numbers=book.document.numbers,
            check=self.check,
        )

    def check_out(self, manifest: Manifest, out: Path) -> None:
        """See `TaskKind.check_out`."""
        if out.suffix.lower() != (suffix := str(manifest.request["suffix"])):
            raise TemploraError(
                f"{out.name}: a translation has the format of its source, {suffix}",
                f"--out {out.stem}{suffix}",
            )

    def retries(self, manifest: Manifest) -> int:
        """See `TaskKind.retries`: paragraphs of `templora retry`."""
        return len(manifest.request.get("retries", []))

    def languages(self, manifest: Manifest) -> tuple[str, ...]:
        """See `TaskKind.languages`."""
        return tuple(language.name for language in languages_of(manifest.request))

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """See `TaskKind.done`."""
        return sum(len(chunk["record"]["paragraphs"]) for chunk in chunks)

    def notices(self, session: Session) -> list[str]:
        """See `TaskKind.notices`."""
        if not TranslatedBook(session.path, session.manifest).source_has_changed:
            return []
        name = Path(session.manifest.request["path"]).name
        copy = "it continues with its copy of the old version"
        hint = "to translate the new version: templora translate"
        return [f"{name} has changed since session {session.id} began; {copy}; {hint}"]

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`; writes the document and the report."""
        book = TranslatedBook(session.path, session.manifest)
        yield Working("writing the document")
        if notice := book.write():
            yield Notice(notice, important=True)
        yield TranslationFinished(
            session=session.id,
            paragraphs=book.report.total,
            **book.report.counts,
            out=str(session.manifest.out),
            report=str(session.path / "report.html"),
        )

    def export(self, folder: Path, manifest: Manifest) -> Export:
        """See `TaskKind.export`."""
        book = TranslatedBook(folder, manifest)
        return Export(book.request["suffix"], lambda: book.rendered(book.readable_records()))


def make_task(
    languages: tuple[Language, Language],
    paragraphs: Sequence[tuple[int, str]],
    glossary: Glossary,
    *,
    model: LanguageModel,
    config: Config,
    prompt_file: PromptFile,
    numbers: dict[int, str],
    check: Check = run_checks,
) -> TranslationTask:
    """A task that translates `paragraphs` (index in the document, and text)."""
    return TranslationTask(
        choose_pair_format(model.tokenizer, prompt_file, *languages),
        paragraphs,
        glossary,
        config.decode,
        config.translation,
        frozenset(model.banned_tokens),
        numbers=numbers,
        check=check,
    )


def trial_task(request: TranslationRequest, model: LanguageModel, config: Config) -> TranslationTask:
    """The task of a session for `request`, without a session."""
    prompt_file = load_prompts(PROMPTS, config.prompts)
    pair_format = choose_pair_format(model.tokenizer, prompt_file, *request.languages)
    document = request.split_document(pair_format, config)
    first, end = document.index_of(request.first), document.index_of(request.end)
    return make_task(
        request.languages,
        selected_paragraphs(document, {"first": first, "end": end, "retries": []}),
        request.glossary,
        model=model,
        config=config,
        prompt_file=prompt_file,
        numbers=document.numbers,
    )


def require_translation(session: Session) -> TranslatedBook:
    """The session as a translated book. Raises TemploraError if it is not a translation."""
    if session.manifest.task != "translation":
        raise TemploraError(f"{session.id} is not a translation session", "templora sessions list")
    return TranslatedBook(session.path, session.manifest)
