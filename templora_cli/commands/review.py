"""`templora review`, `sync` and `retry`: a person's part in a translation."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli import runner
from templora_cli.commands import translate
from templora_cli.commands.resume import load_as_begun
from templora_cli.commands.terminal import open_view, raise_interrupt
from templora_cli.config import from_dict
from templora_cli.errors import TemploraError
from templora_cli.events import ChunkRelearnt, Event, Interrupted, Notice, RebuildStarted, Synced

if TYPE_CHECKING:
    from templora_cli.render import View
    from templora_cli.sessions.store import Session
    from templora_cli.translation.session import TranslatedBook

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
    from templora_cli.translation.review import review_text

    with _opened(session) as (book, translated):
        chosen = [line for line in translated.report.lines if only in ("all", line.state)]
        if not chosen:
            raise TemploraError(f"{book.id} has no such paragraphs yet", f"templora resume {book.id}")
        path = runner.check_writable(out or Path(f"{book.id}.review.txt"))
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
    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.engine.models.loading import out_of_memory_hint
    from templora_cli.sessions.checkpoint import read_chunks
    from templora_cli.sessions.history import first_change, relearn
    from templora_cli.translation.review import corrections_of
    from templora_cli.translation.task import corrected

    with open_view(json=json, quiet=quiet, prose=False) as view, _opened(session) as (book, translated):
        path = file or Path(f"{book.id}.review.txt")
        sync_command = _sync_command(book, path)
        lines = {line.paragraph: line for line in translated.report.lines}
        corrections = corrections_of(read_text(path), lines, book.id, str(path))
        if not corrections:
            view.show(Notice(f"{path} changes and approves nothing"))
            return
        translate.tell_of_changed_source(book, view)
        config = from_dict(book.manifest.config, str(book.path / "session.json"))
        model = load_as_begun(book, view)
        before = read_chunks(book.steps)
        records = corrected([chunk["record"] for chunk in before], corrections)
        after = [{**chunk, "record": record} for chunk, record in zip(before, records, strict=True)]
        task = runner.translation_task(book, model, config)
        backend = backend_for(model, book.manifest.backend)
        try:
            advice = f"nothing was taken back; {runner.LESS_MEMORY}"
            with out_of_memory_hint(advice):
                relearning = relearn(book, task, after, first_change(before, after), model, backend, config)
                chunks = _follow(relearning, view)
            finished = translated.finished
            goes_on = None if finished else book.resume_command
            view.show(Synced(book.id, len(corrections), chunks, goes_on))
            if finished:
                translate.write_document(book, view)
        except KeyboardInterrupt:
            _tell_of_the_stop(book, records, sync_command, view)
            raise


def _sync_command(book: Session, path: Path) -> str:
    return f"templora sync {book.id} {shlex.quote(str(path))}"


def _follow(rebuilding: Iterator[Event], view: View) -> int:
    """Learn to the end and say where it is; returns how many chunks that were."""
    done, in_all, doing = 0, 0, "learning the book anew"
    while True:
        with view.status(doing):
            event = next(rebuilding, None)
        raise_interrupt()
        if event is None:
            return in_all
        view.show(event)
        if isinstance(event, RebuildStarted):
            in_all = event.chunks
        done += isinstance(event, ChunkRelearnt)
        doing = f"learning the book anew, chunk {min(done + 1, in_all)} of {in_all}"


def _tell_of_the_stop(book: Session, records: Sequence[Any], sync_command: str, view: View) -> None:
    """Ctrl-C may come before the chunks that were learnt anew are in their place, or after it."""
    from templora_cli.sessions.checkpoint import read_chunks
    from templora_cli.sessions.store import finish_swap

    finish_swap(book.path)
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
    with open_view(json=json, quiet=quiet, prose=False) as view, _opened(session) as (book, translated):
        if not translated.finished:
            raise TemploraError(f"{book.id} is not finished", f"first: templora resume {book.id}")
        again = [line.paragraph for line in translated.report.lines if line.state == only]
        if not again:
            raise TemploraError(f"{book.id} has no paragraphs that are {only}", f"templora review {book.id}")
        model = load_as_begun(book, view)
        request = {**book.manifest.request, "again": [*book.manifest.request["again"], *again]}
        book.update(request=request, goal_amount=book.manifest.goal_amount + len(again))
        translate.finish(book, model, view)


@contextmanager
def _opened(reference: str | None) -> Iterator[tuple[Session, TranslatedBook]]:
    """The session, if it is a translation."""
    from templora_cli.sessions.store import Store
    from templora_cli.translation.session import TranslatedBook

    with Store().open(reference) as book:
        if book.manifest.task != "translation":
            raise TemploraError(f"{book.id} is no translation", "templora sessions list")
        yield book, TranslatedBook(book.path, book.manifest)
