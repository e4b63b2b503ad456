"""`templora translate`: translate a book with a model that learns its names and its voice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import check_no_folder, check_writable
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, follow, noting, open_view, print_facts
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, TranslationFinished, Working
from templora_cli.render.figures import count_of

if TYPE_CHECKING:
    from templora_cli.documents.document import Document
    from templora_cli.languages import Language
    from templora_cli.render.view import View
    from templora_cli.translation.kind import TranslationRequest
    from templora_cli.translation.terminology import Glossary

SOME_FAILED = 3
"""Exit status if some paragraphs still fail a check."""
SAMPLE_PARAGRAPHS = 200
"""Paragraphs that are read to detect the language of a document."""


@flags.takes_settings(
    *("translation.context_pairs", "translation.attempts", "translation.correction_weight"),
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "seed"),
    prefer="translation",
    task="translation",
)
def translate(
    file: Annotated[
        Path, typer.Argument(help="The book: .txt, .md, .html, .epub or .docx.", callback=expand_home)
    ],
    target: Annotated[str, typer.Option("--to", help="Language of the translation, as code or name.")],
    source: Annotated[
        str, typer.Option("--from", help="Language of the file, as code or name; auto detects it.")
    ] = "auto",
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="The translated file (default: FILE (Language), beside FILE).", callback=expand_home
        ),
    ] = None,
    bilingual: Annotated[
        bool, typer.Option("--bilingual", help="Write each paragraph in both languages, source first.")
    ] = False,
    glossary: Annotated[
        Optional[Path],
        typer.Option(help="Terms and their translations: .csv, .json or .toml.", callback=expand_home),
    ] = None,
    encoding: Annotated[
        Optional[str],
        typer.Option(help="Encoding of a text file if detection is wrong: gb18030, big5, ..."),
    ] = None,
    start: Annotated[Optional[int], typer.Option(help="First chapter, from 1.")] = None,
    end: Annotated[Optional[int], typer.Option(help="Last chapter.")] = None,
    limit: Annotated[Optional[int], typer.Option(help="Maximum number of paragraphs.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only estimate time and memory, with a short trial.")
    ] = False,
    name: flags.SessionName = None,
    *,
    settings: GivenSettings,
    json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON on standard output, one per line.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Translate a book with a model that learns the book while it translates.

    Each paragraph is translated and checked. If a check fails, the paragraph is translated again; if it
    still fails, it is marked in the report and the exit status is 3. You can stop at any time with Ctrl-C.
    To continue, run `templora resume` or the same command again.
    """
    from templora_cli.documents.registry import read_document

    stopped = "stopped before the translation began; type the same command again"
    with open_view(json=json, quiet=quiet, prose=False, stopped=stopped) as (view, stop):
        config = settings.resolve()
        document = read_document(file, encoding=encoding, notify=noting(view))
        languages = _languages(document, source, target)
        if notice := _other_language_notice(document, languages[0], source):
            view.show(Notice(notice))
        first, last = _paragraph_range(document, start, end, limit)
        terms = _read_glossary(glossary, languages, view)
        translated = None if estimate else _output_path(file, out, languages[1])

        from templora_cli import runner
        from templora_cli.translation.kind import TranslationRequest

        request = TranslationRequest(
            document, file, languages, translated, first, last, terms, encoding=encoding, bilingual=bilingual
        )
        if estimate:
            _print_estimate(request, config, view)
            return
        if notice := _changed_source_notice(request):
            view.show(Notice(notice))
        engine = engine_in_use()
        begun = runner.begin(request, config, notify=view.show, engine=engine, resume_same=True, name=name)
        with begun as run:
            exit_if_some_failed(follow(run, run.events(stop), view, stop))


def exit_if_some_failed(last: Event | None) -> None:
    """Exit with `SOME_FAILED` if the last event of a run reports failed paragraphs."""
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
        result = estimate(task, model, engine.backend(model, config.decode.backend), config)
    view.close()
    trial = count_of(result.trial_paragraphs, "paragraph")
    hours, minutes = divmod(math.ceil(result.seconds / 60), 60)
    print_facts(
        {
            "paragraphs": f"{result.paragraphs:,}",
            "source tokens": f"{result.source_tokens:,}",
            "target tokens": f"about {result.target_tokens:,}",
            "time": f"about {hours} h {minutes:02} min, from a trial of {trial}",
            "memory": f"{result.peak_bytes / 1e9:.1f} GB in the trial",
        }
    )


