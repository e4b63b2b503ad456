"""`templora eval translate`: compare translations with learning and without, using references."""

from __future__ import annotations

import json as json_module
import os
import shlex
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.eval.tables import Form, form_of, print_rows
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import REPEATABLE, engine_in_use, follow, open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.files import numbered_name

if TYPE_CHECKING:
    from templora_cli.documents.aligned_text import AlignedText
    from templora_cli.evaluation.translation_quality import QualityRow, ScoredPair
    from templora_cli.languages import Language
    from templora_cli.render.view import View
    from templora_cli.run import Run
    from templora_cli.state import WritingState

COMET_HINT = "python -m venv comet && comet/bin/pip install unbabel-comet, then --comet comet/bin/comet-score"
"""unbabel-comet needs an older transformers than templora, and so a separate environment."""

COLUMNS = {
    "depth": "depth",
    "side": "side",
    "pairs": "pairs",
    "tokens": "tokens",
    "ppl": "PPL",
    "ppl_change": "PPL %",
    "bleu": "BLEU",
    "bleu_half_width": "BLEU ±",
    "bleu_change": "BLEU %",
    "p": "p",
    "chrf": "chrF",
    "chrf_half_width": "chrF ±",
}


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn", "seed"),
    prefer="human",
    task="pairs",
)
def translate(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="Aligned paragraphs: GuoFeng's JSON, or JSON lines with source and target.",
            callback=expand_home,
        ),
    ],
    source: Annotated[
        Optional[str], typer.Option("--from", help="Language of the source, as code or name.")
    ] = None,
    target: Annotated[
        Optional[str], typer.Option("--to", help="Language of the target, as code or name.")
    ] = None,
    context_pairs: Annotated[int, typer.Option(help="Earlier pairs in the prompt of a paragraph.")] = 3,
    learn_from: Annotated[
        Literal["reference", "output"],
        typer.Option(help="Learn the references, or the tool's own translations."),
    ] = "reference",
    limit_tokens: Annotated[
        Optional[int],
        typer.Option(help="End after the run in which the references reach this number of tokens."),
    ] = None,
    run_pairs: Annotated[
        int, typer.Option(help="Number of pairs that are learnt together, if the file has no runs.")
    ] = 16,
    step: Annotated[int, typer.Option(help="Range of depth of a row of the table, in tokens.")] = 6000,
    score_only: Annotated[
        bool, typer.Option("--score-only", help="Only score the references; translate nothing.")
    ] = False,
    bleu: Annotated[bool, typer.Option("--bleu/--no-bleu", help="Compute BLEU as well as chrF.")] = True,
    comet: Annotated[
        Optional[str],
        typer.Option(metavar="COMMAND", help="Also compute COMET with this comet-score program."),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="File (.jsonl) for all paragraphs with their translations.", callback=expand_home),
    ] = None,
    name: flags.SessionName = None,
    *,
    settings: GivenSettings,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    quiet: flags.OnlyTables = False,
) -> None:
    """Translate aligned text with learning and without, and compare both with the references.

    In each run, each paragraph is translated greedily under the base and under base + adapter with
    the same number of pairs in the prompt, and its reference is scored. Then the run is learnt, as
    in the paper (section 4.3). To continue a stopped evaluation, run the same command again.
    """
    from templora_cli.documents.aligned_text import read_aligned

    with open_view(json=False, quiet=quiet, prose=False, stopped=REPEATABLE) as (view, stop):
        form = form_of(as_json=json, as_csv=csv)
        comet = comet and os.path.expanduser(comet)  # noqa: PTH111  (a Path would lose the ./ of a program here)
        _check(context_pairs, limit_tokens, run_pairs, step, learn_from, score_only, comet, out)
        codes = _language_codes(source, target)
        text = read_aligned(pairs, run_pairs=run_pairs, languages=codes)
        languages = _languages(text, source, target)

        from templora_cli.evaluation.translation_quality import comet_scores, metrics_for, table

        if not score_only:  # an error must come before the translation, which may take hours
            metrics_for(languages[1], ["a"], bleu=bleu)
        config = settings.resolve(prefer="human" if learn_from == "reference" else "generated")

        from templora_cli import runner
        from templora_cli.translation.aligned import PairsRequest

        request = PairsRequest(
            text.runs,
            languages,
            pairs.stem,
            "templora eval translate",
            context_pairs=context_pairs,
            learn_from=learn_from,
            limit_tokens=limit_tokens,
            options={"run_pairs": run_pairs, "score_only": score_only},
        )
        engine = engine_in_use()
        begun = runner.begin(request, config, notify=view.show, engine=engine, resume_same=True, name=name)
        with begun as run:
            scored_pairs = _translate(run, view, stop)
        view.close()
        if out is not None:
            _write_outputs(out, scored_pairs)
        rows = table(scored_pairs, languages[1], step=step, bleu=bleu)
        comet_by_side = comet_scores(comet, scored_pairs) if comet else None
        _report(form, run.config, rows, comet_by_side)


