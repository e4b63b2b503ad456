"""`templora write`: a new book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import check_out, length_of, read_premise
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, follow, open_view

DEFAULT_CHUNKS = 4


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens", "decode.temperature", "decode.top_p", "decode.min_p"),
    *("decode.top_k", "decode.repetition_penalty", "seed"),
    prefer="generated",
    task="novel",
    help={"train.learn": "Write with the plain base model, for comparison."},
)
def write(
    premise: Annotated[
        Optional[str],
        typer.Option(help="What the book is about; - reads it from standard input.", rich_help_panel="Book"),
    ] = None,
    premise_file: Annotated[
        Optional[Path], typer.Option(help="File with the premise.", rich_help_panel="Book")
    ] = None,
    from_file: Annotated[
        Optional[Path],
        typer.Option("--from", help="Text file to learn and to go on from.", rich_help_panel="Book"),
    ] = None,
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
        typer.Option(help="Book file (.md or .txt), kept up to date chunk by chunk.", rich_help_panel="Book"),
    ] = None,
    *,
    settings: GivenSettings,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the prose and errors.")] = False,
) -> None:
    """Write a book with a model that learns it while it writes.

    Prose goes to standard output, everything else to standard error. Stop with Ctrl-C at any time;
    `templora resume` goes on.
    """
    from templora_cli.documents.utf8_text import read_text

    with open_view(json=json, quiet=quiet) as (view, stop):
        config = settings.resolve()
        amount, unit = length_of(words, tokens, chunks) or (DEFAULT_CHUNKS, "chunks")
        text = read_premise(premise, premise_file, required=from_file is None)
        opening = None if from_file is None else read_text(from_file)
        book = check_out(out) if out else None

        from templora_cli import runner
        from templora_cli.novel.kind import NovelRequest
        from templora_cli.novel.task import Goal

        tokens_each = config.decode.chunk_tokens
        goal = Goal(amount * tokens_each, "tokens") if unit == "chunks" else Goal(amount, unit)
        request = NovelRequest(text, opening, goal, book)
        with runner.begin(request, config, notify=view.show, engine=engine_in_use()) as run:
            follow(run, run.events(stop), view, stop)
