"""`templora eval drift`: how text changes with depth, written with learning and without."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import read_premise
from templora_cli.commands.eval.tables import form_of, print_rows
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import REPEATABLE, engine_in_use, follow, noting, open_view, say
from templora_cli.config import Config
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.evaluation.drift_measures import Measures
    from templora_cli.render.view import View
    from templora_cli.run import Run
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
    premise: Annotated[Optional[str], typer.Option(help="Subject of the books.")] = None,
    premise_file: Annotated[
        Optional[Path], typer.Option(help="File with the premise.", callback=expand_home)
    ] = None,
    tokens: Annotated[int, typer.Option(help="Length of each book, in tokens.")] = 8192,
    seeds: Annotated[
        int, typer.Option(help="Number of books with learning, and without, from seeds 0, 1, ...")
    ] = 3,
    probe: Annotated[
        Optional[Path],
        typer.Option(help="Human text that is never learnt, scored after each chunk.", callback=expand_home),
    ] = None,
    probe_tokens: Annotated[int, typer.Option(help="Number of tokens of the probe to score.")] = 2048,
    step: Annotated[int, typer.Option(help="Range of depth of a row of the table, in tokens.")] = 2048,
    *,
    settings: GivenSettings,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Write books with learning and without, and measure how their text changes with depth.

    Both kinds have the same premise and the same seeds. The measures are repetition, variety, and
    the effect of learning on other text. To continue a stopped run, run the same command again.
    """
    from templora_cli.documents.text_input import read_text
    from templora_cli.evaluation.plots import check_plot, plot_drift

    with open_view(json=False, quiet=quiet, prose=False, stopped=REPEATABLE) as (view, stop):
        form = form_of(as_json=json, as_csv=csv)
        if plot is not None:
            check_plot(plot)
        for name, value, usual in (("--tokens", tokens, 8192), ("--seeds", seeds, 3), ("--step", step, 2048)):
            if value < 1:
                raise TemploraError(f"{name} {value}: must be at least 1", f"{name} {usual}")
        text = read_premise(premise, premise_file, required=True, notify=noting(view), command="eval drift")
        probe_text = None if probe is None else read_text(probe, notify=noting(view))
        config = settings.resolve()

        from templora_cli.evaluation.drift_measures import by_depth

        measured: dict[str, list[Measures]] = {"learning": [], "off": []}
        for seed in range(seeds):
            for name, measures in measured.items():
                train = replace(config.train, learn=name == "learning")
                book_config = replace(config, seed=seed, train=train)
                if not quiet:
                    say(f"seed {seed}, {name}", err=True)
                with _open(book_config, text, tokens, view) as run:
                    config = replace(config, human=run.config.human, generated=run.config.generated)
                    measures += _write_measured(run, view, stop, probe_text, probe_tokens)
                del run  # frees the adapter; each book has a new one
        view.close()
        rows = {name: by_depth(measures, step) for name, measures in measured.items()}
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
    """Open the session of one book, a new one or one that was stopped."""
    from templora_cli import runner
    from templora_cli.novel.kind import NovelRequest
    from templora_cli.novel.task import Goal

    # Books that fall apart are measured too. With a kind of its own, the command never resumes a user's book.
    config = replace(config, gate=replace(config.gate, prose=False, stop=False))
    goal, measured_by = Goal(length, "tokens"), "templora eval drift"
    request = NovelRequest(premise, goal=goal, kind="drift", measured_by=measured_by)
    return runner.begin(request, config, notify=view.show, engine=engine_in_use(), resume_same=True)


def _write_measured(
    run: Run, view: View, stop: threading.Event, probe: str | None, probe_tokens: int
) -> list[Measures]:
    """Write one book, unless it is finished, and measure the adapter after each chunk."""
    from templora_cli.evaluation.drift_measures import LiveMeasures, measures_of
    from templora_cli.evaluation.measurement_cache import MeasurementCache
    from templora_cli.novel.task import NovelTask
    from templora_cli.reading import reading_tokens

    model, task = run.model, run.task
    assert isinstance(task, NovelTask)
    probe_header, tokens = reading_tokens(model.tokenizer, probe) if probe else ((), ())
    header = task.prompt(()).header
    live_measures = LiveMeasures(model, header, (probe_header, tokens[:probe_tokens]), run.config.decode)
    cache = MeasurementCache(run.session.path / "measured.json")

    def after_chunk(index: int, state: WritingState) -> None:
        if index >= 0:
            cache.measure_once(index, lambda: live_measures(state))

    follow(run, run.events(stop, after_chunk=after_chunk), view, stop)
    return measures_of(run.chunks, cache.values)
