"""`templora review`, `sync` and `retry`: a person's part in a translation."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli.commands.arguments import check_writable
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.commands.translate import exit_where_some_failed
from templora_cli.errors import TemploraError
from templora_cli.events import Interrupted, Notice, RebuildStarted, Synced

if TYPE_CHECKING:
    from templora_cli.render import View
    from templora_cli.runner import Run
    from templora_cli.sessions.store import Session
    from templora_cli.translation.translated_book import TranslatedBook

Reference = Annotated[
    Optional[str], typer.Argument(help="Session id or the beginning of one (default: the last).")
]
Which = Annotated[
    Literal["all", "retried", "failed"], typer.Option(help="Which paragraphs: all, or those with a state.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON event a line on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]


def review(
    session: Reference = None,
    only: Which = "all",
    out: Annotated[Optional[Path], typer.Option(help="The file (default: SESSION.review.txt).")] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Open it in $EDITOR, and sync afterwards.")] = False,
) -> None:
    """Write the pairs of a translation to a file in which a person corrects them."""
    from templora_cli.files import write_atomically
    from templora_cli.translation.corrections import review_text

    with _opened(session) as (book, translated):
        chosen = [line for line in translated.report.lines if only in ("all", line.state)]
        if not chosen:
            raise TemploraError(f"{book.id} has no such paragraphs yet", f"templora resume {book.id}")
        path = check_writable(out or Path(f"{book.id}.review.txt"))
        write_atomically(path, review_text(chosen, book.id))
    typer.echo(str(path))
    if edit:
        sync_command = _sync_command(book, path)
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if not editor:
            raise TemploraError("$EDITOR names no editor", f"edit {path}, then: {sync_command}")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise TemploraError(f"{editor} failed: {error}", sync_command) from None
        sync(book.id, path)


def sync(
    session: Reference = None,
    file: Annotated[Optional[Path], typer.Argument(help="The corrected file of `templora review`.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take back what a person corrected: the adapter learns the book anew from there, with it.

    Corrections are learnt as given text is, in `correction_weight` times as many passes. The
    file of a finished translation follows them at once; `templora resume` goes on with one that
    is not finished.
    """
    from templora_cli.documents.utf8_text import read_text
    from templora_cli.translation.corrections import corrections_of
    from templora_cli.translation.task import corrected

    with (
        open_view(json=json, quiet=quiet, prose=False) as (view, stop),
        _opened(session) as (
            book,
            translated,
        ),
    ):
        path = file or Path(f"{book.id}.review.txt")
        sync_command = _sync_command(book, path)
        lines = {line.paragraph: line for line in translated.report.lines}
        corrections = corrections_of(read_text(path), lines, book.id, str(path))
        if not corrections:
            view.show(Notice(f"{path} changes and approves nothing"))
            return

        from templora_cli import runner

        for notice in engine_in_use().kind(book.manifest).notices(book):
            view.show(Notice(notice))
        run = runner.reopen(book, notify=view.show, engine=engine_in_use())
        records = corrected(translated.records, corrections)
        after = [{**chunk, "record": record} for chunk, record in zip(run.chunks, records, strict=True)]
        try:
            chunks = _relearn(run, after, view, stop)
            if stop.is_set():
                raise KeyboardInterrupt
            finished = translated.finished
            goes_on = None if finished else book.resume_command
            view.show(Synced(book.id, len(corrections), chunks, goes_on))
            last = None
            for last in run.end() if finished else ():
                view.show(last)
        except KeyboardInterrupt:
            _report_interrupt(book, records, sync_command, view)
            raise
        exit_where_some_failed(last)


def _sync_command(book: Session, path: Path) -> str:
    return f"templora sync {book.id} {shlex.quote(str(path))}"


def _relearn(run: Run, chunks: Sequence[dict[str, Any]], view: View, stop: threading.Event) -> int:
    """Learn to the end and say where it is; returns how many chunks that were."""
    learnt = 0
    with closing(run.relearn(chunks, stop)) as events:
        for event in events:
            view.show(event)
            if isinstance(event, RebuildStarted):
                learnt = event.chunks
    return learnt


def _report_interrupt(book: Session, records: Sequence[Any], sync_command: str, view: View) -> None:
    """Ctrl-C may come before the chunks that were learnt anew are in their place, or after it."""
    from templora_cli.sessions.steps import read_chunks
    from templora_cli.sessions.store import finish_replacing_steps

    finish_replacing_steps(book.path)
    taken_back = [chunk["record"] for chunk in read_chunks(book.steps)] == records
    if taken_back:
        view.show(Notice("the corrections are taken back and learnt"))
    else:
        view.show(Notice("nothing was taken back, the session is as it was"))
    goes_on = book.resume_command if taken_back else sync_command
    view.show(Interrupted(book.id, len(records), 0, goes_on))


def retry(
    session: Reference = None,
    only: Annotated[
        Literal["failed", "retried"], typer.Option(help="Paragraphs with this state.")
    ] = "failed",
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Translate paragraphs again with what the adapter knows by now."""
    with (
        open_view(json=json, quiet=quiet, prose=False) as (view, stop),
        _opened(session) as (
            book,
            translated,
        ),
    ):
        if not translated.finished:
            raise TemploraError(f"{book.id} is not finished", f"first: templora resume {book.id}")
        again = [line.paragraph for line in translated.report.lines if line.state == only]
        if not again:
            raise TemploraError(f"{book.id} has no paragraphs that are {only}", f"templora review {book.id}")

        from templora_cli import runner

        run = runner.reopen(book, notify=view.show, engine=engine_in_use())
        request = {**book.manifest.request, "again": [*book.manifest.request["again"], *again]}
        book.update(request=request, goal_amount=book.manifest.goal_amount + len(again))
        exit_where_some_failed(follow(run, run.events(stop), view, stop))


@contextmanager
def _opened(reference: str | None) -> Iterator[tuple[Session, TranslatedBook]]:
    """The session, if it is a translation."""
    from templora_cli.sessions.store import Store
    from templora_cli.translation.kind import require_translation

    with Store().open(reference) as book:
        yield book, require_translation(book)
