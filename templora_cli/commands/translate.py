"""`templora translate`: a whole book, with a model that learns its names and its voice on the way."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import check_writable
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, TranslationFinished, Working

if TYPE_CHECKING:
    from templora_cli.documents.document import Document
    from templora_cli.render import View
    from templora_cli.translation.kind import TranslationRequest
    from templora_cli.translation.languages import Language
    from templora_cli.translation.terminology import Glossary

SOME_FAILED = 3
"""Exit status where paragraphs are left that fail a check."""
SAMPLE = 200
"""Paragraphs by which the language of a document is told."""


@flags.takes_settings(
    *("translation.context_pairs", "translation.attempts", "translation.correction_weight"),
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "seed"),
    prefer="translation",
    task="translation",
)
def translate(
    file: Annotated[Path, typer.Argument(help="What is translated: .txt, .md, .html, .epub or .docx.")],
    target: Annotated[str, typer.Option("--to", help="Language of the translation, as code or name.")],
    source: Annotated[
        str, typer.Option("--from", help="Language of the file, as code or name; auto detects it.")
    ] = "auto",
    out: Annotated[
        Optional[Path], typer.Option(help="The translated file (default: FILE (Language), beside FILE).")
    ] = None,
    bilingual: Annotated[
        bool, typer.Option("--bilingual", help="Each paragraph in both languages, the source first.")
    ] = False,
    glossary: Annotated[
        Optional[Path], typer.Option(help="Terms and their translations: .csv, .json or .toml.")
    ] = None,
    encoding: Annotated[
        Optional[str], typer.Option(help="Of a text file, where its detection is wrong: gb18030, big5, ...")
    ] = None,
    start: Annotated[Optional[int], typer.Option(help="First chapter, from 1.")] = None,
    end: Annotated[Optional[int], typer.Option(help="Last chapter.")] = None,
    limit: Annotated[Optional[int], typer.Option(help="Only so many paragraphs.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what it will take, after a short trial.")
    ] = False,
    *,
    settings: GivenSettings,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Translate a book with a model that learns it while it translates it.

    Paragraph by paragraph: each translation is checked, tried again where a check fails, and marked
    where it still does (exit status 3). Stop with Ctrl-C at any time; `templora resume` goes on, and so
    does the same command given again.
    """
    from templora_cli.documents.registry import read_document

    with open_view(json=json, quiet=quiet, prose=False) as (view, stop):
        config = settings.resolve()
        document = read_document(file, encoding=encoding)
        languages = _languages(document, source, target)
        first, last = _chosen(document, start, end, limit)
        terms = _terms(glossary, view)
        book = None if estimate else _out(file, out, languages[1])

        from templora_cli import runner
        from templora_cli.translation.kind import TranslationRequest

        request = TranslationRequest(
            document, file, languages, book, first, last, terms, encoding=encoding, bilingual=bilingual
        )
        if estimate:
            _print_estimate(request, config, view)
            return
        if changed := _begun_on_another_version(request):
            view.show(Notice(changed))
        engine = engine_in_use()
        with runner.begin(request, config, notify=view.show, engine=engine, resume_same=True) as run:
            exit_where_some_failed(follow(run, run.events(stop), view, stop))


def exit_where_some_failed(last: Event | None) -> None:
    """Exit with `SOME_FAILED` where that is what the last event of a run says."""
    if isinstance(last, TranslationFinished) and last.failed:
        raise typer.Exit(SOME_FAILED)


