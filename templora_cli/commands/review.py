"""`templora review`, `sync` and `retry`: corrections of a translation."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli.commands.arguments import save
from templora_cli.commands.editor import find_editor, run_editor
from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import engine_in_use, follow, noting, open_view
from templora_cli.commands.translate import exit_if_some_failed
from templora_cli.errors import TemploraError
from templora_cli.events import Interrupted, Notice, RebuildStarted, Synced
from templora_cli.interrupts import STOPPED, ignore_ctrl_c

if TYPE_CHECKING:
    from templora_cli.render.view import View
    from templora_cli.runner import Run
    from templora_cli.sessions.store import Session
    from templora_cli.translation.translated_book import TranslatedBook

Reference = Annotated[
    Optional[str],
    typer.Argument(help="Id of a session, or its first letters (default: the last translation)."),
]
Which = Annotated[
    Literal["all", "retried", "failed"], typer.Option(help="Which paragraphs: all, or those in one state.")
]
Model = Annotated[
    Optional[str],
    typer.Option(help="New location of the model if it has moved: folder, .gguf file, alias or id."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print events as JSON on standard output, one per line.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]


def review(
    session: Reference = None,
    only: Which = "all",
    out: Annotated[
        Optional[Path],
        typer.Option(help="The file to write (default: SESSION.review.txt).", callback=expand_home),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Open the file in your editor, then sync.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an edited file; the edited version is renamed.")
    ] = False,
) -> None:
    """Write a file with all paragraphs and translations, in which you correct them.

    An earlier file is written again if it was not edited.
    """
    from templora_cli.sessions.store import now
    from templora_cli.translation.corrections import review_text

    editor = find_editor() if edit else []
    with _opened(session) as (book, translated):
        report = translated.report
        paragraphs = [paragraph for paragraph in report.paragraphs if only in ("all", paragraph.state)]
        if not paragraphs:
            kind = "translated" if only == "all" else only
            raise TemploraError(f"{book.id} has no {kind} paragraphs yet", f"templora resume {book.id}")
        target = out or Path(f"{book.id}.review.txt")
        path = save(book.path, target, review_text(paragraphs, book.id), force=force)
        book.update(opened=now())
    if editor:
        run_editor(editor, path, hint=_sync_command(book, path))
        sync(book.id, path)


def sync(
    session: Reference = None,
    file: Annotated[
        Optional[Path],
        typer.Argument(help="The edited file (default: SESSION.review.txt).", callback=expand_home),
    ] = None,
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Apply corrections: the adapter learns the book again from the first one on.

    Corrections are learnt like human text, with `correction_weight` times as many passes. The
    file of a finished translation is written again; continue an unfinished one with `templora
    resume`.
    """
    from templora_cli.documents.text_input import read_text
    from templora_cli.sessions.exports import may_be_replaced
    from templora_cli.sessions.store import now
    from templora_cli.translation.corrections import read_corrections
    from templora_cli.translation.task import apply_corrections

    with open_view(json=json, quiet=quiet, prose=False) as (view, stop), _opened(session) as opened:
        book, translated = opened
        former_ids = book.manifest.former_ids
        path = file or _review_file(book.id, former_ids)
        sync_command = _sync_command(book, path)
        paragraphs = {paragraph.paragraph: paragraph for paragraph in translated.report.paragraphs}
        text = read_text(path, notify=noting(view))
        content = path.read_bytes()
        corrections = read_corrections(text, paragraphs, book.id, str(path), former_ids=former_ids)
        if not corrections:
            may_be_replaced(book.path, content)
            view.show(Notice(f"{path} contains no corrections or approvals"))
            return

        from templora_cli import runner

        for notice in engine_in_use().kind(book.manifest).notices(book):
            view.show(Notice(notice))
        engine = engine_in_use()
        run = runner.reopen(book, model=model, command=sync_command, notify=view.show, engine=engine)
        book.update(opened=now())
        records = apply_corrections(translated.records, corrections)
        chunks = [{**chunk, "record": record} for chunk, record in zip(run.chunks, records, strict=True)]
        try:
            count = _relearn(run, chunks, view, stop)
            if stop.is_set():
                raise KeyboardInterrupt
            may_be_replaced(book.path, content)
            finished = translated.finished
            resume_command = None if finished else book.resume_command
            view.show(Synced(book.id, len(corrections), count, resume_command))
            last = None
            for last in run.end() if finished else ():
                view.show(last)
        except KeyboardInterrupt:
            ignore_ctrl_c()
            _report_interrupt(book, records, sync_command, view)
            raise typer.Exit(STOPPED) from None
        exit_if_some_failed(last)