def _check(
    context_pairs: int,
    limit_tokens: int | None,
    run_pairs: int,
    step: int,
    learn_from: str,
    score_only: bool,
    comet: str | None,
    out: Path | None,
) -> None:
    values = {"--context-pairs": (context_pairs, 0), "--run-pairs": (run_pairs, 1), "--step": (step, 1)}
    values["--limit-tokens"] = (1 if limit_tokens is None else limit_tokens, 1)
    for name, (value, minimum) in values.items():
        if value < minimum:
            raise TemploraError(f"{name} {value}: must be at least {minimum}", f"{name} {minimum}")
    if score_only and learn_from == "output":
        raise TemploraError(
            "--score-only cannot be combined with --learn-from output: it translates nothing",
            "leave one of them out",
        )
    if score_only and (comet or out):
        raise TemploraError(
            f"--score-only cannot be combined with {'--comet' if comet else '--out'}: it translates nothing",
            "leave one of them out",
        )
    if out is not None and (out.suffix != ".jsonl" or not out.absolute().parent.is_dir()):
        raise TemploraError(
            f"--out {out}: must be a .jsonl file in an existing folder", "--out translations.jsonl"
        )
    if out is not None and out.exists():
        raise TemploraError(
            f"{out} exists and is not overwritten", f"--out {shlex.quote(str(numbered_name(out)))}"
        )
    if comet is not None and shutil.which(comet) is None:
        raise TemploraError(f"COMET: there is no command {comet}", COMET_HINT)


def _language_codes(source: str | None, target: str | None) -> tuple[str, str] | None:
    """The codes of the languages, which may be keys in the file, if both are specified."""
    from templora_cli.languages import language

    return (language(source).code, language(target).code) if source and target else None


def _languages(text: AlignedText, source: str | None, target: str | None) -> tuple[Language, Language]:
    from templora_cli.languages import language

    codes = (source or (text.languages or ("", ""))[0], target or (text.languages or ("", ""))[1])
    if not all(codes):
        raise TemploraError("the file does not name its languages", "name them: --from zh --to en")
    languages = language(codes[0]), language(codes[1])
    if languages[0] == languages[1]:
        raise TemploraError(
            f"source and target are both {languages[0].name}", "give two languages: --from zh --to en"
        )
    return languages


def _translate(run: Run, view: View, stop: threading.Event) -> list[ScoredPair]:
    """Translate and learn the runs that are not done."""
    from templora_cli.evaluation.measurement_cache import MeasurementCache
    from templora_cli.evaluation.translation_quality import TranslationProbe, scored_pairs
    from templora_cli.sessions.steps import committed_steps
    from templora_cli.translation.aligned import MEASURED, PairsTask

    session, model, task, request = run.session, run.model, run.task, run.session.manifest.request
    assert isinstance(task, PairsTask)
    runs = task.runs
    probe = TranslationProbe(
        model,
        run.engine.backend(model, session.manifest.backend),
        task.format,
        runs,
        context_pairs=request["context_pairs"],
        from_output=request["learn_from"] == "output",
        banned=model.banned_tokens,
        translate=not request["score_only"],
    )
    cache = MeasurementCache(session.path / MEASURED)

    def measure_next(index: int, state: WritingState) -> None:
        """Called after run `index` is learnt; measures the next run before that is learnt."""
        if (following := index + 1) < len(runs):
            cache.measure_once(following, lambda: probe.measure(following, cache.values))

    if missing := sorted(set(range(len(committed_steps(session.steps)))) - cache.values.keys()):
        raise TemploraError(
            f"{cache.path} has no measurement of run {missing[0] + 1}, which can no longer be measured",
            f"delete {session.path} and run the command again",
        )
    follow(run, run.events(stop, after_chunk=measure_next), view, stop)
    return scored_pairs(runs, cache.values)


def _report(form: Form, config: Config, rows: Sequence[QualityRow], comet: dict[str, float] | None) -> None:
    bases = {row.depth: row for row in rows if row.side == "base"}
    table_rows = []
    for row in rows:
        base = bases[row.depth]
        values: dict[str, Any] = {**asdict(row), "ppl_change": None, "bleu_change": None}
        for name, interval in (("bleu", row.bleu), ("chrf", row.chrf)):
            values[name] = None if interval is None else interval.value
            values[f"{name}_half_width"] = None if interval is None else interval.half_width
        if row is not base:
            values["ppl_change"] = (row.ppl / base.ppl - 1) * 100
            if row.bleu and base.bleu and base.bleu.value:
                values["bleu_change"] = (row.bleu.value / base.bleu.value - 1) * 100
        if comet and row.depth == "all":
            values["comet"] = comet[row.side]
        table_rows.append(values)
    columns = {
        name: heading for name, heading in COLUMNS.items() if any(row[name] is not None for row in table_rows)
    }
    if comet:
        columns["comet"] = "COMET"
        table_rows = [{"comet": None, **row} for row in table_rows]
    print_rows(form, config, columns, table_rows)


def _write_outputs(path: Path, pairs: Sequence[ScoredPair]) -> None:
    from templora_cli.files import write_atomically

    lines = []
    for scored in pairs:
        nll = {f"nll_{side}": value for side, value in scored.nll.items()}
        values = {"depth": scored.depth, **asdict(scored.pair), **scored.outputs, **nll}
        lines.append(json_module.dumps({**values, "tokens": scored.tokens}, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines))
