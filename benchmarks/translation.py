"""Translate a novel with `templora translate` and simulated corrections, against its published translation.

    \b
    python -m benchmarks.translation run PAIRS.json --from zh --to en --model gemma3-270m --out FOLDER
    python -m benchmarks.translation table FOLDER --from zh --to en --terms terms.csv

There are three ways. In each, a person translates the first chunk, because a base model needs examples to
continue. Then `off` learns nothing, and `generated` learns its own translations. With `corrected` the person
also comes back after every few chunks, replaces every tenth paragraph with the published translation, syncs
and resumes. Each way writes a JSON file to FOLDER. The table leaves out paragraphs that were corrected in any
way.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.command import TEMPLORA
from templora_cli.documents.aligned_text import AlignedPair, read_aligned
from templora_cli.evaluation.translation_quality import ScoredPair
from templora_cli.evaluation.translation_quality import table as rows_of
from templora_cli.languages import language
from templora_cli.translation.glossary_file import read_glossary
from templora_cli.translation.terminology import Glossary, consistency

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

WAYS = ("off", "generated", "corrected")
CORRECTION_INTERVAL = 10
"""Every tenth paragraph is corrected."""

Source = Annotated[str, typer.Option("--from")]
Target = Annotated[str, typer.Option("--to")]


@app.command()
def run(
    pairs: Path,
    source: Source,
    target: Target,
    out: Annotated[Path, typer.Option(help="Folder for the results; new, or with other ways.")],
    way: Annotated[list[str], typer.Option(help=f"{', '.join(WAYS)}. Default: all.")] = [],  # noqa: B006
    model: str = "gemma3-270m",
    paragraphs: Annotated[int, typer.Option(help="Length, from the beginning of the book.")] = 500,
    sync_every: Annotated[int, typer.Option(help="Chunks between two corrections.")] = 4,
    glossary: Annotated[Path | None, typer.Option(help="As for templora translate.")] = None,
    settings: Annotated[list[str], typer.Option("--set", help="As for templora.")] = [],  # noqa: B006
) -> None:
    """Translate the beginning of the book in each way."""
    if unknown := set(way) - set(WAYS):
        raise typer.BadParameter(f"unknown way {', '.join(sorted(unknown))}; choose from {', '.join(WAYS)}")
    text = read_aligned(pairs, run_pairs=16, languages=(source, target))
    book = [pair for run_ in text.runs for pair in run_][:paragraphs]
    out.mkdir(parents=True, exist_ok=True)
    # A shell lets background jobs, and the processes that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in way or WAYS:
        start = time.perf_counter()
        options = ["--from", source, "--to", target, "--model", model]
        options += ["--glossary", str(glossary)] if glossary else []
        options += [part for setting in settings for part in ("--set", setting)]
        result = translate(name, book, options, out / name, sync_every)
        result["seconds"] = time.perf_counter() - start
        (out / f"{name}.json").write_text(json.dumps(result, ensure_ascii=False, indent=1))
        typer.echo(f"{name}: {result['seconds']:.0f} s, {result['counts']}")


def translate(
    way: str, book: Sequence[AlignedPair], options: list[str], folder: Path, sync_every: int
) -> dict[str, Any]:
    """Translate the paragraphs of a book in one way, with `folder` as `TEMPLORA_HOME`. Returns the result."""
    folder.mkdir()
    os.environ["TEMPLORA_HOME"] = str(folder)
    file = folder / "book.txt"
    # One paragraph per pair: blank lines separate paragraphs.
    file.write_text("\n\n".join(" ".join(pair.source.split()) for pair in book), "utf-8")
    flags = ["--no-learn"] if way == "off" else []
    command = ["translate", str(file), *options, *flags, "--json"]
    events: list[dict[str, Any]] = []
    session = ""
    syncs = 0
    while True:
        stop_after = 1 if syncs == 0 else sync_every if way == "corrected" else None
        new_events, ended = _run_and_stop(command, stop_after)
        events += new_events
        session = next(event["session"] for event in events if event["event"] == "session_opened")
        if ended:
            break
        every = 1 if syncs == 0 else CORRECTION_INTERVAL
        correct(session, book, folder / "review.txt", every=every)
        syncs += 1
        command = ["resume", session, "--json"]
    report = json.loads((folder / "sessions" / session / "report.json").read_text("utf-8"))
    scored = [event for event in events if event["event"] == "chunk_scored"]
    learning = [event for event in scored if event["nll_adapter"] is not None]
    return {
        "counts": {state: report[state] for state in ("good", "retried", "corrected", "failed")},
        "checks": report["checks"],
        "gated": [event["rejection_reason"] for event in scored if event["rejection_reason"]],
        "gain": [event["nll_base"] - event["nll_adapter"] for event in learning],
        "lines": report["paragraphs"],
        "references": [pair.target for pair in book],
    }


def _run_and_stop(command: list[str], stop_after: int | None) -> tuple[list[dict[str, Any]], bool]:
    """Run templora and stop it after `stop_after` chunks. Returns its events, and whether it had finished."""
    events = []
    with subprocess.Popen([*TEMPLORA, *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        committed = 0
        for line in process.stdout:
            events.append(json.loads(line))
            committed += events[-1]["event"] == "chunk_committed"
            if committed == stop_after:
                committed += 1
                process.send_signal(signal.SIGINT)
    if process.returncode not in (0, 3, 130):
        raise RuntimeError(f"templora {command[0]} ended with {process.returncode}")
    return events, process.returncode != 130


def run_templora(arguments: Sequence[str]) -> None:
    """Run a templora command. Raises CalledProcessError if it fails."""
    subprocess.run([*TEMPLORA, *arguments], check=True, stdout=subprocess.DEVNULL)


def correct(
    session: str,
    book: Sequence[AlignedPair],
    review: Path,
    every: int,
    templora: Callable[[Sequence[str]], None] = run_templora,
) -> None:
    """Replace one paragraph of `every` with the published translation, and sync the session."""
    templora(["review", session, "--out", str(review)])
    lines = review.read_text("utf-8").splitlines()
    number = -1
    for index, line in enumerate(lines):
        if match := re.match(r"@(\d+) ", line):
            number = int(match[1]) - 1
        if line.startswith("> ") and number % every == 0:
            lines[index] = f"> {' '.join(book[number].target.split())}"
    review.write_text("\n".join(lines) + "\n", "utf-8")
    templora(["sync", session, str(review)])
    review.unlink()


@app.command()
def table(
    folder: Path,
    source: Source,
    target: Target,
    terms: Annotated[Path | None, typer.Option(help="A glossary that was not used by any way.")] = None,
    step: Annotated[int, typer.Option(help="Paragraphs per row.")] = 250,
) -> None:
    """Print BLEU and chrF by depth, and the failed checks, of all ways in `folder`."""
    results = {
        way: json.loads(path.read_text()) for way in WAYS if (path := folder / f"{way}.json").is_file()
    }
    targets = {
        way: {line["paragraph"]: line["target"] for line in result["lines"]}
        for way, result in results.items()
    }
    first = next(iter(results.values()))
    sources = {line["paragraph"]: line["source"] for line in first["lines"]}
    corrected = {
        line["paragraph"]
        for result in results.values()
        for line in result["lines"]
        if line["origin"] == "human"
    }
    compared = [number for number in sorted(sources) if number not in corrected]
    no_nll = dict.fromkeys(results, math.nan)
    judged = [
        ScoredPair(
            number,
            AlignedPair(sources[number], first["references"][number]),
            1,
            no_nll,
            {way: targets[way][number] for way in results},
        )
        for number in compared
    ]
    print("| paragraphs | way | BLEU | p against the first | chrF |\n| --- | --- | --- | --- | --- |")
    for row in rows_of(judged, language(target), step=step):
        assert row.bleu and row.chrf
        p = "" if row.p is None else f"{row.p:.3f}"
        bleu, chrf = (f"{score.value:.2f} ± {score.half_width:.2f}" for score in (row.bleu, row.chrf))
        print(f"| {row.depth} | {row.side} | {bleu} | {p} | {chrf} |")
    print("\n| way | good | retried | failed | failed checks | chunks rejected | gain | terms used |")
    print(f"| {' | '.join(['---'] * 8)} |")
    glossary = read_glossary(terms) if terms else Glossary(())
    for way, result in results.items():
        good, retried, failed = (result["counts"][state] for state in ("good", "retried", "failed"))
        checks = ", ".join(f"{name} {count}" for name, count in result["checks"].items())
        gain = sum(result["gain"]) / len(result["gain"]) if result["gain"] else math.nan
        terms_of_way = consistency(((sources[n], targets[way][n]) for n in compared), glossary).terms
        used = sum(use.used for use in terms_of_way)
        occurring = sum(use.occurrences for use in terms_of_way)
        cells = (
            way,
            good,
            retried,
            failed,
            checks,
            len(result["gated"]),
            f"{gain:.3f}",
            f"{used} of {occurring}",
        )
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    app()