def _review_file(session_id: str, former_ids: Sequence[str]) -> Path:
    """The review file in the working folder; its name may contain a former id of the session."""
    paths = [Path(f"{name}.review.txt") for name in (session_id, *reversed(former_ids))]
    return next((path for path in paths if path.exists()), paths[0])


def _sync_command(book: Session, path: Path) -> str:
    return f"templora sync {book.id} {shlex.quote(str(path))}"


def _relearn(run: Run, chunks: Sequence[dict[str, Any]], view: View, stop: threading.Event) -> int:
    """Learn `chunks`, show the progress, and return the number of chunks that were learnt again."""
    count = 0
    with closing(run.relearn(chunks, stop)) as events:
        for event in events:
            view.show(event)
            if isinstance(event, RebuildStarted):
                count = event.chunks
    return count


def _report_interrupt(book: Session, records: Sequence[Any], sync_command: str, view: View) -> None:
    """Report whether Ctrl-C came before or after the new chunks replaced the old ones."""
    from templora_cli.sessions.steps import read_chunks
    from templora_cli.sessions.store import finish_replacing_steps

    finish_replacing_steps(book.path)
    is_synced = [chunk["record"] for chunk in read_chunks(book.steps)] == records
    if is_synced:
        view.show(Notice("the corrections are saved and learnt"))
    else:
        view.show(Notice("the corrections were not applied; the session has not changed"))
    view.show(Interrupted(book.id, len(records), 0, book.resume_command if is_synced else sync_command))


def retry(
    session: Reference = None,
    only: Annotated[
        Literal["failed", "retried"], typer.Option(help="Which paragraphs: those in this state.")
    ] = "failed",
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Translate paragraphs again with the adapter that has learnt the whole book."""
    from templora_cli.sessions.store import now

    with open_view(json=json, quiet=quiet, prose=False) as (view, stop), _opened(session) as opened:
        book, translated = opened
        if not translated.finished:
            raise TemploraError(f"{book.id} is not finished", f"to finish it: templora resume {book.id}")
        report = translated.report
        retries = [paragraph.paragraph for paragraph in report.paragraphs if paragraph.state == only]
        if not retries:
            raise TemploraError(f"{book.id} has no {only} paragraphs", f"templora review {book.id}")

        from templora_cli import runner

        command = f"templora retry {book.id} --only {only}"
        engine = engine_in_use()
        run = runner.reopen(book, model=model, command=command, notify=view.show, engine=engine)
        request = book.manifest.request
        request = {**request, "retries": [*request["retries"], *retries]}
        goal = book.manifest.goal_amount + len(retries)
        book.update(opened=now(), request=request, goal_amount=goal)
        exit_if_some_failed(follow(run, run.events(stop), view, stop))


@contextmanager
def _opened(reference: str | None) -> Iterator[tuple[Session, TranslatedBook]]:
    """Open the session, by default the last translation. Raises TemploraError if it is not a translation."""
    from templora_cli.sessions.store import Store
    from templora_cli.translation.kind import require_translation

    store = Store()
    if reference is None and (reference := store.last("translation")) is None:
        raise TemploraError(f"there is no translation in {store.folder}", "templora translate FILE --to en")
    with store.open(reference) as book:
        yield book, require_translation(book)
