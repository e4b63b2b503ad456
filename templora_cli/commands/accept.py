"""`templora accept`: text of the model that its author keeps is learnt more strongly."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from templora_cli.commands.sync import Model
from templora_cli.commands.terminal import UNCHANGED, engine_in_use, open_view
from templora_cli.commands.undo import AsJson, Quiet, changeable, make_change
from templora_cli.errors import TemploraError
from templora_cli.events import Notice
from templora_cli.render.figures import count_of


def accept(
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    chapter: Annotated[Optional[int], typer.Option(help="Accept only this chapter.")] = None,
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Accept the text of a book, or one chapter: it is learnt more strongly than text that nobody has read.

    The adapter learns the book again from the first chunk that was not accepted before.
    """
    from templora_cli.sessions.store import Store

    with open_view(json=json, quiet=quiet, prose=False, stopped=UNCHANGED) as (view, stop):
        from templora_cli import runner
        from templora_cli.novel.edits import part_of
        from templora_cli.novel.revised_chunks import accepted
        from templora_cli.sessions.versions import Reason

        engine = engine_in_use()
        with changeable(Store(), session) as book:
            kind, chunks = engine.kind(book.manifest), runner.committed(book)
            if not kind.is_prose:
                raise TemploraError(
                    f"{book.id} is no novel",
                    f"to approve paragraphs of a translation: templora review {book.id}",
                )
            part = part_of(book, kind, chunks, chapter, "accept")
            kept = [accepted(chunk) if index in part else chunk for index, chunk in enumerate(chunks)]
            count = sum(one["origin"] != other["origin"] for one, other in zip(kept, chunks, strict=True))
            if not count:
                view.show(Notice(f"all of that was accepted before: {book.id} is as it was"))
                return
            run = runner.reopen(book, model=model, notify=view.show, engine=engine)
            if not run.config.train.learn:
                raise TemploraError(f"{book.id} does not learn (--no-learn)", book.resume_command)
            of_chapter = f" of chapter {chapter}" if chapter else ""
            detail = f"{count_of(count, 'chunk')}{of_chapter} accepted"
            reason = Reason("accept", f"chapter {chapter}" if chapter else count_of(count, "chunk"))
            make_change(
                book, lambda: run.relearn(kept, stop, reason=reason), "accept", view, stop, detail=detail
            )
