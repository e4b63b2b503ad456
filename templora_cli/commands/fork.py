"""`templora fork`: a second session with the beginning of another."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Optional

import typer

from templora_cli.commands.terminal import engine_in_use, open_view
from templora_cli.commands.undo import AsJson, Quiet, changeable, chunks_before_chapter, end_of
from templora_cli.errors import TemploraError
from templora_cli.events import Forked
from templora_cli.render.figures import count_of


def fork(
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    chunks: Annotated[
        Optional[int], typer.Option(help="Number of chunks of its beginning (default: all).")
    ] = None,
    chapter: Annotated[Optional[int], typer.Option(help="Begin the fork's own way at this chapter.")] = None,
    name: Annotated[
        Optional[str], typer.Option(help="Id of the new session (default: from words of the old one).")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a second session of a book, or of its beginning, that goes its own way.

    Both share what they have in common on the disk. `templora resume` writes the fork on with other random
    numbers; the first session stays as it is.
    """
    from templora_cli.sessions.names import checked_name
    from templora_cli.sessions.store import Store

    store = Store()
    with open_view(json=json, quiet=quiet, prose=False, stopped="stopped; nothing was forked") as (
        view,
        stop,
    ):
        if chunks is not None and chapter is not None:
            raise TemploraError("--chunks and --chapter cannot be combined", "use one of them")
        from templora_cli import runner
        from templora_cli.sessions.fork import forking, has_weights
        from templora_cli.sessions.steps import readable_text
        from templora_cli.text import count_words

        engine = engine_in_use()
        with changeable(store, session) as parent:
            kind, committed = engine.kind(parent.manifest), runner.committed(parent)
            keep = len(committed) if chunks is None else chunks
            if chapter is not None:
                keep = chunks_before_chapter(parent, kind, committed, chapter, "fork")
            if not 0 <= keep <= len(committed):
                raise TemploraError(
                    f"{parent.id} has {count_of(len(committed), 'chunk')}, and {keep} were asked for",
                    f"templora fork {parent.id} --chunks {len(committed)}",
                )
            new = store.new_id(parent.id) if name is None else checked_name(name, "--name {}")
            with forking(store, parent, keep, new) as forked:
                if not has_weights(forked):
                    run = runner.reopen(forked, notify=view.show, engine=engine)
                    with closing(run.relearn(committed[:keep], stop)) as events:
                        for event in events:
                            view.show(event)
                    if stop.is_set():
                        raise KeyboardInterrupt
            text = readable_text(forked.steps)[0]
            view.show(
                Forked(
                    session=forked.id,
                    parent=parent.id,
                    chunks=keep,
                    words=count_words(text),
                    text=end_of(text),
                    out=forked.manifest.out,
                    resume_command=forked.resume_command,
                )
            )
