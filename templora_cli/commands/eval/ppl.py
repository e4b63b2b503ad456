"""`templora eval ppl`: perplexity of base and adapter against depth."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.eval.tables import Form, form_of, print_rows
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import REPEATABLE, engine_in_use, follow, noting, open_view, say
from templora_cli.config import Config
from templora_cli.config_layers import from_dict
from templora_cli.errors import TemploraError
from templora_cli.prompt import window
from templora_cli.render.figures import count_of

if TYPE_CHECKING:
    from templora_cli.evaluation.perplexity import Score
    from templora_cli.render.view import View
    from templora_cli.run import Run
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
CONTROL_COLUMNS = {"control_ppl": "control PPL", "control_change": "control %"}
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
    files: Annotated[
        list[Path], typer.Argument(help="Text files; each is a separate book.", callback=expand_home)
    ],
    limit_tokens: Annotated[
        Optional[int], typer.Option(help="Maximum number of tokens to read of each file.")
    ] = None,
    against: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="window=N",
            help="Also measure the base alone, with the same window and with one of N tokens, and the costs.",
        ),
    ] = None,
    control: Annotated[
        Optional[Path],
        typer.Option(
            help="Text of another author of the time, at least as long: each book is also scored with an "
            "adapter that has learnt as much of it.",
            callback=expand_home,
        ),
    ] = None,
    name: flags.SessionName = None,
    *,
    settings: GivenSettings,
    reference_averaging: Annotated[
        bool,
        typer.Option(
            "--reference-averaging",
            help="Also print the mean of the chunks' perplexities, as in the authors' code.",
        ),
    ] = False,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Measure the perplexity of base and adapter against depth, over whole books.

    Each chunk is scored under the base and under base + adapter with the same context, then
    learnt, as in the paper (section 4.2). Perplexity is exp of the mean negative log-likelihood
    per token. To continue a stopped run, run the same command again.
    """
    from templora_cli.documents.text_input import read_text
    from templora_cli.evaluation.perplexity import row, scores_of
    from templora_cli.evaluation.plots import check_plot, plot_perplexity

    with open_view(json=False, quiet=quiet, prose=False, stopped=REPEATABLE) as (view, stop):
        form = form_of(as_json=json, as_csv=csv)
        if csv and against:
            raise TemploraError("--csv prints one table, but --against needs two", "use --json")
        if plot is not None:
            check_plot(plot)
        if control is not None and against:
            raise TemploraError("--control and --against cannot be combined", "use one of them")
        if name is not None and (against or control or len(files) > 1):
            raise TemploraError(f"--name {name}: there would be several sessions", "leave out --name")
        config = settings.resolve()
        ways = _ways(config, against or [])
        texts = {path: read_text(path, notify=noting(view)) for path in files}
        if limit_tokens is not None and limit_tokens < 1:
            raise TemploraError(f"--limit-tokens {limit_tokens}: must be at least 1", "--limit-tokens 20000")
        books: dict[str, list[Score]] = {}
        costs: list[dict[str, Any]] = []
        names = _names(files)
        for way, way_config in ways.items():
            for path, text in texts.items():
                costs_too = bool(against)
                run = _open(way_config, path, text, limit_tokens, with_costs=costs_too, view=view, name=name)
                config = replace(config, human=run.config.human, generated=run.config.generated)
                with run:
                    cost = _read_book(run, view, stop, with_costs=bool(against))
                    scores = scores_of(run.chunks)
                    learns = run.config.train.learn
                del run  # frees the adapter; each book has a new one
                if control is not None and learns:
                    scores = _controlled(scores, way_config, control, text, limit_tokens, view, stop)
                if learns == config.train.learn:
                    books.setdefault(names[path], scores)
                if cost is not None:
                    total = row("all", scores)
                    perplexity = total.base_ppl if total.adapter_ppl is None else total.adapter_ppl
                    costs.append({"book": names[path], "way": way, "ppl": perplexity, **cost})
        view.close()
        _report(books, config, costs, reference=reference_averaging, form=form)
        if plot is not None:
            plot_perplexity(plot, books)


def _names(files: list[Path]) -> dict[Path, str]:
    """The name of each file in the tables."""
    names = [path.name for path in files]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in files}


def _ways(config: Config, against: list[str]) -> dict[str, Config]:
    """Configurations by name: `config` and, with --against, the base alone with each window."""
    if not against:
        return {"": config}
    # In order of memory, because memory that the process does not release counts for the later ones.
    base = replace(config, train=replace(config.train, learn=False))
    ways = {"base": base, **({"base + adapter": config} if config.train.learn else {})}
    for option in against:
        name, _, value = option.partition("=")
        if name != "window" or not value.isascii() or not value.isdecimal():
            raise TemploraError(f"--against {option}: must be window=N", "--against window=4096")
        context_tokens = int(value)
        wider = replace(base, decode=replace(base.decode, context_tokens=context_tokens))
        ways[f"base, window {context_tokens:,}"] = from_dict(wider.as_dict(), f"--against {option}")
    return ways


