"""`templora write`: a new book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import (
    check_out,
    length_of,
    read_file,
    read_ledger_file,
    read_texts,
)
from templora_cli.commands.ask import Ask, check_ask, has_prose, write_book
from templora_cli.commands.paths import expand_home
from templora_cli.commands.plan import check_chapters, propose_for_book, read_plan_file
from templora_cli.commands.prime import FromSession, Prime, read_primers, start_of_book
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, noting, open_view
from templora_cli.engine.decoding.banned_phrases import phrases_in
from templora_cli.errors import TemploraError

DEFAULT_CHUNKS = 4


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens", "decode.temperature", "decode.top_p", "decode.min_p"),
    *("decode.top_k", "decode.repetition_penalty", "decode.dry_multiplier"),
    *("decode.candidates", "decode.recall", "seed"),
    prefer="generated",
    task="novel",
    help={
        "train.learn": "Write with the base model alone, for comparison.",
        "decode.recall": "Do not show earlier passages of the book.",
    },
)
def write(
    premise: Annotated[
        Optional[str],
        typer.Option(help="Subject of the book; - reads it from standard input.", rich_help_panel="Book"),
    ] = None,
    premise_file: Annotated[
        Optional[Path],
        typer.Option(help="File with the premise.", rich_help_panel="Book", callback=expand_home),
    ] = None,
    from_file: Annotated[
        Optional[Path],
        typer.Option(
            "--from",
            help="Text to learn and continue: .txt, .md, .html, .epub or .docx; - reads standard input.",
            rich_help_panel="Book",
            callback=expand_home,
        ),
    ] = None,
    encoding: Annotated[
        Optional[str],
        typer.Option(
            help="Encoding of text files if detection is wrong: gb18030, big5, ...",
            rich_help_panel="Book",
        ),
    ] = None,
    plan: Annotated[
        Optional[Path],
        typer.Option(
            help="Plan of the chapters, a Markdown file.", rich_help_panel="Book", callback=expand_home
        ),
    ] = None,
    chapters: Annotated[
        Optional[int],
        typer.Option(
            help="Number of chapters: the model first plans them from the premise.", rich_help_panel="Book"
        ),
    ] = None,
    ledger: Annotated[
        Optional[Path],
        typer.Option(
            help="People, places and things of the book, a TOML file.",
            rich_help_panel="Book",
            callback=expand_home,
        ),
    ] = None,
    volume: Annotated[
        Optional[list[Path]],
        typer.Option(
            help="Earlier volume to recall passages from; can be repeated.",
            rich_help_panel="Book",
            callback=expand_home,
        ),
    ] = None,
    note: Annotated[
        str, typer.Option(help="Note on the text to come, in every prompt.", rich_help_panel="Book")
    ] = "",
    ban: Annotated[
        Optional[Path],
        typer.Option(
            help="Words and phrases that the book must not have, a file with one in each line.",
            rich_help_panel="Book",
            callback=expand_home,
        ),
    ] = None,
    prime: Prime = None,
    from_session: FromSession = None,
    words: Annotated[
        Optional[int], typer.Option(help="Length to write, in words.", rich_help_panel="Book")
    ] = None,
    tokens: Annotated[
        Optional[int], typer.Option(help="Length to write, in tokens.", rich_help_panel="Book")
    ] = None,
    chunks: Annotated[
        Optional[int],
        typer.Option(help=f"Length to write, in chunks (default {DEFAULT_CHUNKS}).", rich_help_panel="Book"),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Book file (.md or .txt), updated after every chunk.",
            rich_help_panel="Book",
            callback=expand_home,
        ),
    ] = None,
    name: Annotated[
        Optional[str],
        typer.Option(help="Id of the session (default: from words of the text).", rich_help_panel="Book"),
    ] = None,
    ask: Ask = None,
    *,
    settings: GivenSettings,
    json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON on standard output, one per line.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the prose and errors.")] = False,
) -> None:
    """Write a book with a model that learns the book while it writes.

    The book ends with the first sentence that ends after the length is reached, or with the last chapter of
    its plan. Prose goes to standard output, everything else to standard error; a file or pipe also gets the
    opening of --from. You can stop at any time with Ctrl-C. To continue, run `templora resume`.
    """
    stopped = "stopped before the book began; type the same command again"
    if chapters is not None and (plan is not None or from_file is not None):
        other = "--plan" if plan is not None else "--from"
        raise TemploraError(f"--chapters and {other} cannot be combined", "use one of them")
    # Mistakes in flags and files are found before the model plans, which takes minutes.
    with open_view(json=json, quiet=quiet, stopped=stopped) as (view, _):
        check_ask(ask, json=json, has_chapters=plan is not None or chapters is not None)
        config = settings.resolve()
        length = length_of(words, tokens, chunks)
        if length is not None and (plan is not None or chapters is not None):
            raise TemploraError(
                "the plan sets the length of the book",
                "leave out the length, or put (1,200 words) into the plan",
            )
        amount, unit = length or (DEFAULT_CHUNKS, "chunks")
        text, opening = read_texts(
            premise, premise_file, from_file, encoding, planned=plan is not None, notify=noting(view)
        )
        book = check_out(out) if out else None
        shown: dict[str, Any] = {
            "ledger": "" if ledger is None else read_ledger_file(ledger, encoding),
            "volumes": tuple((path.name, read_file(path, "the volume", encoding)) for path in volume or ()),
            "note": note,
            "banned": () if ban is None else phrases_in(read_file(ban, "phrases", encoding), str(ban)),
        }
        planned = None if plan is None else read_plan_file(plan, encoding)
        primers = read_primers(prime, from_session, encoding)
        if name is not None and primers:  # learning them takes minutes
            from templora_cli.sessions.names import checked_name
            from templora_cli.sessions.store import Store

            Store().require_free(checked_name(name, "--name {}"))
        if chapters is not None:
            check_chapters(chapters, name)
    if chapters is not None:
        planned, text = propose_for_book(text, chapters, out, config), ""  # the plan has the premise
    start = start_of_book(primers, from_session, config, json=json, quiet=quiet)
    with open_view(json=json, quiet=quiet, prose=has_prose(ask), stopped=stopped) as (view, stop):
        from templora_cli import runner
        from templora_cli.novel.kind import NovelRequest, PlannedRequest
        from templora_cli.novel.task import Goal

        request = NovelRequest(text, opening, Goal(amount, unit), book, **shown)
        if planned is not None:
            request = PlannedRequest(text, opening, out=book, plan=planned, **shown)
        engine = engine_in_use()
        begun = runner.begin(request, config, notify=view.show, engine=engine, name=name, start=start)
        with begun as run:
            write_book(run, view, stop, ask)
