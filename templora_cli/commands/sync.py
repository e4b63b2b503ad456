"""`templora sync`: what a person changed, in a book or in the review file of a translation."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import confirm, engine_in_use, noting, open_view
from templora_cli.commands.translate import exit_if_some_failed
from templora_cli.commands.undo import AsJson, Quiet, changeable, make_change
from templora_cli.errors import TemploraError
from templora_cli.events import Interrupted, Notice, RebuildStarted, Synced
from templora_cli.interrupts import STOPPED, ignore_ctrl_c

if TYPE_CHECKING:
    from templora_cli.render.view import View
    from templora_cli.run import Run
    from templora_cli.sessions.kind import TaskKind
    from templora_cli.sessions.store import Session, Store

Model = Annotated[
    Optional[str],
    typer.Option(help="New location of the model if it has moved: folder, .gguf file, alias or id."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask, even if most of the text is gone.")]


Later = Annotated[
    bool,
    typer.Option(
        "--later",
        help="Learn what you changed as the next turn, in seconds. What follows it in the book is not learnt "
        "again, and the old text stays in the weights.",
    ),
]


def sync(
    session: Annotated[
        Optional[str],
        typer.Argument(help="Id of a session, or its first letters (default: the last one); or FILE."),
    ] = None,
    file: Annotated[
        Optional[Path],
        typer.Argument(
            help="The edited file (default: the --out file of the book, or SESSION.review.txt).",
            callback=expand_home,
        ),
    ] = None,
    later: Later = False,
    yes: Yes = False,
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Apply what you changed: the adapter learns the book again from the first change on.

    For a novel, FILE is the book as you edited it; what you wrote is learnt as a person's. For a
    translation it is a review file; corrections are learnt with `correction_weight` times as many passes.
    Wrapping, line ends and the style of quotation marks are no changes.
    """
    from templora_cli.sessions.store import Store

    store = Store()
    if file is None and session is not None and _is_file(session, store):
        file, session = Path(session), _session_of(Path(session))
    with open_view(json=json, quiet=quiet, prose=False) as (view, stop), changeable(store, session) as book:
        kind = engine_in_use().kind(book.manifest)
        if kind.is_prose:
            path = file or _book_file(book)
            sync_book(book, kind, path, view, stop, later=later, yes=yes, model=model)
        elif later:
            raise TemploraError(f"{book.id} is a translation: --later is for novels", "leave out --later")
        else:
            _sync_translation(book, file, view, stop, model=model)


def sync_book(
    book: Session,
    kind: TaskKind,
    path: Path,
    view: View,
    stop: threading.Event,
    *,
    later: bool = False,
    yes: bool = False,
    model: str | None = None,
    run: Run | None = None,
) -> bool:
    """Learn what a person changed in the file of a book; `run` has its model, if it is loaded.

    Returns whether the file had changes. Raises TemploraError if it is of another book.
    """
    from templora_cli import runner
    from templora_cli.novel.edits import edited_chapters, has_new_words, keep_synced, read_edits
    from templora_cli.novel.revised_chunks import ChunkReviser
    from templora_cli.sessions.exports import may_be_replaced
    from templora_cli.sessions.versions import Reason

    command = sync_command(book, path)
    chunks = runner.committed(book)
    if not chunks:
        raise TemploraError(f"{book.id} has no text yet", book.resume_command)
    text, content = _read_edited(path, noting(view))
    edits = read_edits(book, kind, chunks, text, str(path))
    for notice in edits.notices:
        view.show(Notice(notice))
    if not edits.revision.paragraphs:
        view.show(Notice(f"{path} has no changes"))
        return False
    view.pause()
    if edits.question and not yes and not confirm(edits.question, f"{command} --yes"):
        view.show(Notice(f"{book.id} is as it was"))
        raise typer.Exit(STOPPED)
    engine = engine_in_use()
    run = run or runner.reopen(book, model=model, command=command, notify=view.show, engine=engine)
    if kind.has_opening(book.manifest) and _reads_opening(book, chunks):
        raise TemploraError(
            f"{book.id} has not read its opening to the end yet",
            f"let it do that first: {book.resume_command}",
        )
    reviser = ChunkReviser(run.model.tokenizer, book.manifest.longest_chunk)
    plan = None
    if edits.segments:
        if later:
            raise TemploraError(
                "chapters were changed, and --later learns only text", f"leave out --later: {command}"
            )
        revised, plan = edited_chapters(book, chunks, edits, reviser)
    else:
        revised = edits.applied(chunks, reviser)
        kind.check_chunks(book, revised)
    detail = edits.summary
    if later and not has_new_words(chunks, revised):
        raise TemploraError(
            "you added no words, so there is nothing to learn later", f"leave out --later: {command}"
        )
    reason, known = Reason("sync", detail), content if edits.is_whole_file else None
    make_change(
        book,
        lambda: (
            run.learn_later(revised, stop, reason=reason, synced=known)
            if later
            else run.relearn(revised, stop, reason=reason, synced=known, plan=plan)
        ),
        "sync",
        view,
        stop,
        detail=detail,
    )
    keep_synced(book, edits)
    if edits.is_whole_file:
        may_be_replaced(book.path, content)
    return True


