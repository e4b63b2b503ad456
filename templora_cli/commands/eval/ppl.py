"""`templora eval ppl`: perplexity of base and adapter against depth."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.eval.tables import Form, form_of, print_rows
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.config import Config, from_dict
from templora_cli.errors import TemploraError
from templora_cli.prompt import window

if TYPE_CHECKING:
    from templora_cli.evaluation.perplexity import Score
    from templora_cli.render import View
    from templora_cli.runner import Run
    from templora_cli.state import WritingState

COLUMNS = {
    "book": "book",
    "averaging": "averaging",
    "depth": "depth",
    "tokens": "tokens",
    "base_ppl": "base PPL",
    "adapter_ppl": "adapter PPL",
    "change": "change %",
}
COST_COLUMNS = {
    "book": "book",
    "way": "way",
    "context_tokens": "window",
    "ppl": "PPL",
    "change": "change %",
    "peak_gb": "peak GB",
    "read_seconds": "s/1K read",
    "write_seconds": "s/1K written",
}


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens", "seed"),
    prefer="human",
    task="ppl",
)
def ppl(
    files: Annotated[list[Path], typer.Argument(help="Text files, each a book of its own.")],
    limit_tokens: Annotated[
        Optional[int], typer.Option(help="Read only this much of each file, in tokens.")
    ] = None,
    against: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="window=N",
            help="Also the base alone, with its window and with one of N tokens, and what each way costs.",
        ),
    ] = None,
    *,
    settings: GivenSettings,
    reference_averaging: Annotated[
        bool,
        typer.Option(
            "--reference-averaging",
            help="Also the mean of the chunks' perplexities, as the authors' code takes it.",
        ),
    ] = False,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Perplexity of base and adapter against depth, over whole books.

    Each chunk is scored under the base and under the adapter with the same context, then
    learnt, as in the paper (section 4.2). Perplexity is exp of the mean negative log-likelihood
    of a token. A run that was stopped goes on when the same command is given again.
    """
    from templora_cli.documents.utf8_text import read_text
    from templora_cli.evaluation.perplexity import row, scores_of
    from templora_cli.evaluation.plots import check_plot, plot_perplexity

    with open_view(json=False, quiet=quiet, prose=False) as (view, stop):
        form = form_of(as_json=json, as_csv=csv)
        if csv and against:
            raise TemploraError("--csv holds one table, and --against prints two", "--json holds both")
        if plot is not None:
            check_plot(plot)
        config = settings.resolve()
        ways = _ways(config, against or [])
        texts = {path: read_text(path) for path in files}
        if limit_tokens is not None and limit_tokens < 1:
            raise TemploraError(f"--limit-tokens {limit_tokens}: must be at least 1", "--limit-tokens 20000")
        books: dict[str, list[Score]] = {}
        costs: list[dict[str, Any]] = []
        names = _names(files)
        for way, one in ways.items():
            for path, text in texts.items():
                run = _open(one, path, text, limit_tokens, measured=bool(against), view=view)
                config = replace(config, human=run.config.human, generated=run.config.generated)
                with run:
                    cost = _read_book(run, view, stop, measured=bool(against))
                    scores = scores_of(run.chunks)
                    learns = run.config.train.learn
                del run  # a new adapter every time
                if learns == config.train.learn:
                    books.setdefault(names[path], scores)
                if cost is not None:
                    whole = row("all", scores)
                    found = whole.base_ppl if whole.adapter_ppl is None else whole.adapter_ppl
                    costs.append({"book": names[path], "way": way, "ppl": found, **cost})
        _report(books, config, costs, reference=reference_averaging, form=form)
        if plot is not None:
            plot_perplexity(plot, books)


def _names(files: list[Path]) -> dict[Path, str]:
    """What each file is called in the tables."""
    names = [path.name for path in files]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in files}


