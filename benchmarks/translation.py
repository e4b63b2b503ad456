"""A novel translated by `templora translate` as people do it, judged by its published translation.

    python -m benchmarks.translation run PAIRS.json --from zh --to en --model gemma3-270m --out FOLDER
    python -m benchmarks.translation table FOLDER --from zh --to en --terms terms.csv

In each way a person translates the first chunk: a base model goes on from examples, and has none. Then `off`
does not learn, `generated` learns what it translated itself, and with `corrected` the person comes back
after every few chunks, corrects each tenth paragraph (to what was published), syncs and resumes.
Each way ends as a JSON file in FOLDER; the table leaves out what was corrected in any of them.
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
from templora_cli.evaluation.translation_quality import Judged
from templora_cli.evaluation.translation_quality import table as rows_of
from templora_cli.translation.glossary_file import read_glossary
from templora_cli.translation.languages import language
from templora_cli.translation.terminology import Glossary, consistency

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

WAYS = ("off", "generated", "corrected")
EVERY = 10
"""Each so many-th paragraph is corrected."""

Source = Annotated[str, typer.Option("--from")]
Target = Annotated[str, typer.Option("--to")]


@app.command()
def run(
    pairs: Path,
    source: Source,
    target: Target,
    out: Annotated[Path, typer.Option(help="A folder; new, or with other ways in it.")],
    way: Annotated[list[str], typer.Option(help=f"Any of {', '.join(WAYS)}; all without.")] = [],  # noqa: B006
    model: str = "gemma3-270m",
    paragraphs: Annotated[int, typer.Option(help="How many, from the beginning.")] = 500,
    sync_every: Annotated[int, typer.Option(help="Chunks between two visits of the person.")] = 4,
    glossary: Annotated[Path | None, typer.Option(help="As of templora translate.")] = None,
    settings: Annotated[list[str], typer.Option("--set", help="As of templora translate.")] = [],  # noqa: B006
) -> None:
    """Translate the beginning of the book in each way."""
    if unknown := set(way) - set(WAYS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(WAYS)}")
    text = read_aligned(pairs, run_pairs=16, languages=(source, target))
    book = [pair for one in text.runs for pair in one][:paragraphs]
    out.mkdir(parents=True, exist_ok=True)
    # In the background a shell has Ctrl-C ignored, by what is started here too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in way or WAYS:
        began = time.perf_counter()
        asked = ["--from", source, "--to", target, "--model", model]
        asked += ["--glossary", str(glossary)] if glossary else []
        asked += [part for setting in settings for part in ("--set", setting)]
        result = translate(name, book, asked, out / name, sync_every)
        result["seconds"] = time.perf_counter() - began
        (out / f"{name}.json").write_text(json.dumps(result, ensure_ascii=False, indent=1))
        typer.echo(f"{name}: {result['seconds']:.0f} s, {result['counts']}")


def translate(
    way: str, book: Sequence[AlignedPair], asked: list[str], folder: Path, sync_every: int
) -> dict[str, Any]:
    """The book's paragraphs translated in one way, with a `TEMPLORA_HOME` of its own in `folder`."""
    folder.mkdir()
    os.environ["TEMPLORA_HOME"] = str(folder)
    file = folder / "book.txt"
    # Blank lines part paragraphs, so that there are as many as pairs.
    file.write_text("\n\n".join(" ".join(pair.source.split()) for pair in book), "utf-8")
    flags = ["--no-learn"] if way == "off" else []
    command = ["translate", str(file), *asked, *flags, "--json"]
    events: list[dict[str, Any]] = []
    session = ""
    visits = 0
    while True:
        stop_after = 1 if visits == 0 else sync_every if way == "corrected" else None
        said, ended = _followed(command, stop_after)
        events += said
        session = next(event["session"] for event in events if event["event"] == "session_opened")
        if ended:
            break
        correct(session, book, folder / "review.txt", every=1 if visits == 0 else EVERY)
        visits += 1
        command = ["resume", session, "--json"]
    report = json.loads((folder / "sessions" / session / "report.json").read_text("utf-8"))
    scored = [event for event in events if event["event"] == "chunk_scored"]
    learning = [event for event in scored if event["nll_adapter"] is not None]
    return {
        "counts": {state: report[state] for state in ("good", "retried", "corrected", "failed")},
        "checks": report["checks"],
        "gated": [event["rejection_reason"] for event in scored if event["rejection_reason"]],
        "gain": [event["nll_base"] - event["nll_adapter"] for event in learning],
        "lines": report["lines"],
        "references": [pair.target for pair in book],
    }