def _session_of(file: Path) -> str | None:
    """The session that is named at the beginning of an edited file, if any; it may have another name now."""
    from templora_cli.novel.edited_file import read_mark
    from templora_cli.sessions.store import Store

    try:
        with file.open(encoding="utf-8") as stream:
            mark, _ = read_mark(stream.read(1000))
    except (OSError, UnicodeDecodeError):
        return None
    if mark is None:
        return None
    known = [manifest for manifest in Store().manifests() if not isinstance(manifest, TemploraError)]
    renamed = [each.id for each in known if mark.session in each.former_ids]
    return renamed[0] if renamed and mark.session not in [each.id for each in known] else mark.session


def _is_file(name: str, store: Store) -> bool:
    return not (store.folder / name).exists() and Path(name).is_file()


def offer_to_learn_edits(run: Run, view: View, stop: threading.Event, *, ask: bool) -> None:
    """If a person has edited the book file, say so, and learn it if they wish; `ask` them on a terminal.

    What is not learnt is set aside when the file is written next.
    """
    from templora_cli import runner
    from templora_cli.novel.edits import read_edits
    from templora_cli.sessions.steps import StepDamagedError

    try:
        book_file = run.kind.book_file(run.session)
        if book_file is None or book_file.edited() is None:
            return
        path, chunks = book_file.path, runner.committed(run.session)
        text, _ = _read_edited(path, noting(view))
        edits = read_edits(run.session, run.kind, chunks, text, str(path))
    except StepDamagedError:
        return  # what is damaged is repaired first
    except TemploraError as error:
        view.show(Notice(f"what was edited is not learnt: {error.message}"))
        return
    if not edits.revision.paragraphs:
        return
    view.show(Notice(f"{path.name} was edited: {edits.summary}"))
    is_asked = ask and sys.stdin is not None and sys.stdin.isatty()
    view.pause()
    if is_asked and confirm("Learn this before the book goes on?", sync_command(run.session, path)):
        sync_book(run.session, run.kind, path, view, stop, run=run)


def _read_edited(path: Path, notify: Callable[[str], None]) -> tuple[str, bytes]:
    """The text and the bytes of an edited file. Raises TemploraError as `read_prose` does."""
    from templora_cli.documents.prose import read_prose
    from templora_cli.documents.text_input import unreadable

    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:  # a name that no file can have, from a damaged session
        raise TemploraError(f"there can be no file {path}", "name the file that you edited") from None
    return read_prose(path, notify=notify), content


def _reads_opening(book: Session, chunks: Sequence[dict[str, Any]]) -> bool:
    """Is a part of the opening still to be read?"""
    from templora_cli.novel.opening import opening_in_book

    read = sum(len(chunk["tokens"]) for chunk in chunks)
    return all(chunk["origin"] == "human" for chunk in chunks) and read < len(
        opening_in_book(book.opening(), chunks)
    )


def sync_command(book: Session, path: Path) -> str:
    """The command that applies an edited file."""
    return f"templora sync {book.id} {shlex.quote(str(path))}"


def _book_file(book: Session) -> Path:
    """The file of a book that a person edits. Raises TemploraError if there is none."""
    if book.manifest.out is not None:
        return Path(book.manifest.out)
    if (path := Path(f"{book.id}.md")).exists():
        return path
    raise TemploraError(f"which file did you edit? {book.id} has none", f"templora edit {book.id}")


def _sync_translation(
    book: Session, file: Path | None, view: View, stop: threading.Event, *, model: str | None
) -> None:
    """Learn the corrections in a review file."""
    from templora_cli import runner
    from templora_cli.documents.text_input import read_text
    from templora_cli.sessions.exports import may_be_replaced
    from templora_cli.sessions.store import now
    from templora_cli.translation.corrections import read_corrections
    from templora_cli.translation.kind import require_translation
    from templora_cli.translation.task import apply_corrections

    translated = require_translation(book)
    former_ids = book.manifest.former_ids
    path = file or _review_file(book.id, former_ids)
    command = sync_command(book, path)
    paragraphs = {paragraph.paragraph: paragraph for paragraph in translated.report.paragraphs}
    text = read_text(path, notify=noting(view))
    content = path.read_bytes()
    corrections = read_corrections(text, paragraphs, book.id, str(path), former_ids=former_ids)
    if not corrections:
        may_be_replaced(book.path, content)
        view.show(Notice(f"{path} contains no corrections or approvals"))
        return
    engine = engine_in_use()
    for notice in engine.kind(book.manifest).notices(book):
        view.show(Notice(notice))
    run = runner.reopen(book, model=model, command=command, notify=view.show, engine=engine)
    book.update(opened=now())
    records = apply_corrections(translated.records, corrections)
    chunks = [{**chunk, "record": record} for chunk, record in zip(run.chunks, records, strict=True)]
    try:
        count = _relearn(run, chunks, view, stop)
        if stop.is_set():
            raise KeyboardInterrupt
        may_be_replaced(book.path, content)
        finished = translated.finished
        view.show(Synced(book.id, len(corrections), count, None if finished else book.resume_command))
        last = None
        for last in run.end() if finished else ():
            view.show(last)
    except KeyboardInterrupt:
        ignore_ctrl_c()
        _report_interrupt(book, records, command, view)
        raise typer.Exit(STOPPED) from None
    exit_if_some_failed(last)


def _review_file(session_id: str, former_ids: Sequence[str]) -> Path:
    """The review file in the working folder; its name may contain a former id of the session."""
    paths = [Path(f"{name}.review.txt") for name in (session_id, *reversed(former_ids))]
    return next((path for path in paths if path.exists()), paths[0])


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
