"""`templora forget`: a passage is taken out of a book, and out of what the adapter has learnt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands.sync import Model
from templora_cli.commands.terminal import UNCHANGED, engine_in_use, open_view
from templora_cli.commands.undo import AsJson, Quiet, changeable, make_change
from templora_cli.errors import TemploraError
from templora_cli.events import Forgotten
from templora_cli.render.figures import count_of

if TYPE_CHECKING:
    from templora_cli.render.view import View
    from templora_cli.run import Run
    from templora_cli.sessions.kind import TaskKind
    from templora_cli.sessions.store import Session


def forget(
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    text: Annotated[
        Optional[str], typer.Option(help="Passage of a novel, word for word; it must occur once.")
    ] = None,
    pair: Annotated[
        Optional[str], typer.Option(help="Number of a paragraph of a translation, as in the review file.")
    ] = None,
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Forget a passage: the book is learnt again without it, and how likely it is now is shown.

    A passage of a novel is taken out of its text too. The translation of a paragraph stays in the document,
    and counts as failed; `templora retry` makes another one. This cannot be taken back, and neither can
    anything before it.
    """
    from templora_cli.sessions.store import Store

    with open_view(json=json, quiet=quiet, prose=False, stopped=UNCHANGED) as (view, stop):
        if (text is None) == (pair is None):
            raise TemploraError(
                "what should be forgotten?", 'templora forget SESSION --text "..." , or --pair NUMBER'
            )
        from templora_cli import runner

        engine = engine_in_use()
        with changeable(Store(), session) as book:
            kind, chunks = engine.kind(book.manifest), runner.committed(book)
            for path in (book.path / "edit.md", *book.path.glob("page-*.md")):
                if path.exists():
                    raise TemploraError(
                        f"{path} has an edit that was not applied",
                        f"apply or remove it: templora edit {book.id}",
                    )
            if text is not None:
                _forget_text(book, kind, chunks, text, view, stop, model=model)
            elif pair is not None:
                _forget_pair(book, kind, chunks, pair, view, stop, model=model)


def _forget_text(
    book: Session,
    kind: TaskKind,
    chunks: list[dict[str, Any]],
    text: str,
    view: View,
    stop: threading.Event,
    *,
    model: str | None,
) -> None:
    from templora_cli import runner
    from templora_cli.novel.passages import find_passage, without_passage
    from templora_cli.novel.revised_chunks import ChunkReviser

    if not kind.is_prose:
        raise TemploraError(f"{book.id} is a translation", f"templora forget {book.id} --pair NUMBER")
    whole = "".join(chunk["text"] for chunk in chunks)
    start, end = find_passage(whole, text, book.id)
    run = runner.reopen(book, model=model, notify=view.show, engine=engine_in_use())
    reviser = ChunkReviser(run.model.tokenizer, book.manifest.longest_chunk, "change")
    new = reviser.revised(chunks, without_passage(whole, start, end))
    kind.check_chunks(book, new)
    words = count_of(len(whole[start:end].split()), "word")
    _relearn(run, new, whole[:start], whole[start:end], words, view, stop)


def _forget_pair(
    book: Session,
    kind: TaskKind,
    chunks: list[dict[str, Any]],
    number: str,
    view: View,
    stop: threading.Event,
    *,
    model: str | None,
) -> None:
    from templora_cli import runner
    from templora_cli.translation.kind import require_translation
    from templora_cli.translation.task import without_pair

    translated = require_translation(book)
    paragraphs = {each.number: each for each in translated.report.paragraphs}
    if number not in paragraphs:
        raise TemploraError(f"{book.id} has no translated paragraph {number}", f"templora review {book.id}")
    paragraph = paragraphs[number]
    run = runner.reopen(book, model=model, notify=view.show, engine=engine_in_use())
    records = without_pair(translated.records, paragraph.paragraph)
    new = [{**chunk, "record": record} for chunk, record in zip(chunks, records, strict=True)]
    _relearn(run, new, paragraph.source, paragraph.target, f"paragraph {number}", view, stop)


def _relearn(
    run: Run,
    chunks: list[dict[str, Any]],
    before: str,
    passage: str,
    what: str,
    view: View,
    stop: threading.Event,
) -> None:
    """Learn the book again, and show how likely the passage was after the text `before` it, and is now."""
    from templora_cli.sessions.versions import FORGET, Reason

    if not run.config.train.learn:
        raise TemploraError(f"{run.session.id} does not learn (--no-learn)", run.session.resume_command)
    base, learnt = run.nll_of(passage, before)
    reason, detail = Reason(FORGET, what), f"{what} forgotten"
    make_change(
        run.session, lambda: run.relearn(chunks, stop, reason=reason), FORGET, view, stop, detail=detail
    )
    _, now = run.nll_of(passage, before, loaded=True)
    view.show(Forgotten(run.session.id, passage, base, learnt, now))