def report_reading(run: Run) -> None:
    """Print the table of a finished reading."""
    from templora_cli.evaluation.perplexity import scores_of

    _report({run.session.id: scores_of(run.chunks)}, run.config, [], reference=False, form="table")


def _open(
    config: Config,
    path: Path,
    text: str,
    limit: int | None,
    *,
    with_costs: bool,
    view: View,
    name: str | None,
) -> Run:
    """Open the session that reads a book, a new one or one that was stopped."""
    from templora_cli import runner
    from templora_cli.reading import ReadingRequest

    request = ReadingRequest(text, str(path), limit)
    if with_costs:
        request = replace(request, kind="costs", measured_by="templora eval ppl --against")
    engine = engine_in_use()
    return runner.begin(request, config, notify=view.show, engine=engine, resume_same=True, name=name)


def _read_book(run: Run, view: View, stop: threading.Event, *, with_costs: bool) -> dict[str, Any] | None:
    """Read one book to its end, unless it is finished.

    Returns its cost if `with_costs`: peak memory is saved after each chunk, and after the last one a trial
    of decoding.
    """
    from templora_cli.evaluation.cost import PeakMemory, cost_of, decode_trial
    from templora_cli.evaluation.measurement_cache import MeasurementCache

    if not with_costs:
        follow(run, run.events(stop), view, stop)
        return None
    session, config, model = run.session, run.config, run.model
    last = (session.manifest.goal_amount - 1) // config.decode.chunk_tokens

    def after_chunk(index: int, state: WritingState) -> None:
        memory.measure_once(index, lambda: peak.bytes)
        if index == last:
            header = tuple(session.manifest.request["header"])
            prompt = header + window(state.tokens, config.decode.context_tokens)
            backend = run.engine.backend(model, session.manifest.backend)
            trial.measure_once(index, lambda: decode_trial(model, backend, prompt, config.decode))

    trial = MeasurementCache(session.path / "trial.json")
    memory = MeasurementCache(session.path / "memory.json")
    with PeakMemory(model.device) as peak:
        follow(run, run.events(stop, after_chunk=after_chunk), view, stop)
    cost = cost_of(run.chunks, trial.values[last], max(memory.values.values()), config.decode.chunk_tokens)
    return {"context_tokens": config.decode.context_tokens, **asdict(cost)}


def _controlled(
    scores: list[Score],
    config: Config,
    path: Path,
    book: str,
    limit: int | None,
    view: View,
    stop: threading.Event,
) -> list[Score]:
    """The scores of a book with those of an adapter that has learnt the text of another author instead."""
    from templora_cli import runner
    from templora_cli.documents.text_input import read_text
    from templora_cli.evaluation.control import control_scorer, with_control
    from templora_cli.evaluation.measurement_cache import MeasurementCache
    from templora_cli.reading import ReadingRequest
    from templora_cli.sessions.store import sha256_of

    request = ReadingRequest(
        read_text(path, notify=noting(view)),
        str(path),
        sum(score.tokens for score in scores),
        kind="costs",
        measured_by="templora eval ppl --control",
        scored=sha256_of(book),
    )
    with runner.begin(request, config, notify=view.show, engine=engine_in_use(), resume_same=True) as run:
        score, count = control_scorer(run.model, book, config.decode, limit)
        cache = MeasurementCache(run.session.path / "measured.json")

        def after_chunk(index: int, state: WritingState) -> None:
            if 0 <= index < count - 1:
                cache.measure_once(index, lambda: score(index + 1))

        follow(run, run.events(stop, after_chunk=after_chunk), view, stop)
        nlls = [cache.values[index] for index in sorted(cache.values)]
        if len(nlls) < count - 1:
            read = count_of(sum(len(chunk["tokens"]) for chunk in run.chunks), "token")
            hint = f"use a longer one, or --limit-tokens {len(nlls) * config.decode.chunk_tokens}"
            raise TemploraError(f"{path} has only {read}, fewer than the book", hint)
    return with_control(scores, nlls[: len(scores) - 1])


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
    has_control = any(row["control_ppl"] is not None for row in rows)
    columns = {**COLUMNS, **(CONTROL_COLUMNS if has_control else {})}
    print_rows(form, config, columns, rows, **({"ways": ways} if ways else {}))
    if ways and form != "json":
        say()
        print_rows(form, config, COST_COLUMNS, ways)
