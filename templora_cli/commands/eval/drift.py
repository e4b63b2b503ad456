"""`templora eval drift`: does a book that learns from itself hold together?"""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import read_premise
from templora_cli.commands.eval.tables import form_of, print_rows
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.evaluation.drift_measures import Measures
    from templora_cli.render import View
    from templora_cli.runner import Run
    from templora_cli.state import WritingState

MEASURES = [
    *("repetition_in_chunk", "repetition_in_book", "distinct_3", "compression", "new_words"),
    *("nll_base", "probe_ppl", "recall_base", "recall_adapter"),
]


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe"),
    *("decode.chunk_tokens", "decode.context_tokens"),
    prefer="generated",
    task="drift",
)
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
    *,
    settings: GivenSettings,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Does a book that learns from itself hold together? Written with learning and without.

    Both are written from the same premise with the same seeds, and measured against depth:
    repetition, variety, and what learning does to text that it has not seen. A run that was
    stopped goes on when the same command is given again.
    """
    from templora_cli.documents.utf8_text import read_text
    from templora_cli.evaluation.plots import check_plot, plot_drift

    with open_view(json=False, quiet=quiet, prose=False) as (view, stop):
        form = form_of(as_json=json, as_csv=csv)
        if plot is not None:
            check_plot(plot)
        for name, value in (("--tokens", tokens), ("--seeds", seeds), ("--step", step)):
            if value < 1:
                raise TemploraError(f"{name} {value}: must be at least 1", "templora eval drift --help")
        text = read_premise(premise, premise_file, required=True)
        probe_text = None if probe is None else read_text(probe)
        config = settings.resolve()

        from templora_cli.evaluation.drift_measures import by_depth

        measured: dict[str, list[Measures]] = {"learning": [], "off": []}
        for seed in range(seeds):
            for name, books in measured.items():
                train = replace(config.train, learn=name == "learning")
                one = replace(config, seed=seed, train=train)
                if not quiet:
                    typer.echo(f"seed {seed}, {name}", err=True)
                with _open(one, text, tokens, view) as run:
                    config = replace(config, human=run.config.human, generated=run.config.generated)
                    books += _write_measured(run, view, stop, probe_text, probe_tokens)
                del run  # a new adapter every time
        rows = {name: by_depth(all_of_it, step) for name, all_of_it in measured.items()}
        pairs = zip(rows["learning"], rows["off"], strict=True)
        named = [(name, row) for pair in pairs for name, row in zip(measured, pair, strict=True)]
        print_rows(
            form,
            config,
            {name: name.replace("_", " ") for name in ("depth", "books", *MEASURES)},
            [{"books": name, **asdict(row)} for name, row in named],
        )
        if plot is not None:
            plot_drift(plot, measured, step)


def _open(config: Config, premise: str, length: int, view: View) -> Run:
    """The session that writes one book, a new one or one that was stopped."""
    from templora_cli import runner
    from templora_cli.novel.kind import NovelRequest
    from templora_cli.novel.task import Goal

    # A kind of its own, so that it never goes on with a book that somebody writes.
    goal, measured_by = Goal(length, "tokens"), "templora eval drift"
    request = NovelRequest(premise, goal=goal, kind="drift", measured_by=measured_by)
    return runner.begin(request, config, notify=view.show, engine=engine_in_use(), resume_same=True)


def _write_measured(
    run: Run, view: View, stop: threading.Event, probe: str | None, probe_tokens: int
) -> list[Measures]:
    """Write one book, or find it written, measuring the adapter after each chunk."""
    from templora_cli.evaluation.drift_measures import LiveMeasures, measures_of
    from templora_cli.evaluation.measurement_cache import MeasurementCache
    from templora_cli.novel.task import NovelTask
    from templora_cli.reading import reading_tokens

    model, task = run.model, run.task
    assert isinstance(task, NovelTask)
    beginning, tokens = reading_tokens(model.tokenizer, probe) if probe else ((), ())
    header = task.prompt(()).header
    look = LiveMeasures(model, header, (beginning, tokens[:probe_tokens]), run.config.decode)
    kept = MeasurementCache(run.session.path / "measured.json")

    def after_chunk(index: int, state: WritingState) -> None:
        if index >= 0:
            kept.get_or_compute(index, lambda: look(state))

    follow(run, run.events(stop, after_chunk=after_chunk), view, stop)
    return measures_of(run.chunks, kept.values)
