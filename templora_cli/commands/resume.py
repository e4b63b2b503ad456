"""`templora resume`: go on with a book as if it had never stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands.arguments import check_writable, length_of
from templora_cli.commands.eval import report_reading
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.commands.translate import exit_if_some_failed
from templora_cli.events import Notice

if TYPE_CHECKING:
    from templora_cli.render.view import View
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
    model: Annotated[
        Optional[str],
        typer.Option(help="Where its model lies by now, if it has moved: a folder, .gguf file, alias or id."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Another file to write the book to, from now on.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the prose and errors.")] = False,
) -> None:
    """Go on with a book, token for token as if it had not been stopped.

    A finished book is extended with --words, --tokens or --chunks, counted from where it stands.
    """
    with open_view(json=json, quiet=quiet) as (view, stop):
        more = length_of(words, tokens, chunks)
        file = None if out is None else check_writable(out)

        from templora_cli import runner

        engine, show = engine_in_use(), view.show
        with runner.resume(session, more=more, model=model, out=file, notify=show, engine=engine) as run:
            if not json and not sys.stdout.isatty():
                _notice_new_text_only(run, view)
            last = follow(run, run.events(stop), view, stop)
            if (report := REPORTS.get(run.kind.name)) is not None:
                view.close()
                report(run)
            exit_if_some_failed(last)


def _notice_new_text_only(run: Run, view: View) -> None:
    """Say that a file or pipe gets only the text written from now on."""
    if run.kind.can_be_extended and run.text:
        whole = f"templora sessions export {run.session.id} --out -"
        view.show(Notice(f"standard output gets only the new text; the whole book: {whole}"))
