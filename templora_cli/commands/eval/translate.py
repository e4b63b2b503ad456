"""`templora eval translate`: translations with learning and without, judged by their references."""

from __future__ import annotations

import json as json_module
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.eval.tables import Form, form_of, print_rows
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import engine_in_use, follow, open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.documents.aligned_text import AlignedText
    from templora_cli.evaluation.translation_quality import Judged, QualityRow
    from templora_cli.render import View
    from templora_cli.runner import Run
    from templora_cli.state import WritingState
    from templora_cli.translation.languages import Language

COMET_HINT = "python -m venv comet && comet/bin/pip install unbabel-comet, then --comet comet/bin/comet-score"
"""unbabel-comet needs an older transformers than templora, so it lives in an environment of its own."""

COLUMNS = {
    "depth": "depth",
    "side": "side",
    "pairs": "pairs",
    "tokens": "tokens",
    "ppl": "PPL",
    "ppl_change": "PPL %",
    "bleu": "BLEU",
    "bleu_half_width": "±",
    "bleu_change": "BLEU %",
    "p": "p",
    "chrf": "chrF",
    "chrf_half_width": "±",
}


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn", "seed"),
    prefer="human",
    task="pairs",
)
def translate(
    pairs: Annotated[
        Path, typer.Argument(help="Aligned paragraphs: GuoFeng's JSON, or JSON lines of source and target.")
    ],
    source: Annotated[
        Optional[str], typer.Option("--from", help="Language of the source, as code or name.")
    ] = None,
    target: Annotated[
        Optional[str], typer.Option("--to", help="Language of the target, as code or name.")
    ] = None,
    context_pairs: Annotated[int, typer.Option(help="Pairs before a paragraph that the model sees.")] = 3,
    learn_from: Annotated[
        Literal["reference", "output"],
        typer.Option(help="What is learnt of a run: the references, or the tool's own translations."),
    ] = "reference",
    limit_tokens: Annotated[
        Optional[int], typer.Option(help="End after the run that reaches this many tokens of reference.")
    ] = None,
    run_pairs: Annotated[
        int, typer.Option(help="Pairs that are learnt together, where the file has no runs.")
    ] = 16,
    step: Annotated[int, typer.Option(help="Depth that a row of the table spans, in tokens.")] = 6000,
    score_only: Annotated[
        bool, typer.Option("--score-only", help="Only the perplexity of the references; nothing is decoded.")
    ] = False,
    bleu: Annotated[bool, typer.Option("--bleu/--no-bleu", help="BLEU beside chrF.")] = True,
    comet: Annotated[
        Optional[str], typer.Option(metavar="COMMAND", help="Also COMET, by this comet-score.")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="File (.jsonl) for every paragraph and its translations.")
    ] = None,
    *,
    settings: GivenSettings,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    quiet: flags.OnlyTables = False,
) -> None:
    """Translate aligned text with learning and without, and judge both by the references.

    Run after run, each paragraph is translated greedily under base and under adapter with the
    same number of pairs before it, and its reference is scored; then the run is learnt, as in the
    paper (section 4.3). A run that was stopped goes on when the same command is given again.
    """
    from templora_cli.documents.aligned_text import read_aligned

    with open_view(json=False, quiet=quiet, prose=False) as (view, stop):
        tables = form_of(as_json=json, as_csv=csv)
        _check(context_pairs, limit_tokens, run_pairs, step, learn_from, score_only, comet, out)
        named = _named(source, target)
        text = read_aligned(pairs, run_pairs=run_pairs, languages=named)
        languages = _languages(text, source, target)

        from templora_cli.evaluation.translation_quality import comet as comet_of
        from templora_cli.evaluation.translation_quality import metrics_for, table

        if not score_only:
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
            asked={"run_pairs": run_pairs, "score_only": score_only},
        )
        engine = engine_in_use()
        with runner.begin(request, config, notify=view.show, engine=engine, resume_same=True) as run:
            paragraphs = _translate(run, view, stop)
        if out is not None:
            _write_outputs(out, paragraphs)
        rows = table(paragraphs, languages[1], step=step, bleu=bleu)
        quality = comet_of(comet, paragraphs) if comet else None
        _report(tables, run.config, rows, quality)


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
    least = {"--context-pairs": (context_pairs, 0), "--run-pairs": (run_pairs, 1), "--step": (step, 1)}
    least["--limit-tokens"] = (1 if limit_tokens is None else limit_tokens, 1)
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise TemploraError(
                f"{name} {value}: must be at least {lowest}", "templora eval translate --help"
            )
    if score_only and learn_from == "output":
        raise TemploraError(
            "--score-only decodes nothing, so there is no output to learn from", "leave one out"
        )
    if score_only and (comet or out):
        raise TemploraError(
            f"--score-only decodes nothing for {'--comet' if comet else '--out'}", "leave one out"
        )
    if out is not None and (out.suffix != ".jsonl" or not out.absolute().parent.is_dir()):
        raise TemploraError(
            f"--out {out}: is no .jsonl file in a folder that is there", "--out translations.jsonl"
        )
    if out is not None and out.exists():
        raise TemploraError(f"{out} is there already, and is not overwritten", "choose another --out")
    if comet is not None and shutil.which(comet) is None:
        raise TemploraError(f"COMET: there is no command {comet}", COMET_HINT)


