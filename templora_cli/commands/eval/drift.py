"""`templora eval drift`: does a book that learns from itself hold together?"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli import runner
from templora_cli.commands import flags
from templora_cli.commands.eval.tables import form_of, print_rows
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import open_view
from templora_cli.commands.write import new_novel, read_premise
from templora_cli.config import Config, for_size
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.evaluation.drift import Measures
    from templora_cli.render import View
    from templora_cli.state import WritingState

MEASURES = [
    *("repetition_in_chunk", "repetition_in_book", "distinct_3", "compression", "new_words"),
    *("nll_base", "probe_ppl", "recall_base", "recall_adapter"),
]


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe"),
    *("decode.chunk_tokens", "decode.context_tokens"),
    prefer="own",
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
    from templora_cli.evaluation.drift import by_depth
    from templora_cli.evaluation.plots import check_plot, plot_drift

    with open_view(json=False, quiet=quiet, prose=False) as view:
        form = form_of(as_json=json, as_csv=csv)
        if plot is not None:
            check_plot(plot)
        for name, value in (("--tokens", tokens), ("--seeds", seeds), ("--step", step)):
            if value < 1:
                raise TemploraError(f"{name} {value}: must be at least 1", "templora eval drift --help")
        text = read_premise(premise, premise_file, required=True)
        probe_text = None if probe is None else read_text(probe)
        config = settings.resolve()
        measured: dict[str, list[Measures]] = {"learning": [], "off": []}
        folder: Path | None = None
        for seed in range(seeds):
            for name, books in measured.items():
                train = replace(config.train, learn=name == "learning")
                one = replace(config, seed=seed, train=train)
                if not quiet:
                    typer.echo(f"seed {seed}, {name}", err=True)
                one, folder, loaded = runner.load_model(one, view, folder)
                config = for_size(config, loaded.parameters)
                books += _write_measured(one, loaded, folder, view, text, tokens, probe_text, probe_tokens)
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
    from templora_cli.evaluation.drift import LiveMeasures, measures_of
    from templora_cli.evaluation.kept import Kept
    from templora_cli.reading import reading_tokens
    from templora_cli.sessions.checkpoint import read_chunks

    goal = (length, "tokens")
    new = new_novel(config, model, folder, premise=premise, opening=None, goal=goal, out=None)
    beginning, tokens = reading_tokens(model.tokenizer, probe) if probe else ((), ())
    # A kind of its own, so that it never goes on with a book that somebody writes.
    new = replace(new, manifest=replace(new.manifest, task="drift"))
    with new.go_on() as session:
        look = LiveMeasures(model, new.header, (beginning, tokens[:probe_tokens]), config.decode)
        kept = Kept(session.path / "measured.json")

        def after_chunk(index: int, state: WritingState) -> None:
            if index >= 0:
                kept.once(index, lambda: look(state))

        runner.run_session(session, model, view, after_chunk=after_chunk)
        return measures_of(read_chunks(session.steps), kept.values)
