"""`templora eval`: what learning is worth, measured on a text of yours and a model of yours."""

from __future__ import annotations

import csv as csv_module
import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands import session_run
from templora_cli.commands.settings import configure, flag, settings_of
from templora_cli.commands.terminal import open_view, print_table
from templora_cli.config import Config
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.engine.models import LanguageModel
    from templora_cli.evaluation.perplexity import Row, Score
    from templora_cli.render import View
    from templora_cli.sessions.manifest import Manifest
    from templora_cli.sessions.store import Session

app = typer.Typer(help="Measure what learning is worth.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `ppl` a subcommand while it is the only one."""


@app.command()
def ppl(
    files: Annotated[list[Path], typer.Argument(help="Text files, each a book of its own.")],
    limit_tokens: Annotated[
        Optional[int], typer.Option(help="Read only this much of each file, in tokens.")
    ] = None,
    model: Annotated[Optional[str], flag("model", "name", "--model")] = None,
    quantize: Annotated[Optional[str], flag("model", "quantize")] = None,
    device: Annotated[Optional[str], flag("model", "device")] = None,
    recipe: Annotated[Optional[str], flag("train", "recipe")] = None,
    no_learn: Annotated[
        bool, typer.Option("--no-learn", help="Only the base.", rich_help_panel="Learning")
    ] = False,
    settings: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting, such as lr=2e-4 or decode.top_k=5; may be repeated.",
            rich_help_panel="Learning",
        ),
    ] = None,
    chunk_tokens: Annotated[Optional[int], flag("decode", "chunk_tokens")] = None,
    context_tokens: Annotated[Optional[int], flag("decode", "context_tokens")] = None,
    seed: Annotated[Optional[int], flag("", "seed")] = None,
    reference_averaging: Annotated[
        bool,
        typer.Option(
            "--reference-averaging",
            help="Also the mean of the chunks' perplexities, as the authors' code takes it.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The tables as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The tables as CSV.")] = False,
    plot: Annotated[Optional[Path], typer.Option(help="Draw the curves, as .png or .svg.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the tables and errors.")] = False,
) -> None:
    """Perplexity of base and adapter against depth, over whole books.

    Each chunk is scored under the base and under the adapter with the same context, then
    learnt, as in the paper (section 4.2). Perplexity is exp of the mean negative log-likelihood
    of a token. A run that was stopped goes on when the same command is given again.
    """
    from templora_cli.evaluation.perplexity import scores_of
    from templora_cli.evaluation.plots import check_plot

    with open_view(json=False, quiet=quiet) as view:
        if json and csv:
            raise TemploraError("--json and --csv are two forms", "give one of them")
        if plot is not None:
            check_plot(plot)
        config = configure(
            {
                ("model", "name"): model,
                ("model", "quantize"): quantize,
                ("model", "device"): device,
                ("train", "recipe"): recipe,
                ("train", "learn"): False if no_learn else None,
                ("decode", "chunk_tokens"): chunk_tokens,
                ("decode", "context_tokens"): context_tokens,
                ("", "seed"): seed,
            },
            settings_of(settings or [], prefer="given"),
        )
        texts = {path: _read(path) for path in files}
        folder, loaded = session_run.load_model(config, view)
        books: dict[str, list[Score]] = {}
        for number, (path, text) in enumerate(texts.items()):
            if number:  # a new adapter for every book
                folder, loaded = session_run.load_model(config, view, folder)
            chunks = _read_book(config, loaded, folder, view, path, text, limit_tokens)
            books[path.name if path.name not in books else str(path)] = scores_of(chunks)
        _report(books, config, reference=reference_averaging, form="json" if json else "csv" if csv else "")
        if plot is not None:
            from templora_cli.evaluation.plots import plot_perplexity

            plot_perplexity(plot, books)


def finish(session: Session, model: LanguageModel, view: View) -> None:
    """Go on with an evaluation that was stopped, and print its table."""
    from templora_cli.config import from_dict
    from templora_cli.evaluation.perplexity import scores_of
    from templora_cli.sessions.checkpoint import read_chunks

    session_run.run_session(session, model, view)
    config = from_dict(session.manifest.config, str(session.path / "session.json"))
    scores = scores_of(read_chunks(session.steps))
    _report({session.id: scores}, config, reference=False, form="")


