"""`templora undo`, `sessions restore` and `sessions log`: chunks are taken back, and brought back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands.terminal import UNCHANGED, engine_in_use, open_view, print_json, print_table, say
from templora_cli.errors import TemploraError
from templora_cli.events import Changed, ChunkRelearnt, Event, Notice
from templora_cli.interrupts import STOPPED
from templora_cli.render.figures import count_of, duration

if TYPE_CHECKING:
    from templora_cli.render.view import View
    from templora_cli.sessions.kind import TaskKind
    from templora_cli.sessions.store import Session, Store

LAST_CHARACTERS = 160
"""How much of the end of the book is shown."""
AsJson = Annotated[
    bool, typer.Option("--json", help="Print events as JSON on standard output, one per line.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]


def undo(
    session: Annotated[
        Optional[str],
        typer.Argument(help="Id of a session, or its first letters (default: the last one); or N."),
    ] = None,
    chunks: Annotated[Optional[int], typer.Argument(metavar="[N]", help="Number of chunks.")] = None,
    chapter: Annotated[
        Optional[int], typer.Option(help="Take back everything from the beginning of this chapter.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take back the last N chunks of a book (one without N), or its chapters from --chapter on.

    The adapter becomes what it was before them. `templora resume` writes on from there, with other
    random numbers. Nothing is lost: `templora sessions log` lists what was taken back.
    """
    from templora_cli.sessions.store import Store

    store = Store()
    if chunks is None and session is not None and _is_count(session, store):
        chunks, session = int(session), None
    with open_view(json=json, quiet=quiet, prose=False, stopped=UNCHANGED) as (view, stop):
        if chunks is not None and chapter is not None:
            raise TemploraError("a number of chunks and --chapter cannot be combined", "use one of them")
        from templora_cli import runner
        from templora_cli.sessions.versions import Reason

        engine = engine_in_use()
        with changeable(store, session) as book:
            kind, committed = engine.kind(book.manifest), runner.committed(book)
            keep = _kept(book, kind, committed, chunks, chapter)
            detail = f"from chapter {chapter}" if chapter else count_of(len(committed) - keep, "chunk")
            reason = Reason("undo", detail, redraws=True)
            make_change(
                book,
                lambda: runner.take_back(book, keep, reason, stop, notify=view.show, engine=engine),
                "undo",
                view,
                stop,
            )


