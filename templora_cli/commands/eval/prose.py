"""`templora eval prose`: repetition, variety and form of books, and the words that they over-use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import print_json, print_table, say
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.commands.eval.books import Book
    from templora_cli.evaluation.prose_measures import ProseMeasures
    from templora_cli.evaluation.prose_reference import Comparison, ReferenceBook

COUNT, LENGTH, SHARE = 0, 1, 3
"""Decimals of the values."""


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    label: str
    meaning: str
    decimals: int = SHARE


FIGURES = {
    "words": Figure("words", "number of words, without headings", COUNT),
    "chapters": Figure(
        "chapters", "number of chapters that have words; a text without headings is one", COUNT
    ),
    "repetition_first": Figure(
        "4-grams repeated, first 8,000 words",
        "share of sequences of 4 words that occurred before, in the first 8,000 words",
    ),
    "repetition_mean": Figure("4-grams repeated, mean", "mean of that share over all windows of 8,000 words"),
    "repetition_max": Figure("4-grams repeated, highest", "highest share of such a window"),
    "repetition_within_chapters": Figure(
        "4-grams repeated in a chapter",
        "share that occurred before in the same chapter, at most 8,000 words ago",
    ),
    "repetition_across_chapters": Figure(
        "4-grams of chapters before",
        "share that occurred in an earlier chapter, at most 8,000 words ago",
    ),
    "repetition_from_any_chapter": Figure(
        "4-grams of any chapter before",
        "share that occurred in any earlier chapter; it grows with the length of the book",
    ),
    "distinct_1": Figure(
        "distinct-1", "number of distinct words divided by that of all words, in windows of 8,000 words"
    ),
    "distinct_2": Figure("distinct-2", "the same for pairs of words"),
    "distinct_3": Figure("distinct-3", "the same for trigrams (sequences of 3 words)"),
    "mattr_500": Figure("MATTR-500", "mean share of distinct words in 500 words in a row"),
    "sentence_words": Figure("words in a sentence", "mean length", LENGTH),
    "sentence_words_sd": Figure("words in a sentence, SD", "standard deviation of the length", LENGTH),
    "paragraph_words": Figure("words in a paragraph", "mean length", LENGTH),
    "paragraph_words_sd": Figure("words in a paragraph, SD", "standard deviation of the length", LENGTH),
    "questions": Figure("questions", "share of sentences with a question mark"),
    "dialogue": Figure(
        "dialogue", "share of words in quotation marks or in paragraphs that begin with a dash"
    ),
    "names": Figure(
        "names", "number of distinct words that have a capital inside sentences (in German, all nouns)", COUNT
    ),
    "names_once": Figure(
        "names that appear once", "share of the names that do; it falls with the length of the book"
    ),
}
"""The rows of the table, by the names of their values in JSON."""

HELP = "\n\n".join(
    [
        "Measure the prose of books: repetition, variety, sentences, dialogue, names, over-used words.",
        "A book is a file (.txt, .md, .docx, .epub, .html) or the id of a session. In scripts without spaces"
        " (Chinese, Japanese, Thai, ...), each character counts as a word.",
        *(f"{figure.label}: {figure.meaning}." for figure in FIGURES.values()),
        "over-used: words and trigrams that are at least twice as frequent as in the texts of --reference,"
        " and occur at least 3 times; the most significant first (Dunning's G²). Names are left out if the"
        " script has capitals. A book is not compared with itself.",
    ]
)


def prose(
    books: Annotated[
        list[Path],
        typer.Argument(help="Files, or ids of sessions.", callback=expand_home, metavar="BOOK..."),
    ],
    reference: Annotated[
        Optional[list[Path]],
        typer.Option(
            help="Human fiction for over-used words: a book, or a .json of word counts; can be repeated.",
            callback=expand_home,
        ),
    ] = None,
    limit_words: Annotated[
        Optional[int],
        typer.Option(
            help="Maximum number of words to measure of each book; books of one length can be compared."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Maximum number of over-used words and trigrams per book.")] = 10,
    encoding: Annotated[
        Optional[str],
        typer.Option(help="Encoding of the text files if detection is wrong: gb18030, big5, ..."),
    ] = None,
    json: flags.TableAsJson = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Measure the prose of books."""
    from templora_cli.commands.eval.books import others, read_books, read_references
    from templora_cli.evaluation.plots import check_plot, plot_prose

    if plot is not None:
        check_plot(plot)
    for name, value, usual in (("--limit-words", limit_words, 8000), ("--top", top, 10)):
        if value is not None and value < 1:
            raise TemploraError(f"{name} {value}: must be at least 1", f"{name} {usual}")

    def note(text: str) -> None:
        if not quiet:
            say(f"note: {text}", err=True)

    loaded = read_books(books, encoding, limit_words, note)
    references = read_references(reference or [], encoding, note)

    from templora_cli.evaluation.prose_measures import measure
    from templora_cli.evaluation.prose_reference import compare

    measured = {book.name: measure(book.chapters) for book in loaded}
    compared = {b.name: compare(b.chapters, others(b, references), top) for b in loaded} if references else {}
    if json:
        print_json(
            {"books": [_json_of(book, measured[book.name], compared.get(book.name)) for book in loaded]}
        )
    else:
        _print_measures(measured)
        for book in loaded:
            if book.name in compared:
                _print_overused(book.name, compared[book.name])
        _note_lengths(measured, note)
    if plot is not None:
        plot_prose(plot, measured)


