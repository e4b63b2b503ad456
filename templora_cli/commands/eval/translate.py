"""`templora eval translate`: translations with learning and without, judged by their references."""

from __future__ import annotations

import json as json_module
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli import runner
from templora_cli.commands import flags
from templora_cli.commands.eval.tables import Form, form_of, print_rows
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import open_view
from templora_cli.config import Config
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.documents.aligned import AlignedText, Pair
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.evaluation.translation import Judged, Row
    from templora_cli.render import View
    from templora_cli.state import WritingState
    from templora_cli.translation.languages import Language
    from templora_cli.translation.pairs import PairFormat

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
    prefer="given",
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
    from templora_cli.documents.aligned import read_aligned
    from templora_cli.engine.models.loading import load_tokenizer
    from templora_cli.evaluation.translation import comet as comet_of
    from templora_cli.evaluation.translation import metrics_for, table
    from templora_cli.prompt_files import load_prompts
    from templora_cli.translation.pairs import pair_format

    with open_view(json=False, quiet=quiet, prose=False) as view:
        tables = form_of(as_json=json, as_csv=csv)
        _check(context_pairs, limit_tokens, run_pairs, step, learn_from, score_only, comet, out)
        named = _named(source, target)
        text = read_aligned(pairs, run_pairs=run_pairs, languages=named)
        languages = _languages(text, source, target)
        if not score_only:
            metrics_for(languages[1], ["a"], bleu=bleu)
        config = settings.resolve(prefer="given" if learn_from == "reference" else "own")
        asked = {
            "context_pairs": context_pairs,
            "learn_from": learn_from,
            "limit_tokens": limit_tokens,
            "run_pairs": run_pairs,
            "score_only": score_only,
            "languages": [language.code for language in languages],
        }
        folder = runner.find_model(config, view)
        form = pair_format(load_tokenizer(folder), load_prompts("translation", config.prompts), *languages)
        runs = _limited(text.runs, form, limit_tokens)
        sizes = _Sizes.of(form, runs, context_pairs)
        config = replace(
            config, decode=replace(config.decode, chunk_tokens=sizes.mean, context_tokens=sizes.context)
        )
        hint = "shorter runs (--run-pairs), --quantize nf4, or a smaller --model"
        config, folder, loaded = runner.load_model(config, view, folder, chunk=sizes.run, hint=hint)
        _require_positions(loaded, config, form, sizes)
        paragraphs = _translate(config, loaded, folder, view, pairs, form, runs, asked)
        if out is not None:
            _write_outputs(out, paragraphs)
        rows = table(paragraphs, languages[1], step=step, bleu=bleu)
        quality = comet_of(comet, paragraphs) if comet else None
        _report(tables, config, rows, quality)


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


def _translate(
    config: Config,
    model: LanguageModel,
    folder: Path,
    view: View,
    path: Path,
    form: PairFormat,
    runs: Sequence[Sequence[Pair]],
    asked: dict[str, Any],
) -> list[Judged]:
    """Translate and learn run after run, or find it done."""
    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.evaluation.kept import Kept
    from templora_cli.evaluation.translation import TranslationProbe, judged
    from templora_cli.sessions.checkpoint import committed_steps
    from templora_cli.translation.pairs import PairsTask

    from_output = asked["learn_from"] == "output"
    probe = TranslationProbe(
        model,
        backend_for(model, config.decode.backend),
        form,
        runs,
        context_pairs=asked["context_pairs"],
        from_output=from_output,
        banned=model.banned_tokens,
        translate=not asked["score_only"],
    )
    with _new_session(config, model, folder, path, form, runs, asked).go_on() as session:
        kept = Kept(session.path / "measured.json")

        def measure_next(index: int, state: WritingState) -> None:
            """Called after run `index`; the next one is looked at before it is learnt."""
            if (following := index + 1) < len(runs):
                kept.once(following, lambda: probe.measure(following, kept.values))

        def targets(index: int) -> Sequence[str]:
            if not from_output:
                return [pair.target for pair in runs[index]]
            outputs: list[str] = kept.values[index]["adapter" if model.adapter else "base"]["outputs"]
            return outputs

        origin: Literal["own", "given"] = "own" if from_output else "given"
        task = PairsTask(form, runs, asked["context_pairs"], origin, targets)
        if lost := sorted(set(range(len(committed_steps(session.steps)))) - kept.values.keys()):
            raise TemploraError(
                f"{kept.path} has no measurement of run {lost[0] + 1}, whose adapter is gone",
                f"delete {session.path} and give the command again",
            )
        runner.run_session(session, model, view, after_chunk=measure_next, task=task)
        return judged(runs, kept.values)


def _limited(runs: Sequence[Sequence[Pair]], form: PairFormat, limit: int | None) -> list[Sequence[Pair]]:
    """The first runs, to the one in which the references reach `limit` tokens."""
    kept: list[Sequence[Pair]] = []
    tokens = 0
    for run in runs:
        if limit is not None and tokens >= limit:
            break
        kept.append(run)
        tokens += sum(len(form.target_tokens(pair.target)) for pair in run)
    return kept


def _new_session(
    config: Config,
    model: LanguageModel,
    folder: Path,
    path: Path,
    form: PairFormat,
    runs: Sequence[Sequence[Pair]],
    asked: dict[str, Any],
) -> runner.NewSession:
    source = json_module.dumps(
        {**asked, "runs": [[asdict(pair) for pair in run] for run in runs]}, ensure_ascii=False, indent=1
    )
    tokens = sum(len(form.pair_tokens(run)) for run in runs)
    manifest = runner.new_manifest(
        "pairs",
        config,
        model,
        folder,
        named_after=f"eval {path.stem}",
        goal=(tokens, "tokens"),
        source=source,
        prompts=form.prompts,
    )
    return runner.NewSession(manifest, form.header, (), source)


@dataclass(frozen=True)
class _Sizes:
    """Of runs of pairs, in tokens."""

    run: int
    """The longest one."""
    mean: int
    """Of a run: what a screen shows as a chunk."""
    context: int
    """The longest context before a run."""
    together: int
    """The longest run with its context."""
    all: int

    @classmethod
    def of(cls, form: PairFormat, runs: Sequence[Sequence[Pair]], context_pairs: int) -> _Sizes:
        sizes = [[len(form.pair_tokens([pair])) for pair in run] for run in runs]
        flat = [size for run in sizes for size in run]
        begins = [sum(map(len, sizes[:index])) for index in range(len(sizes))]
        contexts = [sum(flat[max(0, begin - context_pairs) : begin]) for begin in begins]
        together = max(context + sum(run) for context, run in zip(contexts, sizes, strict=True))
        mean = max(8, -(-sum(flat) // len(sizes)))
        return cls(max(map(sum, sizes)), mean, max(contexts), together, sum(flat))


def _require_positions(model: LanguageModel, config: Config, form: PairFormat, sizes: _Sizes) -> None:
    """Refuse runs that are longer than what the model reads."""
    need = sizes.together
    if config.train.learn and "distill" in (config.given.objective, config.own.objective):
        teacher = max(config.given.teacher_context_tokens, config.own.teacher_context_tokens)
        need = max(need, min(teacher, sizes.all) + sizes.run)
    need += len(form.header)
    if model.max_positions is not None and need > model.max_positions:
        raise TemploraError(
            f"this model reads at most {model.max_positions} tokens; a run with its context has {need}",
            "a smaller --context-pairs, or shorter runs (--run-pairs)",
        )


def _report(form: Form, config: Config, rows: Sequence[Row], quality: dict[str, float] | None) -> None:
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