def _print_estimate(request: TranslationRequest, config: Config, view: View) -> None:
    from templora_cli.engine.models.loading import out_of_memory_hint
    from templora_cli.evaluation.estimate import estimate
    from templora_cli.prepare import prepare
    from templora_cli.translation.kind import trial_task

    engine = engine_in_use()
    prepared = prepare(request, config, notify=view.show, engine=engine)
    model, config = prepared.model, prepared.new.config
    task = trial_task(request, model, config)
    advice = "a smaller --chunk-tokens, --quantize nf4, or a smaller --model"
    view.show(Working("translating the first paragraphs"))
    with out_of_memory_hint(advice):
        found = estimate(task, model, engine.backend(model, config.decode.backend), config)
    view.close()
    hours, minutes = divmod(math.ceil(found.seconds / 60), 60)
    typer.echo(f"paragraphs     {found.paragraphs:,}")
    typer.echo(f"source tokens  {found.source_tokens:,}")
    typer.echo(f"target tokens  about {found.target_tokens:,}")
    typer.echo(f"time           about {hours} h {minutes:02} min, by a trial of {found.tried} paragraphs")
    typer.echo(f"memory         {found.peak_bytes / 1e9:.1f} GB in the trial")


def _languages(document: Document, source: str, target: str) -> tuple[Language, Language]:
    from templora_cli.translation.languages import language

    found, to = source_language(document, source), language(target)
    if found == to:
        raise TemploraError(f"source and target are both {to.name}", "--from zh --to en")
    return found, to


def source_language(document: Document, source: str) -> Language:
    """The language that `--from` names, or that the document is written in where it is "auto"."""
    from templora_cli.translation.languages import detect_language, language

    if source != "auto":
        return language(source)
    sample = "\n".join(paragraph.text for paragraph in document.paragraphs[:SAMPLE])
    if (detected := detect_language(sample)) is None:
        raise TemploraError("the language of the file cannot be told", "say it: --from zh")
    return detected


def _chosen(document: Document, start: int | None, end: int | None, limit: int | None) -> tuple[int, int]:
    """The paragraphs that are asked for, as a range."""
    chapters = document.chapters
    for name, number in (("--start", start), ("--end", end)):
        if number is not None and not 1 <= number <= len(chapters):
            raise TemploraError(f"{name} {number}: the book has {len(chapters)} chapters", f"{name} 1")
    if start is not None and end is not None and end < start:
        raise TemploraError(f"--end {end} lies before --start {start}", f"--start {end} --end {start}")
    if limit is not None and limit < 1:
        raise TemploraError(f"--limit {limit}: must be at least 1", "--limit 20")
    first = 0 if start is None else chapters[start - 1].first
    last = len(document.paragraphs) if end is None else chapters[end - 1].end
    return first, last if limit is None else min(last, first + limit)


def _terms(path: Path | None, view: View) -> Glossary:
    from templora_cli.translation.glossary_file import read_glossary
    from templora_cli.translation.terminology import Glossary

    glossary = Glossary(()) if path is None else read_glossary(path)
    for notice in glossary.notices:
        view.show(Notice(notice))
    return glossary


def _out(file: Path, out: Path | None, target: Language) -> Path:
    """Where the translation goes. Raises TemploraError where it cannot, or where something is there."""
    path = out or file.with_name(f"{file.stem} ({target.name}){file.suffix}")
    if path.suffix.lower() != file.suffix.lower():
        raise TemploraError(
            f"{path.name}: a translation has the form of its source, {file.suffix}",
            f"--out {path.stem}{file.suffix}",
        )
    return check_writable(path)


def _begun_on_another_version(request: TranslationRequest) -> str | None:
    """What to tell where a session that is not finished has the same file as it was earlier."""
    from templora_cli.sessions.store import Store, sha256_of
    from templora_cli.translation.translated_book import TranslatedBook

    store, path, content = Store(), request.path.absolute(), sha256_of(request.content)
    for begun in store.manifests():
        if isinstance(begun, TemploraError) or begun.task != "translation":
            continue
        same = begun.request.get("path") == str(path) and begun.source_sha256 != content
        with suppress(TemploraError):  # a damaged one is not gone on with
            if same and not TranslatedBook(store.folder / begun.id, begun).finished:
                goes_on = f"which goes on with its own copy: templora resume {begun.id}"
                return f"{path.name} has changed since session {begun.id} began, {goes_on}"
    return None
