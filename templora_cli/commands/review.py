"""`templora review` and `retry`: corrections of a translation. `sync.py` applies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from templora_cli.commands.arguments import save
from templora_cli.commands.editor import find_editor, run_editor
from templora_cli.commands.paths import expand_home
from templora_cli.commands.sync import Model, sync, sync_command
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.commands.translate import exit_if_some_failed
from templora_cli.commands.undo import AsJson, Quiet
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.sessions.store import Session
    from templora_cli.translation.translated_book import TranslatedBook

Reference = Annotated[
    Optional[str],
    typer.Argument(help="Id of a session, or its first letters (default: the last translation)."),
]
Which = Annotated[
    Literal["all", "retried", "failed"], typer.Option(help="Which paragraphs: all, or those in one state.")
]


def review(
    session: Reference = None,
    only: Which = "all",
    out: Annotated[
        Optional[Path],
        typer.Option(help="The file to write (default: SESSION.review.txt).", callback=expand_home),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Open the file in your editor, then sync.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an edited file; the edited version is renamed.")
    ] = False,
) -> None:
    """Write a file with all paragraphs and translations, in which you correct them.

    An earlier file is written again if it was not edited.
    """
    from templora_cli.sessions.store import now
    from templora_cli.translation.corrections import review_text

    editor = find_editor() if edit else []
    with opened_translation(session) as (book, translated):
        report = translated.report
        paragraphs = [paragraph for paragraph in report.paragraphs if only in ("all", paragraph.state)]
        if not paragraphs:
            kind = "translated" if only == "all" else only
            raise TemploraError(f"{book.id} has no {kind} paragraphs yet", f"templora resume {book.id}")
        target = out or Path(f"{book.id}.review.txt")
        path = save(book.path, target, review_text(paragraphs, book.id), force=force)
        book.update(opened=now())
    if editor:
        run_editor(editor, path, hint=sync_command(book, path))
        sync(book.id, path)


def retry(
    session: Reference = None,
    only: Annotated[
        Literal["failed", "retried"], typer.Option(help="Which paragraphs: those in this state.")
    ] = "failed",
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Translate paragraphs again with the adapter that has learnt the whole book."""
    from templora_cli.sessions.store import now

    with (
        open_view(json=json, quiet=quiet, prose=False) as (view, stop),
        opened_translation(session) as opened,
    ):
        book, translated = opened
        if not translated.finished:
            raise TemploraError(f"{book.id} is not finished", f"to finish it: templora resume {book.id}")
        report = translated.report
        retries = [paragraph.paragraph for paragraph in report.paragraphs if paragraph.state == only]
        if not retries:
            raise TemploraError(f"{book.id} has no {only} paragraphs", f"templora review {book.id}")

        from templora_cli import runner

        command = f"templora retry {book.id} --only {only}"
        engine = engine_in_use()
        run = runner.reopen(book, model=model, command=command, notify=view.show, engine=engine)
        request = book.manifest.request
        request = {**request, "retries": [*request["retries"], *retries]}
        goal = book.manifest.goal_amount + len(retries)
        book.update(opened=now(), request=request, goal_amount=goal)
        exit_if_some_failed(follow(run, run.events(stop), view, stop))


@contextmanager
def opened_translation(reference: str | None) -> Iterator[tuple[Session, TranslatedBook]]:
    """Open the session, by default the last translation. Raises TemploraError if it is not a translation."""
    from templora_cli.sessions.store import Store
    from templora_cli.translation.kind import require_translation

    store = Store()
    if reference is None and (reference := store.last("translation")) is None:
        raise TemploraError(f"there is no translation in {store.folder}", "templora translate FILE --to en")
    with store.open(reference) as book:
        yield book, require_translation(book)