def _followed(command: list[str], stop_after: int | None) -> tuple[list[dict[str, Any]], bool]:
    """The events of templora, stopped by Ctrl-C after so many chunks; and whether it came to its end."""
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
    subprocess.run([*TEMPLORA, *arguments], check=True, stdout=subprocess.DEVNULL)


def correct(
    session: str,
    book: Sequence[AlignedPair],
    review: Path,
    every: int,
    templora: Callable[[Sequence[str]], None] = run_templora,
) -> None:
    """What a person does in between: each so many-th paragraph becomes what was published."""
    templora(["review", session, "--out", str(review)])
    lines = review.read_text("utf-8").splitlines()
    number = -1
    for place, line in enumerate(lines):
        if match := re.match(r"@(\d+) ", line):
            number = int(match[1]) - 1
        if line.startswith("> ") and number % every == 0:
            lines[place] = f"> {' '.join(book[number].target.split())}"
    review.write_text("\n".join(lines) + "\n", "utf-8")
    templora(["sync", session, str(review)])
    review.unlink()


@app.command()
def table(
    folder: Path,
    source: Source,
    target: Target,
    terms: Annotated[Path | None, typer.Option(help="A glossary that no way was shown.")] = None,
    step: Annotated[int, typer.Option(help="Paragraphs that a row spans.")] = 250,
) -> None:
    """BLEU and chrF by depth, and what failed, of all ways that are in `folder`."""
    results = {
        way: json.loads(path.read_text()) for way in WAYS if (path := folder / f"{way}.json").is_file()
    }
    targets = {
        way: {line["paragraph"]: line["target"] for line in one["lines"]} for way, one in results.items()
    }
    first = next(iter(results.values()))
    sources = {line["paragraph"]: line["source"] for line in first["lines"]}
    persons = {
        line["paragraph"] for one in results.values() for line in one["lines"] if line["by"] == "person"
    }
    compared = [number for number in sorted(sources) if number not in persons]
    nothing = dict.fromkeys(results, math.nan)
    judged = [
        Judged(
            number,
            AlignedPair(sources[number], first["references"][number]),
            1,
            nothing,
            {way: targets[way][number] for way in results},
        )
        for number in compared
    ]
    print("| paragraphs | way | BLEU | p against the first | chrF |\n| --- | --- | --- | --- | --- |")
    for row in rows_of(judged, language(target), step=step):
        assert row.bleu and row.chrf
        p = "" if row.p is None else f"{row.p:.3f}"
        bleu, chrf = (f"{one.value:.2f} ± {one.half_width:.2f}" for one in (row.bleu, row.chrf))
        print(f"| {row.depth} | {row.side} | {bleu} | {p} | {chrf} |")
    print("\n| way | good | retried | failed | checks that failed | chunks gated | gain | terms kept |")
    print(f"| {' | '.join(['---'] * 8)} |")
    glossary = read_glossary(terms) if terms else Glossary(())
    for way, one in results.items():
        good, retried, failed = (one["counts"][state] for state in ("good", "retried", "failed"))
        checks = ", ".join(f"{name} {count}" for name, count in one["checks"].items())
        gain = sum(one["gain"]) / len(one["gain"]) if one["gain"] else math.nan
        found = consistency(((sources[n], targets[way][n]) for n in compared), glossary)
        used, occurring = (sum(getattr(use, name) for use in found.terms) for name in ("used", "occurrences"))
        shown = (
            way,
            good,
            retried,
            failed,
            checks,
            len(one["gated"]),
            f"{gain:.3f}",
            f"{used} of {occurring}",
        )
        print(f"| {' | '.join(map(str, shown))} |")


if __name__ == "__main__":
    app()
