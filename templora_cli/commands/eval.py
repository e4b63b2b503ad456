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
    from templora_cli.evaluation.drift import Measures
    from templora_cli.evaluation.perplexity import Row, Score
    from templora_cli.render import View
    from templora_cli.sessions.store import Session

app = typer.Typer(help="Measure what learning is worth.", no_args_is_help=True)


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

    with open_view(json=False, quiet=quiet, prose=False) as view:
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


@app.command()
def drift(
    premise: Annotated[Optional[str], typer.Option(help="What is written about.")] = None,
    premise_file: Annotated[Optional[Path], typer.Option(help="File with the premise.")] = None,
    tokens: Annotated[int, typer.Option(help="Length of each book, in tokens.")] = 8192,
    seeds: Annotated[int, typer.Option(help="Books for each way of writing, from seeds 0, 1, ...")] = 3,
    probe: Annotated[
        Optional[Path], typer.Option(help="Text of a person that is never learnt, scored after each chunk.")
    ] = None,
    probe_tokens: Annotated[int, typer.Option(help="How much of the probe is scored, in tokens.")] = 2048,
    step: Annotated[int, typer.Option(help="Depth that a row of the table spans, in tokens.")] = 2048,
    model: Annotated[Optional[str], flag("model", "name", "--model")] = None,
    quantize: Annotated[Optional[str], flag("model", "quantize")] = None,
    device: Annotated[Optional[str], flag("model", "device")] = None,
    recipe: Annotated[Optional[str], flag("train", "recipe")] = None,
    settings: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting, such as objective=distill or lr=2e-4; may be repeated.",
            rich_help_panel="Learning",
        ),
    ] = None,
    chunk_tokens: Annotated[Optional[int], flag("decode", "chunk_tokens")] = None,
    context_tokens: Annotated[Optional[int], flag("decode", "context_tokens")] = None,
    json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
    plot: Annotated[Optional[Path], typer.Option(help="Draw the curves, as .png or .svg.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the table and errors.")] = False,
) -> None:
    """Does a book that learns from itself hold together? Written with learning and without.

    Both are written from the same premise with the same seeds, and measured against depth:
    repetition, variety, and what learning does to text that it has not seen. A run that was
    stopped goes on when the same command is given again.
    """
    from dataclasses import replace

    from templora_cli.commands.write import read_premise
    from templora_cli.evaluation.plots import check_plot

    with open_view(json=False, quiet=quiet, prose=False) as view:
        if plot is not None:
            check_plot(plot)
        for name, value in (("--tokens", tokens), ("--seeds", seeds), ("--step", step)):
            if value < 1:
                raise TemploraError(f"{name} {value}: must be at least 1", "templora eval drift --help")
        text = read_premise(premise, premise_file, required=True)
        probe_text = None if probe is None else _read(probe)
        config = configure(
            {
                ("model", "name"): model,
                ("model", "quantize"): quantize,
                ("model", "device"): device,
                ("train", "recipe"): recipe,
                ("decode", "chunk_tokens"): chunk_tokens,
                ("decode", "context_tokens"): context_tokens,
            },
            settings_of(settings or [], prefer="own"),
        )
        measured: dict[str, list[Measures]] = {"learning": [], "off": []}
        folder: Path | None = None
        for seed in range(seeds):
            for name, books in measured.items():
                train = replace(config.train, learn=name == "learning")
                one = replace(config, seed=seed, train=train)
                if not quiet:
                    typer.echo(f"seed {seed}, {name}", err=True)
                folder, loaded = session_run.load_model(one, view, folder)
                books += _write_measured(one, loaded, folder, view, text, tokens, probe_text, probe_tokens)
        _report_drift(measured, config, step, json=json)
        if plot is not None:
            from templora_cli.evaluation.plots import plot_drift

            plot_drift(plot, measured, step)


def _write_measured(
    config: Config,
    model: LanguageModel,
    folder: Path,
    view: View,
    premise: str,
    length: int,
    probe: str | None,
    probe_tokens: int,
) -> list[Measures]:
    """Write one book, or find it written, measuring the adapter after each chunk."""
    from dataclasses import replace

    from templora_cli.commands.write import plan_novel
    from templora_cli.evaluation.drift import LiveMeasures, Measured, measures_of
    from templora_cli.sessions.checkpoint import read_chunks
    from templora_cli.tasks.reading import reading_tokens

    goal = (length, "tokens")
    plan = plan_novel(config, model, folder, premise=premise, opening=None, goal=goal, out=None)
    beginning, tokens = reading_tokens(model.tokenizer, probe) if probe else ((), ())
    # A kind of its own, so that it never goes on with a book that somebody writes.
    plan = replace(plan, manifest=replace(plan.manifest, task="drift"))
    with plan.go_on() as session:
        look = LiveMeasures(model, plan.header, (beginning, tokens[:probe_tokens]), config.decode)
        kept = Measured(session.path / "measured.json", look)
        session_run.run_session(session, model, view, after_chunk=kept.take)
        return measures_of(read_chunks(session.steps), kept.values)


def _report_drift(measured: dict[str, list[Measures]], config: Config, step: int, *, json: bool) -> None:
    from templora_cli.evaluation.drift import by_depth

    rows = {name: by_depth(all_of_it, step) for name, all_of_it in measured.items()}
    if json:
        tables = [{"books": name, **asdict(row)} for name, listed in rows.items() for row in listed]
        typer.echo(json_module.dumps({"config": config.as_dict(), "rows": tables}, indent=2))
        return
    names = ["repetition_in_chunk", "repetition_in_book", "distinct_3", "compression", "new_words"]
    names += ["nll_base", "probe_ppl", "recall_base", "recall_adapter"]
    columns = ["depth", "books", *(name.replace("_", " ") for name in names)]
    cells = [
        [f"{row.depth:,}", name, *(_figure(getattr(row, column)) for column in names)]
        for pair in zip(*([(name, row) for row in listed] for name, listed in rows.items()), strict=True)
        for name, row in pair
    ]
    print_table(columns, cells)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


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
    with _plan_reading(config, model, folder, path, text, header, tokens).go_on() as session:
        session_run.run_session(session, model, view)
        return read_chunks(session.steps)


def _plan_reading(
    config: Config,
    model: LanguageModel,
    folder: Path,
    path: Path,
    text: str,
    header: tuple[int, ...],
    tokens: tuple[int, ...],
) -> session_run.Plan:
    from templora_cli.sessions.manifest import FORMAT, Manifest
    from templora_cli.sessions.store import Store, now, sha256_text

    manifest = Manifest(
        format=FORMAT,
        id=Store().new_id(f"eval {path.stem}"),
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
    return session_run.Plan(manifest, header, tokens, text)


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