def _read(path: Path) -> str:
    from templora_cli.documents.text import read_text

    return read_text(path)


def _read_book(
    config: Config, model: LanguageModel, folder: Path, view: View, path: Path, text: str, limit: int | None
) -> list[dict[str, Any]]:
    """Read one book to its end, or find it read; its chunks."""
    from templora_cli.sessions.checkpoint import read_chunks
    from templora_cli.tasks.reading import reading_tokens

    header, tokens = reading_tokens(model.tokenizer, text)
    if limit is not None:
        if limit < 1:
            raise TemploraError(f"--limit-tokens {limit}: must be at least 1", "--limit-tokens 20000")
        tokens = tokens[:limit]
    if len(tokens) < config.decode.chunk_tokens:
        raise TemploraError(
            f"{path} has {len(tokens)} tokens, less than a chunk of {config.decode.chunk_tokens}",
            f"--chunk-tokens {max(8, len(tokens) // 8)}",
        )
    session_run.require_window(model, config, len(header))
    with _session(config, model, folder, path, text, header, tokens) as session:
        session_run.run_session(session, model, view)
        return read_chunks(session.steps)


def _session(
    config: Config,
    model: LanguageModel,
    folder: Path,
    path: Path,
    text: str,
    header: tuple[int, ...],
    tokens: tuple[int, ...],
) -> Session:
    """The session that has begun to read this text with these settings, or a new one."""
    from templora_cli.sessions.manifest import FORMAT, Manifest
    from templora_cli.sessions.store import Store, now, sha256_text

    store = Store()
    manifest = Manifest(
        format=FORMAT,
        id=store.new_id(f"eval {path.stem}"),
        task="ppl",
        created=now(),
        opened=now(),
        model=config.model.name,
        folder=str(folder.absolute()),
        config=config.as_dict(),
        prompts={},
        premise="",
        source_sha256=sha256_text(text),
        tokens_sha256="",
        goal_amount=len(tokens),
        goal_unit="tokens",
        out=None,
        **session_run.runtime(model),
    )
    for begun in store.manifests():
        if not isinstance(begun, TemploraError) and _same_run(begun, manifest):
            session = store.open(begun.id)
            session.update(opened=now())
            return session
    return store.create(manifest, header=header, opening=tokens, source=text)


def _same_run(one: Manifest, other: Manifest) -> bool:
    """Would both give the same figures?"""
    names = (
        "task",
        "fingerprint",
        "config",
        "source_sha256",
        "goal_amount",
        "quantize",
        "device",
        "hardware",
    )
    return all(getattr(one, name) == getattr(other, name) for name in (*names, "versions", "threads"))


def _report(books: dict[str, list[Score]], config: Config, *, reference: bool, form: str) -> None:
    from templora_cli.evaluation.perplexity import table

    rows: list[tuple[str, str, Row]] = []
    for name, scores in books.items():
        rows += [(name, "tokens", row) for row in table(scores)]
        if reference:
            rows += [(name, "chunks", row) for row in table(scores, "chunks")]
    if form == "json":
        tables = [{"book": name, "averaging": averaging, **asdict(row)} for name, averaging, row in rows]
        typer.echo(json_module.dumps({"config": config.as_dict(), "rows": tables}, indent=2))
        return
    columns = ["book", "averaging", "depth", "tokens", "base PPL", "adapter PPL", "change"]
    if form == "csv":
        writer = csv_module.writer(sys.stdout)
        writer.writerow([*columns[:-1], "change %"])
        writer.writerows([name, averaging, *asdict(row).values()] for name, averaging, row in rows)
        return
    print_table(columns, [[name, averaging, *_cells(row)] for name, averaging, row in rows])


def _cells(row: Row) -> list[str]:
    learnt = ["-", "-"]
    if row.adapter_ppl is not None and row.change is not None:
        learnt = [f"{row.adapter_ppl:.3f}", f"{row.change:+.2f} %"]
    return [row.depth, f"{row.tokens:,}", f"{row.base_ppl:.3f}", *learnt]
