"""The flags --prime and --from-session: a book begins with an adapter that has learnt something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands.arguments import read_file
from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import REPEATABLE, engine_in_use, follow, open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Notice

if TYPE_CHECKING:
    from templora_cli.sessions.start import Start

Prime = Annotated[
    Optional[list[Path]],
    typer.Option(
        "--prime",
        help="Text of yours to learn before the book begins, any format; can be repeated.",
        rich_help_panel="Book",
        callback=expand_home,
    ),
]
FromSession = Annotated[
    Optional[str],
    typer.Option(help="Begin with the adapter that another session has learnt.", rich_help_panel="Book"),
]
Texts = tuple[tuple[str, str], ...]


def read_primers(files: list[Path] | None, from_session: str | None, encoding: str | None) -> Texts:
    """Names and texts of the files of --prime. Raises TemploraError for flags that exclude each other."""
    if files and from_session is not None:
        raise TemploraError("--prime and --from-session cannot be combined", "use one of them")
    return tuple((path.name, read_file(path, "a text to learn", encoding)) for path in files or ())


def start_of_book(
    texts: Texts, from_session: str | None, config: Config, *, json: bool, quiet: bool
) -> Start | None:
    """The checkpoint from which a book begins; the `texts` are learnt first. None without both flags.

    Raises TemploraError if the session has no checkpoint, or if nothing is to be learnt.
    """
    if not texts and from_session is None:
        return None
    with open_view(json=json, quiet=quiet, prose=False, stopped=REPEATABLE) as (view, stop):
        if not config.train.learn:
            flag = "--prime" if texts else "--from-session"
            raise TemploraError(f"{flag} and --no-learn cannot be combined", "leave one of them out")
        from templora_cli import runner
        from templora_cli.priming import PrimeRequest, start_of
        from templora_cli.sessions.manifest import load_manifest
        from templora_cli.sessions.start import start_in
        from templora_cli.sessions.steps import read_chunks
        from templora_cli.sessions.store import Store

        if from_session is not None:
            folder = Store().find(from_session)
            manifest = load_manifest(folder)
            if manifest.task == PrimeRequest.kind:
                return start_of(folder, manifest, read_chunks(folder / "steps"))
            return start_in(folder, manifest)
        engine, request = engine_in_use(), PrimeRequest(texts)
        with runner.begin(request, config, notify=view.show, engine=engine, resume_same=True) as run:
            follow(run, run.events(stop), view, stop)
            start = start_of(run.session.path, run.session.manifest, run.chunks)
            if start is None:
                view.show(Notice("the book begins without it: the texts of --prime did not help"))
            return start