def _named(source: str | None, target: str | None) -> tuple[str, str] | None:
    """The codes of the languages, which may be the keys of the file, where both are said."""
    from templora_cli.translation.languages import language

    return (language(source).code, language(target).code) if source and target else None


def _languages(text: AlignedText, source: str | None, target: str | None) -> tuple[Language, Language]:
    from templora_cli.translation.languages import language

    codes = (source or (text.languages or ("", ""))[0], target or (text.languages or ("", ""))[1])
    if not all(codes):
        raise TemploraError("the file does not say its languages", "say them: --from zh --to en")
    found = language(codes[0]), language(codes[1])
    if found[0] == found[1]:
        raise TemploraError(f"source and target are both {found[0].name}", "--from zh --to en")
    return found


def _translate(run: Run, view: View, stop: threading.Event) -> list[Judged]:
    """Translate and learn run after run, or find it done."""
    from templora_cli.evaluation.measurement_cache import MeasurementCache
    from templora_cli.evaluation.translation_quality import TranslationProbe, judged
    from templora_cli.sessions.steps import committed_steps
    from templora_cli.translation.aligned import MEASURED, PairsTask

    session, model, task, asked = run.session, run.model, run.task, run.session.manifest.request
    assert isinstance(task, PairsTask)
    runs = task.runs
    probe = TranslationProbe(
        model,
        run.engine.backend(model, session.manifest.backend),
        task.format,
        runs,
        context_pairs=asked["context_pairs"],
        from_output=asked["learn_from"] == "output",
        banned=model.banned_tokens,
        translate=not asked["score_only"],
    )
    kept = MeasurementCache(session.path / MEASURED)

    def measure_next(index: int, state: WritingState) -> None:
        """Called after run `index`; the next one is looked at before it is learnt."""
        if (following := index + 1) < len(runs):
            kept.get_or_compute(following, lambda: probe.measure(following, kept.values))

    if lost := sorted(set(range(len(committed_steps(session.steps)))) - kept.values.keys()):
        raise TemploraError(
            f"{kept.path} has no measurement of run {lost[0] + 1}, whose adapter is gone",
            f"delete {session.path} and give the command again",
        )
    follow(run, run.events(stop, after_chunk=measure_next), view, stop)
    return judged(runs, kept.values)


def _report(form: Form, config: Config, rows: Sequence[QualityRow], quality: dict[str, float] | None) -> None:
    bases = {row.depth: row for row in rows if row.side == "base"}
    listed = []
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
        if quality and row.depth == "all":
            values["comet"] = quality[row.side]
        listed.append(values)
    columns = {name: head for name, head in COLUMNS.items() if any(row[name] is not None for row in listed)}
    if quality:
        columns["comet"] = "COMET"
        listed = [{"comet": None, **row} for row in listed]
    print_rows(form, config, columns, listed)


def _write_outputs(path: Path, paragraphs: Sequence[Judged]) -> None:
    from templora_cli.files import write_atomically

    lines = []
    for one in paragraphs:
        nll = {f"nll_{side}": value for side, value in one.nll.items()}
        values = {"depth": one.depth, **asdict(one.pair), **one.outputs, **nll, "tokens": one.tokens}
        lines.append(json_module.dumps(values, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines))
