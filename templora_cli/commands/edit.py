"""`templora edit`: open a book in an editor, and learn what was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from templora_cli.commands.arguments import check_no_folder, save
from templora_cli.commands.editor import find_editor, run_editor
from templora_cli.commands.paths import expand_home
from templora_cli.commands.sync import Later, Model, Yes, sync_book, sync_command
from templora_cli.commands.terminal import UNCHANGED, engine_in_use, open_view, say_command
from templora_cli.commands.undo import AsJson, Quiet, changeable
from templora_cli.errors import TemploraError
from templora_cli.events import Notice

FILE = "edit.md"
"""In the folder of a session: the file of an edit that is not applied yet."""


def edit(
    session: Annotated[
        Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
    ] = None,
    chapter: Annotated[Optional[int], typer.Option(help="Edit only this chapter.")] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Write the text to this file, to edit it and apply it later with `templora sync`.",
            callback=expand_home,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file of --out, and save a copy under another name.")
    ] = False,
    later: Later = False,
    yes: Yes = False,
    model: Model = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Edit a book, or one chapter, in your editor ($VISUAL or $EDITOR); what you change is learnt.

    Changed and added text is learnt as a person's, and the book is learnt again from there on. If you close
    the editor without a change, nothing happens.
    """
    from templora_cli.files import write_atomically
    from templora_cli.sessions.store import Store

    editor = [] if out else find_editor()
    with open_view(json=json, quiet=quiet, prose=False, stopped=UNCHANGED) as (view, stop):
        from templora_cli import runner
        from templora_cli.novel.edited_file import read_mark
        from templora_cli.novel.edits import mark_of, part_of, text_for_editing

        with changeable(Store(), session) as book:
            kind, chunks = engine_in_use().kind(book.manifest), runner.committed(book)
            if not kind.is_prose:
                hint = f"to correct a translation: templora review {book.id} --edit"
                raise TemploraError(f"{book.id} is no novel", hint)
            if not chunks:
                raise TemploraError(f"{book.id} has no text yet", book.resume_command)
            part = part_of(book, kind, chunks, chapter, "edit")
            text = text_for_editing(book, kind, chunks, part, mark_of(book, chunks, chapter))
            if out is not None:
                check_no_folder(out, f"{book.id}.md")
                if out.suffix.lower() not in (".md", ".txt"):
                    raise TemploraError(
                        f"{out.name}: a book is edited as .md or .txt", f"--out {out.stem}.md"
                    )
                path = save(book.path, out, text, force=force)
                view.close()
                say_command(f"to apply your changes: {sync_command(book, path)}")
                return
            path = book.path / FILE
            if path.exists() and (mark := read_mark(path.read_text("utf-8"))[0]) and mark.chapter != chapter:
                what = "the book" if mark.chapter is None else f"chapter {mark.chapter}"
                raise TemploraError(
                    f"an edit of {what} was not applied yet",
                    f"apply it: {sync_command(book, path)}; or rm {path}",
                )
            if path.exists():
                view.show(Notice(f"your last edit was not applied: it is open again; to drop it: rm {path}"))
            else:
                write_atomically(path, text)
            hint = f"your text is safe; to apply it: {sync_command(book, path)}"
            view.close()
            run_editor(editor, path, hint=hint)
            content = path.read_bytes()
            sync_book(book, kind, path, view, stop, later=later, yes=yes, model=model)
            if path.read_bytes() == content:
                path.unlink()