def _ways(config: Config, against: list[str]) -> dict[str, Config]:
    """What is read with: the base with the adapter and, where rivals are named, without it."""
    if not against:
        return {"": config}
    # The cheapest first: memory that the process keeps from one counts for those after it.
    alone = replace(config, train=replace(config.train, learn=False))
    ways = {"base": alone, **({"base + adapter": config} if config.train.learn else {})}
    for rival in against:
        name, _, value = rival.partition("=")
        if name != "window" or not value.isascii() or not value.isdecimal():
            raise TemploraError(f"--against {rival}: is no rival", "--against window=4096")
        window = int(value)
        wider = replace(alone, decode=replace(alone.decode, context_tokens=window))
        ways[f"base, window {window:,}"] = from_dict(wider.as_dict(), f"--against {rival}")
    return ways


def report_reading(run: Run) -> None:
    """Print the table of a reading that is finished."""
    from templora_cli.evaluation.perplexity import scores_of

    _report({run.session.id: scores_of(run.chunks)}, run.config, [], reference=False, form="table")


def _open(config: Config, path: Path, text: str, limit: int | None, *, measured: bool, view: View) -> Run:
    """The session that reads a book, a new one or one that was stopped."""
    from templora_cli import runner
    from templora_cli.reading import ReadingRequest

    request = ReadingRequest(text, str(path), limit)
    if measured:
        request = replace(request, kind="costs", measured_by="templora eval ppl --against")
    return runner.begin(request, config, notify=view.show, engine=engine_in_use(), resume_same=True)


def _read_book(run: Run, view: View, stop: threading.Event, *, measured: bool) -> dict[str, Any] | None:
    """Read one book to its end, or find it read; what it cost where that is wanted: the peak so far after
    each chunk, and of the end how it decodes.
    """
    from templora_cli.evaluation.cost import PeakMemory, cost_of, decode_trial
    from templora_cli.evaluation.measurement_cache import MeasurementCache

    if not measured:
        follow(run, run.events(stop), view, stop)
        return None
    session, config, model = run.session, run.config, run.model
    last = (session.manifest.goal_amount - 1) // config.decode.chunk_tokens

    def after_chunk(index: int, state: WritingState) -> None:
        memory.get_or_compute(index, lambda: peak.bytes)
        if index == last:
            header = tuple(session.manifest.request["header"])
            prompt = header + window(state.tokens, config.decode.context_tokens)
            backend = run.engine.backend(model, session.manifest.backend)
            trial.get_or_compute(index, lambda: decode_trial(model, backend, prompt, config.decode))

    trial, memory = (
        MeasurementCache(session.path / "trial.json"),
        MeasurementCache(session.path / "memory.json"),
    )
    with PeakMemory(model.device) as peak:
        follow(run, run.events(stop, after_chunk=after_chunk), view, stop)
    cost = cost_of(run.chunks, trial.values[last], max(memory.values.values()), config.decode.chunk_tokens)
    return {"context_tokens": config.decode.context_tokens, **asdict(cost)}


def _report(
    books: dict[str, list[Score]],
    config: Config,
    costs: list[dict[str, Any]],
    *,
    reference: bool,
    form: Form,
) -> None:
    from templora_cli.evaluation.perplexity import table

    rows: list[dict[str, Any]] = []
    for name, scores in books.items():
        rows += [{"book": name, "averaging": "tokens", **asdict(row)} for row in table(scores)]
        if reference:
            averaged = table(scores, "chunks")
            rows += [{"book": name, "averaging": "chunks", **asdict(row)} for row in averaged]
    base = {cost["book"]: cost["ppl"] for cost in costs if cost["way"] == "base"}
    ways = [
        {**cost, "change": (cost["ppl"] / base[cost["book"]] - 1) * 100, "peak_gb": cost["peak_bytes"] / 1e9}
        for cost in costs
    ]
    print_rows(form, config, COLUMNS, rows, **({"ways": ways} if ways else {}))
    if ways and form != "json":
        typer.echo()
        print_rows(form, config, COST_COLUMNS, ways)
