"""`templora resume`: continue a book exactly as if it had not been stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands.arguments import check_no_folder, check_writable, length_of
from templora_cli.commands.ask import Ask, check_ask, has_prose, write_book
from templora_cli.commands.eval import report_reading
from templora_cli.commands.paths import expand_home
from templora_cli.commands.sync import offer_to_learn_edits
from templora_cli.commands.terminal import engine_in_use, open_view
from templora_cli.commands.translate import exit_if_some_failed
from templora_cli.events import Notice

if TYPE_CHECKING:
    from templora_cli.render.view import View
    from templora_cli.run import Run

REPORTS: dict[str, Callable[[Run], None]] = {"ppl": report_reading}
"""The report printed at the end of a session, by its kind."""


def resume(
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    words: Annotated[Optional[int], typer.Option(help="Number of words to add.")] = None,
    tokens: Annotated[Optional[int], typer.Option(help="Number of tokens to add.")] = None,
    chunks: Annotated[Optional[int], typer.Option(help="Number of chunks to add.")] = None,
    model: Annotated[
        Optional[str],
        typer.Option(help="New location of the model if it has moved: folder, .gguf file, alias or id."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Write the book to this file from now on.", callback=expand_home)
    ] = None,
    note: Annotated[
        Optional[str],
        typer.Option(help='Note for the text to come, in place of the one so far; "" removes it.'),
    ] = None,
    ask: Ask = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON on standard output, one per line.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the prose and errors.")] = False,
) -> None:
    """Continue a book: the tokens are the same as without the stop.

    --words, --tokens or --chunks extend a finished book by the given length.
    """
    with open_view(json=json, quiet=quiet, prose=has_prose(ask)) as (view, stop):
        check_ask(ask, json=json)
        more = length_of(words, tokens, chunks)
        if out is not None:
            check_no_folder(out, "book.md")
        file = None if out is None else check_writable(out)

        from templora_cli import runner

        engine, show = engine_in_use(), view.show
        with runner.resume(
            session, more=more, model=model, out=file, note=note, notify=show, engine=engine
        ) as run:
            if not json and not sys.stdout.isatty():
                _notice_new_text_only(run, view)
            if run.kind.is_prose:
                offer_to_learn_edits(run, view, stop, ask=not json and not quiet)
            last = write_book(run, view, stop, ask)
            if (report := REPORTS.get(run.kind.name)) is not None:
                view.close()
                report(run)
            exit_if_some_failed(last)


def _notice_new_text_only(run: Run, view: View) -> None:
    """Show a notice that a file or pipe gets only the text written from now on."""
    if run.kind.is_prose and run.text:
        whole = f"templora sessions export {run.session.id} --out -"
        view.show(Notice(f"standard output gets only the new text; the whole book: {whole}"))