def _languages(document: Document, source: str, target: str) -> tuple[Language, Language]:
    from templora_cli.languages import language

    languages = source_language(document, source), language(target)
    if languages[0] == languages[1]:
        raise TemploraError(
            f"source and target are both {languages[0].name}", "give two languages: --from zh --to en"
        )
    return languages


def _other_language_notice(document: Document, given: Language, source: str) -> str | None:
    """A notice if the file seems to be in another language than the one that was `given`."""
    from templora_cli.languages import detect_language, same_language

    detected = None if source == "auto" else detect_language(_sample(document))
    if detected is None or same_language(given.base, detected.base):
        return None
    seems = f"the file seems to be in {detected.name}, not in {given.name} as --from says"
    return f"{seems}; if so, use --from {detected.code}"


def _sample(document: Document) -> str:
    return "\n".join(paragraph.text for paragraph in document.paragraphs[:SAMPLE_PARAGRAPHS])


def source_language(document: Document, source: str) -> Language:
    """The language with the code or name `source`, or the language of the document if that is "auto"."""
    from templora_cli.languages import detect_language, language

    if source != "auto":
        return language(source)
    if (detected := detect_language(_sample(document))) is None:
        raise TemploraError("the language of the file cannot be detected", "name it, for example --from zh")
    return detected


def _paragraph_range(
    document: Document, start: int | None, end: int | None, limit: int | None
) -> tuple[int, int]:
    """The requested paragraphs: index of the first, and index after the last."""
    chapters = document.chapters
    for name, number in (("--start", start), ("--end", end)):
        if number is not None and not 1 <= number <= len(chapters):
            raise TemploraError(
                f"{name} {number}: the book has {count_of(len(chapters), 'chapter')}", f"{name} 1"
            )
    if start is not None and end is not None and end < start:
        raise TemploraError(f"--end {end} is before --start {start}", f"--start {end} --end {start}")
    if limit is not None and limit < 1:
        raise TemploraError(f"--limit {limit}: must be at least 1", "--limit 20")
    first = 0 if start is None else chapters[start - 1].first
    last = len(document.paragraphs) if end is None else chapters[end - 1].end
    return first, last if limit is None else min(last, first + limit)


def _read_glossary(path: Path | None, languages: Sequence[Language], view: View) -> Glossary:
    from templora_cli.translation.glossary_file import read_glossary
    from templora_cli.translation.terminology import Glossary

    glossary = (
        Glossary(()) if path is None else read_glossary(path, [language.code for language in languages])
    )
    for notice in glossary.notices:
        view.show(Notice(notice))
    return glossary


def _output_path(file: Path, out: Path | None, target: Language) -> Path:
    """The file of the translation. Raises TemploraError if it exists or cannot be written."""
    usual = f"{file.stem} ({target.name}){file.suffix}"
    path = out or file.with_name(usual)
    check_no_folder(path, usual)
    if path.suffix.lower() != file.suffix.lower():
        raise TemploraError(
            f"{path.name}: a translation has the format of its source, {file.suffix}",
            f"--out {path.stem}{file.suffix}",
        )
    return check_writable(path)


def _changed_source_notice(request: TranslationRequest) -> str | None:
    """A notice if an unfinished session translates an older version of the same file."""
    from templora_cli.sessions.store import Store, sha256_of
    from templora_cli.translation.translated_book import TranslatedBook

    store, path, content = Store(), request.path.absolute(), sha256_of(request.content)
    for manifest in store.manifests():
        if isinstance(manifest, TemploraError) or manifest.task != "translation":
            continue
        is_older = manifest.request.get("path") == str(path) and manifest.source_sha256 != content
        with suppress(TemploraError):  # a damaged session cannot be resumed
            if is_older and not TranslatedBook(store.folder / manifest.id, manifest).finished:
                hint = f"to continue with its copy of the old version: templora resume {manifest.id}"
                return f"{path.name} has changed since session {manifest.id} began; {hint}"
    return None
