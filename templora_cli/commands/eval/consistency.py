"""`templora eval consistency`: does the model remember what is so in a book?"""

from __future__ import annotations

import json as json_module
import shlex
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.eval.tables import Form, form_of, print_rows
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import (
    REPEATABLE,
    engine_in_use,
    follow,
    noting,
    open_view,
    print_table,
)
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.files import numbered_name, write_atomically

if TYPE_CHECKING:
    from templora_cli.evaluation.consistency import ConsistencyRequest
    from templora_cli.evaluation.consistency_table import Comparison, ConsistencyRow
    from templora_cli.render.view import View
    from templora_cli.run import Run
    from templora_cli.state import WritingState

CSV_COLUMNS = dict.fromkeys(("arm", "distance", "kind", "questions", "right", "low", "high"))


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens", "seed"),
    prefer="human",
    task="consistency",
)
def consistency(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Prose by people in which facts are planted; each file is a separate book.",
            callback=expand_home,
        ),
    ],
    questions: Annotated[int, typer.Option(help="Minimum number of questions, over all books.")] = 420,
    distances: Annotated[
        str, typer.Option(metavar="N,N,...", help="Tokens between a fact and its questions.")
    ] = "2048,8192,32768",
    chapters: Annotated[int, typer.Option(help="Number of chapters of each book.")] = 20,
    scoring: Annotated[
        Literal["empty", "token", "sum"],
        typer.Option(
            help="Score of an answer: its log-likelihood less that after a cue without a subject (empty), "
            "per token (token), or as it is (sum)."
        ),
    ] = "empty",
    out: Annotated[
        Optional[Path],
        typer.Option(help="File (.jsonl) for all questions with their answers.", callback=expand_home),
    ] = None,
    *,
    settings: GivenSettings,
    json: flags.TableAsJson = False,
    csv: flags.TableAsCsv = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Plant invented facts in books, and ask about them thousands of tokens later.

    Four answers are scored for each question; one in four is chance. The base has its window alone, the fact
    in its window, recall, or a ledger; base + adapter, which has learnt the book up to the question, has its
    window, recall, or all. To continue a stopped run, run the same command again.
    """
    with open_view(json=False, quiet=quiet, prose=False, stopped=REPEATABLE) as (view, stop):
        form = form_of(as_json=json, as_csv=csv)
        config = settings.resolve()
        spread = _distances(distances, config.decode.context_tokens)
        _check(questions, chapters, out)
        if plot is not None:
            from templora_cli.evaluation.plots import check_plot

            check_plot(plot)
        prose = {path: _prose(path, view) for path in files}

        from templora_cli.evaluation.consistency import ConsistencyRequest, groups_per_file
        from templora_cli.evaluation.consistency_table import comparisons_of, rows_of

        lines: list[dict[str, Any]] = []
        groups = groups_per_file(questions, len(spread), len(files))
        for (path, paragraphs), count in zip(prose.items(), groups, strict=True):
            request = ConsistencyRequest(tuple(paragraphs), path.name, count, spread, chapters)
            run = _open(request, config, view)
            config = replace(config, human=run.config.human, generated=run.config.generated)
            with run:
                answered = _answer(run, request, view, stop)
            del run  # frees the adapter; each book has a new one
            lines += [{"book": str(path), **line} for line in answered]
        view.close()
        if out is not None:
            content = (json_module.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_atomically(out, "".join(content))
        rows, comparisons = rows_of(lines, scoring), comparisons_of(lines, scoring)
        _report(form, config, rows, comparisons)
        if plot is not None:
            from templora_cli.evaluation.plots import plot_consistency

            plot_consistency(plot, rows)


def _distances(text: str, context_tokens: int) -> tuple[int, ...]:
    """The distances in the value of --distances, in order."""
    example = f"--distances {context_tokens or 2048},{4 * (context_tokens or 2048)}"
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise TemploraError(f"--distances {text}: must be numbers with commas between them", example)
    distances = tuple(sorted({int(part) for part in parts}))
    if distances[0] < max(1, context_tokens):
        raise TemploraError(
            f"--distances {text}: after {distances[0]:,} tokens a fact is still in the window of "
            f"{context_tokens:,}",
            f"{example}, or --context-tokens {distances[0]}",
        )
    return distances


def _check(questions: int, chapters: int, out: Path | None) -> None:
    for name, value, usual in (("--questions", questions, 420), ("--chapters", chapters, 20)):
        if value < 1:
            raise TemploraError(f"{name} {value}: must be at least 1", f"{name} {usual}")
    if out is not None and (out.suffix != ".jsonl" or not out.absolute().parent.is_dir()):
        raise TemploraError(
            f"--out {out}: must be a .jsonl file in an existing folder", "--out consistency.jsonl"
        )
    if out is not None and out.exists():
        raise TemploraError(
            f"{out} exists and is not overwritten", f"--out {shlex.quote(str(numbered_name(out)))}"
        )


def _prose(path: Path, view: View) -> list[str]:
    """The paragraphs of prose in a file."""
    from templora_cli.documents.inline import strip_tags
    from templora_cli.documents.registry import read_document
    from templora_cli.evaluation.planted_book import paragraphs_of

    document = read_document(path, notify=noting(view))
    return paragraphs_of(strip_tags(each.text) for each in document.paragraphs if each.kind == "text")


def _open(request: ConsistencyRequest, config: Config, view: View) -> Run:
    """Open the session that reads a book, a new one or one that was stopped."""
    from templora_cli import runner

    return runner.begin(request, config, notify=view.show, engine=engine_in_use(), resume_same=True)


def _answer(run: Run, request: ConsistencyRequest, view: View, stop: threading.Event) -> list[dict[str, Any]]:
    """Read one book to its end, unless it is read, and ask its questions on the way."""
    from templora_cli.evaluation.consistency import ConsistencyProbe, full_answers, full_prompt
    from templora_cli.evaluation.measurement_cache import MeasurementCache
    from templora_cli.events import Working
    from templora_cli.prompt_files import load_prompts

    config, tokenizer = run.config, run.model.tokenizer
    book = request.book(tokenizer, config.seed)
    prompts = [load_prompts(name, config.prompts) for name in run.session.manifest.prompts]
    probe = ConsistencyProbe(
        run.model,
        lambda: full_prompt(tokenizer, prompts, config, book),
        book,
        config.decode.context_tokens,
    )
    cache = MeasurementCache(run.session.path / "answers.json")

    def after_chunk(index: int, state: WritingState) -> None:
        """Ask the questions that come before the end of the next chunk."""
        start = len(state.tokens)
        for number, question in enumerate(book.questions):
            if start <= question.position < start + config.decode.chunk_tokens:
                view.show(Working(f"question {number + 1} of {len(book.questions)}"))
                cache.measure_once(number, partial(probe.measure, question))
            elif question.position < start and number not in cache.values:
                raise _unanswered(run, cache.path, number)

    follow(run, run.events(stop, after_chunk=after_chunk), view, stop)
    return full_answers(book.questions, cache.values)


def _unanswered(run: Run, path: Path, number: int) -> TemploraError:
    return TemploraError(
        f"{path} has no answer to question {number + 1}, which can no longer be asked",
        f"delete {run.session.path} and run the command again",
    )


def _report(
    form: Form, config: Config, rows: Sequence[ConsistencyRow], comparisons: Sequence[Comparison]
) -> None:
    if form != "table":
        columns = {name: name for name in CSV_COLUMNS}
        compared = [asdict(comparison) for comparison in comparisons]
        print_rows(form, config, columns, [asdict(row) for row in rows], comparisons=compared)
        return
    overall = [row for row in rows if row.kind == "all"]
    distances = sorted({row.distance for row in overall})
    cells: dict[str, list[str]] = {}
    for row in overall:
        cells.setdefault(row.arm, []).append(_cell(row.right, row.low, row.high))
    for comparison in comparisons:
        figures = comparison.value, comparison.low, comparison.high
        cells.setdefault(comparison.comparison, []).append(_cell(*figures))
    head = "right, %"
    table = [[name, *figures] for name, figures in cells.items()]
    print_table([head, *(f"{distance:,}" for distance in distances)], table, texts=[head])


def _cell(value: float, low: float, high: float) -> str:
    """A figure with half the width of its interval."""
    return f"{value:.1f} ±{(high - low) / 2:.1f}"