def _json_of(book: Book, measures: ProseMeasures, comparison: Comparison | None) -> dict[str, Any]:
    values: dict[str, Any] = {"book": book.name, "path": str(book.path), **asdict(measures)}
    if comparison is not None:
        values["reference"] = [
            {"book": b.name, "path": str(b.file), "words": b.words, "only_counts": b.counts is not None}
            for b in comparison.books
        ]
        values["overused_words"] = [asdict(gram) for gram in comparison.words]
        trigrams = comparison.trigrams
        values["overused_trigrams"] = None if trigrams is None else [asdict(gram) for gram in trigrams]
    return values


def _print_measures(measured: Mapping[str, ProseMeasures]) -> None:
    rows = []
    for name, figure in FIGURES.items():
        values = [getattr(measures, name) for measures in measured.values()]
        rows.append([figure.label, *(_cell(value, figure.decimals) for value in values)])
    print_table(["measure", *measured], rows, texts=("measure",))


def _cell(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _print_overused(name: str, comparison: Comparison) -> None:
    say()
    say(f"{name}, compared with {_described(comparison.books)}:")
    if not comparison.books:
        return
    for label, grams in (("word", comparison.words), ("trigram", comparison.trigrams)):
        if grams is None:
            say("no trigrams: counts of words have none")
        elif not grams:
            say(f"no over-used {label}")
        else:
            rows = [
                [
                    *(g.text, f"{g.count:,}", _cell(g.per_10k, 1)),
                    *(_cell(g.reference_per_10k, 2), _cell(g.ratio, 1)),
                ]
                for g in grams
            ]
            print_table([label, "count", "per 10K", "reference", "times"], rows, texts=(label,))


def _described(books: Sequence[ReferenceBook]) -> str:
    """The reference in words, a file of counts as one."""
    if not books:
        return "nothing, because the reference is this book alone"
    parts = []
    for file, in_file in groupby(books, key=lambda book: book.file):
        group = list(in_file)
        words = f"{sum(book.words for book in group):,} words"
        counts = group[0].counts
        counted = "" if counts is None else f", counts of {len(counts):,} words in {len(group)} books"
        parts.append(f"{file.name} ({words}{counted})")
    return " and ".join(parts)


def _note_lengths(measured: Mapping[str, ProseMeasures], note: Callable[[str], None]) -> None:
    """Say which books are too short to be compared with others."""
    from templora_cli.evaluation.prose_measures import WINDOW

    short = {name: m.words for name, m in measured.items() if m.words < WINDOW}
    if short:
        listed = ", ".join(short) if len(short) < 4 else f"{len(short)} books"
        note(
            f"{listed}: shorter than {WINDOW:,} words, so repetition is lower and distinct-n higher than in a"
            f" longer text; to compare, measure the same length: --limit-words {min(short.values())}"
        )
    note("the meaning of each figure: templora eval prose --help")
