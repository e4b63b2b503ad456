"""`templora write`: a new book."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli import runner
from templora_cli.commands import flags
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

DEFAULT_CHUNKS = 4


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens", "decode.temperature", "decode.top_p", "decode.min_p"),
    *("decode.top_k", "decode.repetition_penalty", "seed"),
    prefer="own",
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
    with open_view(json=json, quiet=quiet) as view:
        config = settings.resolve()
        goal = runner.goal_of(words, tokens, chunks, config.decode.chunk_tokens)
        goal = goal or (DEFAULT_CHUNKS * config.decode.chunk_tokens, "tokens")
        text = read_premise(premise, premise_file, required=from_file is None)
        opening = _read_opening(from_file)
        book = runner.check_out(out) if out else None
        config, folder, loaded = runner.load_model(config, view)
        new = new_novel(config, loaded, folder, premise=text, opening=opening, goal=goal, out=book)
        with new.create() as session:
            runner.write_session(session, loaded, view)


def read_premise(premise: str | None, file: Path | None, *, required: bool) -> str:
    """The premise from the flag, standard input ("-") or a file; "" where none is needed.

    Raises TemploraError: two of them, none, or an empty one.
    """
    from templora_cli.documents.utf8_text import checked_text, read_text

    if premise is not None and file is not None:
        raise TemploraError("--premise and --premise-file are two premises", "give one of them")
    if file is not None:
        return read_text(file).strip()
    if premise is None and not required:
        return ""
    if premise is None:
        raise TemploraError("nothing to write about", 'templora write --premise "A lighthouse keeper..."')
    try:
        content = sys.stdin.buffer.read() if premise == "-" else premise.encode("utf-8")
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8 come as surrogates
        raise TemploraError("the premise is not UTF-8", "put it in a file: --premise-file") from None
    text = checked_text(content, "the premise").strip()
    if not text:
        raise TemploraError("the premise is empty", 'templora write --premise "A lighthouse keeper..."')
    return text


def _read_opening(file: Path | None) -> str | None:
    from templora_cli.documents.utf8_text import read_text

    return None if file is None else read_text(file)


def new_novel(config: Config, model: LanguageModel, folder: Path, **book: Any) -> runner.NewSession:
    """The session of a novel; `book` is premise, opening, goal, out."""
    from templora_cli.novel.prompt import NovelPrompt, opening_tokens
    from templora_cli.prompt_files import load_prompts

    prompts = load_prompts("novel", config.prompts)
    opening = book["opening"]
    how = (book["premise"], opening is not None, config.decode.context_tokens)
    header = NovelPrompt(model.tokenizer, prompts, *how)(()).header
    runner.require_window(model, config, len(header))
    manifest = runner.new_manifest(
        "novel",
        config,
        model,
        folder,
        named_after=book["premise"] or opening,
        goal=book["goal"],
        source=opening,
        prompts=prompts,
        premise=book["premise"],
        out=book["out"],
    )
    tokens = () if opening is None else opening_tokens(model.tokenizer, opening)
    return runner.NewSession(manifest, header, tokens, opening)
