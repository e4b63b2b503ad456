"""The rates of the checks of prose: false alarms in human books, and faults that are found."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.prose_faults.corpus import POSITIONS, SCRIPTS, FaultyChunk, Position, faulty_chunks
from templora_cli.documents.text_input import read_text
from templora_cli.novel.prose_checks import Fault, first_fault

CHUNK_TOKENS = (256, 512)
BEFORE = 8_000
"""Characters before a chunk that the checks are given."""
_CONTENTS = re.compile(r"(?m)^[^a-z\n]*[A-Z]{2}[^a-z\n]*$")
MIN_CONTENTS = 8
"""Lines in capitals in a table of contents or on a title page."""


def human_books(path: Path) -> Iterator[tuple[str, str, str]]:
    """(name, language, text) of an English text file, or of both sides of an aligned one (GuoFeng)."""
    if path.suffix == ".txt":
        yield path.name, "en", read_text(path)
        return
    pairs = [pair for run in json.loads(path.read_text("utf-8")) for pair in run["inference"]]
    for language in ("en", "zh"):
        yield f"{path.name} {language}", language, "\n\n".join(pair[language] for pair in pairs)


def human_chunks(text: str, language: str, tokens: int) -> Iterator[tuple[str, str]]:
    """(before, chunk) of about `tokens` tokens: three words for four of them, or three characters for two."""
    if language == "zh":
        starts = list(range(0, len(text), tokens * 3 // 2))
    else:
        starts = [match.start() for match in re.finditer(r"\S+", text)][:: tokens * 3 // 4]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text[max(0, start - BEFORE) : start], text[start:end]


@dataclass
class Alarms:
    """Alarms in the chunks of one book, and the time that the checks took."""

    chunks: int = 0
    alarms: int = 0
    in_contents: int = 0
    """Of these, in tables of contents and title pages."""
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def alarms_in(text: str, language: str, tokens: int) -> Alarms:
    """Check all chunks of a human text. Chapter headings are allowed, since people write them."""
    result = Alarms()
    for before, chunk in human_chunks(text, language, tokens):
        start = time.process_time()
        fault = first_fault(chunk, before, scripts=SCRIPTS.get(language, ("Latn",)), headings=True)
        result.seconds.append(time.process_time() - start)
        result.chunks += 1
        if fault:
            result.alarms += 1
            result.in_contents += len(_CONTENTS.findall(chunk)) >= MIN_CONTENTS
            result.kinds[fault.kind] += 1
            result.reasons.append(fault.reason)
    return result


def print_alarms(paths: Sequence[Path]) -> None:
    """Print the alarms in human books, and the time of a check."""
    print("book\ttokens\tchunks\talarms\tshare\tin contents\tms\tkinds")
    seconds: list[float] = []
    totals: dict[int, Counter[str]] = {tokens: Counter() for tokens in CHUNK_TOKENS}
    for path in paths:
        for name, language, text in human_books(path):
            for tokens in CHUNK_TOKENS:
                found = alarms_in(text, language, tokens)
                seconds += found.seconds
                totals[tokens].update(chunks=found.chunks, alarms=found.alarms)
                mean = 1000 * sum(found.seconds) / len(found.seconds)
                print(
                    f"{name}\t{tokens}\t{found.chunks}\t{found.alarms}\t{found.alarms / found.chunks:.2%}"
                    f"\t{found.in_contents}\t{mean:.1f}\t{dict(found.kinds)}"
                )
                for reason in found.reasons:
                    print(f"  {reason}")
    for tokens, total in totals.items():
        print(f"all\t{tokens}\t{total['chunks']}\t{total['alarms']}\t{total['alarms'] / total['chunks']:.2%}")
    if seconds:
        seconds.sort()
        median, slow = seconds[len(seconds) // 2], seconds[-len(seconds) // 100]
        print(f"ms of a chunk: median {1000 * median:.1f}, 99 % {1000 * slow:.1f}")


@dataclass
class Rate:
    """Of `chunks` with a fault: found, named as their kind, and cut at most one paragraph before it."""

    chunks: int = 0
    found: int = 0
    named: int = 0
    cut: int = 0


def is_cut_well(chunk: FaultyChunk, fault: Fault) -> bool:
    """Is the text cut before the fault, with at most one paragraph of good prose lost?"""
    if fault.kind == "after the end":  # "The End" stays
        return chunk.start < fault.start
    if fault.start > chunk.start:
        return False
    return len(re.findall(r"\n+", chunk.text[fault.start : chunk.start].strip())) == 0


def rates(
    positions: Sequence[Position] = POSITIONS, misses: list[FaultyChunk] | None = None
) -> tuple[dict[str, Rate], dict[str, Rate]]:
    """The rates of detection by kind, for the half that the limits were set on and for the half held out.

    Chunks of the first half that were missed are added to `misses`.
    """
    halves: tuple[dict[str, Rate], dict[str, Rate]] = ({}, {})
    for chunk in faulty_chunks(positions=positions):
        sample = chunk.sample
        fault = first_fault(chunk.text, chunk.before, scripts=SCRIPTS.get(sample.language, ("Latn",)))
        for name in ["handwritten"] if sample.source == "handwritten" else [sample.kind, "all"]:
            rate = halves[sample.held_out].setdefault(name, Rate())
            rate.chunks += 1
            if fault:
                rate.found += 1
                rate.named += fault.kind == sample.kind
                rate.cut += is_cut_well(chunk, fault)
        if fault is None and misses is not None and not sample.held_out:
            misses.append(chunk)
    return halves


def print_rates(show_misses: bool) -> None:
    """Print the rates of detection by kind, for the half that limits were set on and for the other."""
    misses: list[FaultyChunk] = []
    tuned, held_out = rates(misses=misses)
    print("kind\tchunks\tfound\tnamed\tcut\tchunks held out\tfound\tnamed\tcut")
    for kind in sorted(tuned, key=lambda kind: (kind in ("all", "handwritten"), kind)):
        cells = [kind]
        for rate in (tuned[kind], held_out.get(kind, Rate())):
            shares = (f"{value / max(1, rate.chunks):.1%}" for value in (rate.found, rate.named, rate.cut))
            cells += [str(rate.chunks), *shares]
        print("\t".join(cells))
    if show_misses:
        for chunk in misses:
            print(f"  missed ({chunk.sample.kind}, {chunk.position}): {chunk.sample.text[:90]!r}")
