"""`templora resume`: go on with a book as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands.arguments import length_of
from templora_cli.commands.eval import report_reading
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.commands.translate import exit_if_some_failed

if TYPE_CHECKING:
    from templora_cli.runner import Run

REPORTS: dict[str, Callable[[Run], None]] = {"ppl": report_reading}
"""What is printed when a session of that kind is finished."""


def resume(
    session: Annotated[
        Optional[str], typer.Argument(help="Session id or the beginning of one (default: the last).")
    ] = None,
    words: Annotated[Optional[int], typer.Option(help="Write this many words more.")] = None,
    tokens: Annotated[Optional[int], typer.Option(help="Write this many tokens more.")] = None,
    chunks: Annotated[Optional[int], typer.Option(help="Write this many chunks more.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the prose and errors.")] = False,
) -> None:
    """Go on with a book, token for token as if it had not been stopped.

    A finished book is extended with --words, --tokens or --chunks, counted from where it stands.
    """
    with open_view(json=json, quiet=quiet) as (view, stop):
        more = length_of(words, tokens, chunks)

        from templora_cli import runner

        with runner.resume(session, more=more, notify=view.show, engine=engine_in_use()) as run:
            last = follow(run, run.events(stop), view, stop)
            if (report := REPORTS.get(run.kind.name)) is not None:
                report(run)
            exit_if_some_failed(last)
