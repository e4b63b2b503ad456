"""`templora translate`: a whole book, with a model that learns its names and its voice on the way."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli import runner
from templora_cli.commands import flags
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Interrupted, Notice, Translated

if TYPE_CHECKING:
    from templora_cli.documents.base import Document
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.render import View
    from templora_cli.sessions.manifest import Manifest
    from templora_cli.sessions.store import Session
    from templora_cli.translation.glossary import Glossary
    from templora_cli.translation.languages import Language
    from templora_cli.translation.long_paragraphs import CutDocument

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
    from templora_cli.prompt_files import load_prompts
    from templora_cli.translation.session import fingerprint, selected
    from templora_cli.translation.task import MOST_LEARNT

    with open_view(json=json, quiet=quiet, prose=False) as view:
        config = settings.resolve()
        document = read_document(file, encoding=encoding)
        languages = _languages(document, source, target)
        first, last = _chosen(document, start, end, limit)
        terms = _terms(glossary, view)
        book = None if estimate else _out(file, out, languages[1])
        longest = MOST_LEARNT * config.decode.chunk_tokens
        config, folder, loaded = runner.load_model(config, view, chunk=longest)
        cut = _cut(document, loaded, config, languages, view)
        request = {
            "path": str(file.absolute()),
            "suffix": document.suffix,
            "encoding": encoding,
            "from": languages[0].code,
            "to": languages[1].code,
            "first": cut.place(first),
            "end": cut.place(last),
            "bilingual": bilingual,
            "again": [],
            "prompts": load_prompts("translation", config.prompts).texts,
            "paragraphs_sha256": fingerprint(document),
            "cuts": cut.cuts,
            "terms": [{**asdict(term), "forbidden": list(term.forbidden)} for term in terms.terms],
        }
        if book is None:
            _print_estimate(config, loaded, cut, request, terms, view)
            return
        content = document.render({}, languages[0].code)  # nothing translated: the bytes as they were read
        paragraphs = len(selected(cut, request))
        new = _new_session(config, loaded, folder, content, request, paragraphs, book)
        if changed := _begun_on_another_version(new.manifest):
            view.show(Notice(changed))
        with new.go_on() as session:
            finish(session, loaded, view)


def finish(session: Session, model: LanguageModel, view: View) -> None:
    """Translate what is left, then as `write_document`."""
    from templora_cli.sessions.checkpoint import committed_steps

    tell_of_changed_source(session, view)
    runner.run_session(session, model, view)
    try:
        write_document(session, view)
    except KeyboardInterrupt:
        view.show(Interrupted(session.id, len(committed_steps(session.steps)), 0, session.resume_command))
        raise


def tell_of_changed_source(session: Session, view: View) -> None:
    """Say so where the file is another one than the session began with, and goes on with."""
    from templora_cli.translation.session import TranslatedBook

    if TranslatedBook(session.path, session.manifest).source_has_changed:
        name = Path(session.manifest.request["path"]).name
        goes_on = "which goes on with its own copy; to translate the new version: templora translate"
        view.show(Notice(f"{name} has changed since session {session.id} began, {goes_on}"))


def write_document(session: Session, view: View) -> None:
    """Write the translated document and its report. Exits with `SOME_FAILED` where that is so."""
    from templora_cli.translation.session import TranslatedBook

    book = TranslatedBook(session.path, session.manifest)
    with view.status("writing the document"):
        notice = book.write()
    if notice:
        view.show(Notice(notice))
    report = book.report
    counts = report.counts
    view.show(
        Translated(
            session=session.id,
            paragraphs=report.paragraphs,
            **counts,
            out=str(session.manifest.out),
            report=str(session.path / "report.html"),
        )
    )
    if counts["failed"]:
        raise typer.Exit(SOME_FAILED)


def _print_estimate(
    config: Config,
    model: LanguageModel,
    document: Document,
    request: dict[str, Any],
    terms: Glossary,
    view: View,
) -> None:
    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.engine.models.loading import out_of_memory_hint
    from templora_cli.evaluation.estimate import estimate
    from templora_cli.translation.session import languages_of, selected

    task = runner.book_task(
        model, config, request["prompts"], languages_of(request), selected(document, request), terms
    )
    advice = "a smaller --chunk-tokens, --quantize nf4, or a smaller --model"
    with view.status("translating the first paragraphs"), out_of_memory_hint(advice):
        found = estimate(task, model, backend_for(model, config.decode.backend), config)
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


def _cut(
    document: Document,
    model: LanguageModel,
    config: Config,
    languages: tuple[Language, Language],
    view: View,
) -> CutDocument:
    """The document with what is too long for a chunk in parts."""
    from templora_cli.prompt_files import load_prompts
    from templora_cli.translation.long_paragraphs import CutDocument, cuts_of
    from templora_cli.translation.pairs import pair_format

    form = pair_format(model.tokenizer, load_prompts("translation", config.prompts), *languages)
    most = config.decode.chunk_tokens // 2
    cuts = cuts_of(document.paragraphs, lambda text: len(form.source_tokens(text)), most)
    cut = CutDocument(document, cuts)
    if cuts:
        longest = f"too long for a chunk ({most:,} tokens)"
        first = int(next(iter(cuts))) + 1
        parts = len(cut.paragraphs) - len(document.paragraphs) + len(cuts)
        what = f"paragraph {first} is {longest}"
        if len(cuts) > 1:
            what = f"{len(cuts):,} paragraphs are {longest}, paragraph {first} the first of them"
        view.show(Notice(f"{what}: translated in {parts:,} parts, cut at the ends of sentences"))
    return cut


def _terms(path: Path | None, view: View) -> Glossary:
    from templora_cli.translation.glossary import Glossary
    from templora_cli.translation.glossary_file import read_glossary

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
    return runner.check_writable(path)


def _begun_on_another_version(manifest: Manifest) -> str | None:
    """What to tell where a session that is not finished has the same file as it was earlier."""
    from templora_cli.sessions.store import Store
    from templora_cli.translation.session import TranslatedBook

    store = Store()
    for begun in store.manifests():
        if isinstance(begun, TemploraError) or begun.task != "translation":
            continue
        path = manifest.request["path"]
        same = begun.request.get("path") == path and begun.source_sha256 != manifest.source_sha256
        with suppress(TemploraError):  # a damaged one is not gone on with
            if same and not TranslatedBook(store.folder / begun.id, begun).finished:
                goes_on = f"which goes on with its own copy: templora resume {begun.id}"
                return f"{Path(path).name} has changed since session {begun.id} began, {goes_on}"
    return None


def _new_session(
    config: Config,
    model: LanguageModel,
    folder: Path,
    content: bytes,
    request: dict[str, Any],
    paragraphs: int,
    out: Path,
) -> runner.NewSession:
    from templora_cli.prompt_files import load_prompts
    from templora_cli.translation.pairs import pair_format
    from templora_cli.translation.session import languages_of
    from templora_cli.translation.task import MOST_SEEN

    prompts = load_prompts("translation", config.prompts)
    form = pair_format(model.tokenizer, prompts, *languages_of(request))
    header = len(form.header) + config.decode.context_tokens // 2  # the terms of a glossary
    runner.require_window(model, config, header, chunk=MOST_SEEN * config.decode.chunk_tokens)
    manifest = runner.new_manifest(
        "translation",
        config,
        model,
        folder,
        named_after=Path(request["path"]).stem,
        goal=(paragraphs, "paragraphs"),
        source=content,
        prompts=prompts,
        request=request,
        out=out,
    )
    return runner.NewSession(manifest, (), (), content, request["suffix"])