def restore(
    session: Annotated[str, typer.Argument(help="Id of a session, or its first letters.")],
    change: Annotated[int, typer.Argument(help="Number of the change in `templora sessions log`.")],
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bring a book back to how it was before a change, text and weights.

    Chunks that are brought back are learnt again, which takes as long as learning them took. This is a
    change itself, which can be taken back in the same way.
    """
    from templora_cli.sessions.store import Store

    with open_view(json=json, quiet=quiet, prose=False, stopped=UNCHANGED) as (view, stop):
        from templora_cli import runner
        from templora_cli.sessions.versions import Reason, chunks_before, plan_before

        engine = engine_in_use()
        with changeable(Store(), session) as book:
            chunks, plan = chunks_before(book.path, change), plan_before(book.path, change)
            if plan is None:
                engine.kind(book.manifest).check_chunks(book, chunks)
            run = runner.reopen(book, notify=view.show, engine=engine)
            reason = Reason("restore", f"to before change {change}")
            make_change(
                book, lambda: run.relearn(chunks, stop, reason=reason, plan=plan), "restore", view, stop
            )


def log(
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the log as JSON.")] = False,
) -> None:
    """List the chunks of a session, and what was changed since they were written.

    `templora sessions restore SESSION NUMBER` goes back to before a change.
    """
    from templora_cli.sessions.store import Store
    from templora_cli.sessions.versions import changes_of

    path = Store().find(session)
    rows = _chunk_rows(path)
    rows += [
        {
            "at": change.made,
            "change": number,
            "what": f"{change.kind} {change.detail}".strip(),
            "chunks": change.after,
        }
        for number, change in changes_of(path).items()
    ]
    rows.sort(key=lambda row: row["at"])
    if json:
        print_json(rows)
        return
    columns = ["change", "what", "words", "gain", "time", "at"]
    print_table(columns, [_cells(row) for row in rows], texts=["what"], optional=["at"])
    if any("change" in row for row in rows):
        say(f"to go back to before a change: templora sessions restore {path.name} NUMBER", err=True)


def _chunk_rows(path: Path) -> list[dict[str, Any]]:
    """A row for each chunk of the book."""
    from datetime import datetime, timezone

    from templora_cli.sessions.steps import readable_chunks, step_name

    rows = []
    steps = path / "steps"
    for chunk in readable_chunks(steps):
        step = steps / step_name(chunk["index"])
        changed = datetime.fromtimestamp((step / "chunk.json").stat().st_mtime, timezone.utc)
        learns = chunk["nll_adapter"] is not None
        record = chunk["record"] if isinstance(chunk["record"], dict) else {}
        chapter = f", chapter {record['chapter'] + 1}" if isinstance(record.get("chapter"), int) else ""
        edited = ", edited" if chunk.get("human") else ""
        rows.append(
            {
                "at": changed.isoformat(),
                "chunk": chunk["index"] + 1,
                "what": f"chunk {chunk['index'] + 1}{chapter}, {chunk['origin']}{edited}",
                "words": chunk["words"],
                "gain": chunk["nll_base"] - chunk["nll_adapter"] if learns else None,
                "seconds": sum(chunk["seconds"].values()),
            }
        )
    return rows


def _cells(row: Mapping[str, Any]) -> list[str]:
    at = row["at"][:16].replace("T", " ")
    if "change" in row:
        return [
            str(row["change"]),
            f"{row['what']}, leaving {count_of(row['chunks'], 'chunk')}",
            "",
            "",
            "",
            at,
        ]
    gain = "" if row["gain"] is None else f"{row['gain']:+.3f}"
    return ["", row["what"], f"{row['words']:,}", gain, duration(row["seconds"]), at]


def end_of(text: str) -> str:
    """The last words of a text."""
    end = text[-LAST_CHARACTERS:]
    return end.partition(" ")[2] or end


def _is_count(text: str, store: Store) -> bool:
    return text.isascii() and text.isdecimal() and not (store.folder / text).exists()


def changeable(store: Store, reference: str | None) -> Session:
    """Open a session. Raises TemploraError if only the command that measures it may change it."""
    session = store.open(reference)
    try:
        if session.manifest.measured_by:
            raise TemploraError(
                f"{session.id} can only be changed by the command that measures it", session.resume_command
            )
        if not engine_in_use().kind(session.manifest).can_be_changed:
            raise TemploraError(f"{session.id} is no book", "templora sessions list")
    except BaseException:
        session.lock.release()
        raise
    return session


def chunks_before_chapter(
    book: Session, kind: TaskKind, chunks: Sequence[Mapping[str, Any]], chapter: int, command: str
) -> int:
    """The number of chunks before a chapter. Raises TemploraError if there is no such chapter.

    `command` is that of the user, for the hint.
    """
    starts = kind.chapter_starts(chunks)
    if not starts:
        raise TemploraError(f"{book.id} has no chapters", f"templora sessions log {book.id}")
    if not 1 <= chapter <= len(starts):
        raise TemploraError(
            f"{book.id} has {count_of(len(starts), 'chapter')} so far, and no chapter {chapter}",
            f"templora {command} {book.id} --chapter {len(starts)}",
        )
    return starts[chapter - 1]


def _kept(
    book: Session, kind: TaskKind, chunks: Sequence[Mapping[str, Any]], count: int | None, chapter: int | None
) -> int:
    """The number of chunks that stay. Raises TemploraError if there are not so many, or no such chapter."""
    if chapter is not None:
        return chunks_before_chapter(book, kind, chunks, chapter, "undo")
    opening = sum(chunk["origin"] == "human" for chunk in chunks) if kind.has_opening(book.manifest) else 0
    count, most = 1 if count is None else count, len(chunks) - opening
    if most < 1:
        raise TemploraError(f"{book.id} has no chunk to take back", book.resume_command)
    if not 1 <= count <= most:
        of_opening = f" after its opening, which has {count_of(opening, 'chunk')}" if opening else ""
        raise TemploraError(
            f"{book.id} has {count_of(most, 'chunk')}{of_opening}: {count} cannot be taken back",
            f"templora undo {book.id} {most if count > most else 1}",
        )
    return len(chunks) - count


def make_change(
    book: Session,
    change: Callable[[], Generator[Event, None, None]],
    kind: str,
    view: View,
    stop: threading.Event,
    *,
    detail: str = "",
) -> None:
    """Make a change and show what it did, with `detail` in words. On Ctrl-C the session is unchanged."""
    from templora_cli import runner
    from templora_cli.sessions.steps import StepDamagedError, readable_text
    from templora_cli.sessions.store import now
    from templora_cli.sessions.versions import changes_of
    from templora_cli.text import count_words

    before, text_before = len(runner.committed(book)), readable_text(book.steps)[0]
    known, relearnt = changes_of(book.path), 0
    try:
        with closing(change()) as events:
            for event in events:
                view.show(event)
                relearnt += isinstance(event, ChunkRelearnt)
    except StepDamagedError as damage:
        hint = f"to repair what can be: {book.resume_command}"
        raise TemploraError(f"session {book.id} is damaged: {damage}", hint) from None
    changes = changes_of(book.path)
    if len(changes) == len(known):
        view.show(
            Notice(UNCHANGED if stop.is_set() else f"{book.id} is as it was: nothing had to be changed")
        )
        raise typer.Exit(STOPPED if stop.is_set() else 0)
    book.update(opened=now())
    last = max(changes)
    text, chunks = readable_text(book.steps)[0], len(runner.committed(book))
    words, words_before = count_words(text), count_words(text_before)
    view.show(
        Changed(
            session=book.id,
            kind=kind,
            detail=detail or _moved(before - chunks, words_before - words),
            relearnt=relearnt,
            chunks=chunks,
            words=words,
            chunks_before=before,
            words_before=words_before,
            text=end_of(text),
            resume_command=book.resume_command,
            restore_command=None
            if changes[last].forgotten
            else f"templora sessions restore {book.id} {last}",
        )
    )


def _moved(chunks: int, words: int) -> str:
    """What was taken back, or brought back if the numbers are negative."""
    if not chunks:
        return "done"
    did = "taken back" if chunks > 0 else "brought back"
    return f"{count_of(abs(chunks), 'chunk')} {did} ({count_of(abs(words), 'word')})"
