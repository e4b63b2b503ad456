"""`templora rewrite`: one chapter of a book with a plan is written again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Optional

import typer

from templora_cli.commands.terminal import UNCHANGED, engine_in_use, open_view
from templora_cli.commands.undo import AsJson, Quiet, changeable, chunks_before_chapter, make_change
from templora_cli.errors import TemploraError


def rewrite(
    chapter: Annotated[int, typer.Option(help="Number of the chapter.")],
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    note: Annotated[
        Optional[str], typer.Option(help="Note for this chapter, in place of that of the session.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one chapter again, with other random numbers, and learn what follows it again.

    Until that is done the book stays as it is. `templora sessions log` has what was replaced.
    """
    from templora_cli.sessions.store import Store

    with open_view(json=json, quiet=quiet, prose=False, stopped=UNCHANGED) as (view, stop):
        from templora_cli import runner
        from templora_cli.sessions.versions import Reason

        engine = engine_in_use()
        with changeable(Store(), session) as book:
            kind, chunks = engine.kind(book.manifest), runner.committed(book)
            start = chunks_before_chapter(book, kind, chunks, chapter, "rewrite")
            records = [chunk["record"] for chunk in chunks[start:]]
            length = next((n for n in range(1, len(records) + 1) if _is_whole(records[:n])), None)
            if length is None:
                raise TemploraError(
                    f"chapter {chapter} of {book.id} is not finished",
                    f"templora undo {book.id} --chapter {chapter}, then: {book.resume_command}",
                )
            run = runner.reopen(book, notify=view.show, engine=engine)
            request = book.manifest.request
            if note is not None:
                kind.check_note(note, run.model, run.config)
                # Until the chapter is written; a kill may leave it as the note of the session.
                book.manifest = replace(book.manifest, request={**request, "note": note})
            reason = Reason("rewrite", f"chapter {chapter}", redraws=True)
            part = range(start, start + length)
            try:
                make_change(
                    book,
                    lambda: run.rewrite(part, _is_whole, stop, reason=reason),
                    "rewrite",
                    view,
                    stop,
                    detail=f"chapter {chapter} written again",
                )
            finally:
                book.update(request=request)


def _is_whole(records: Sequence[Any]) -> bool:
    """Do these records of a chapter's chunks end it?"""
    return bool(records) and bool(records[-1].get("chapter_end"))
