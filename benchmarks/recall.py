"""How well passages of a book are recalled, without a language model, and how fast."""

from __future__ import annotations

import random
import time
from pathlib import Path
from statistics import median

import psutil
import typer

from benchmarks.machine import machine
from benchmarks.planted_facts import Fact, PlantedBook, book_of, planted_facts
from templora_cli.memory.recall import Recall, situation
from templora_cli.memory.terms import count_words, last_words

WORDS_PER_TOKEN = 0.75
"""For English; for Chinese with two characters for a word."""
WINDOW_WORDS = int(1024 * WORDS_PER_TOKEN)
RECALLED_WORDS = int(512 * WORDS_PER_TOKEN)
CHUNK_WORDS = int(512 * WORDS_PER_TOKEN)
DISTANCES = (2048, 8192, 32768)
"""Tokens from a fact to the sentence that names its person again."""
MAX_AFTER = 100
"""Maximum number of words after that sentence."""
MIN_SPREAD = 4000
"""A distance is measured in books that have this number of words more."""
CONDITIONS = ("text", "plan", "familiar", "listed")


def facts(books: list[Path], count: int = 100, seed: int = 0) -> None:
    """Count how often a fact planted in a book is recalled when its person is named again later.

    text: a sentence of the last 100 words names the person. plan: only the chapter's plan does. familiar: 12
    other sentences name the person too, and the last one is on the subject of the fact. listed: as text, and
    the name is in `names`, as if from a ledger.
    """
    typer.echo(f"# {count} facts, {RECALLED_WORDS} words recalled, window of {WINDOW_WORDS}, seed {seed}")
    typer.echo("book\tname\t" + "\t".join(f"{d // 1024}K tokens" for d in DISTANCES) + "\tpassages")
    for path in books:
        for condition in CONDITIONS:
            recalled, passages = recalled_facts(path, condition, count, seed)
            shares = [f"{100 * recalled[d] / count:.0f} %" if d in recalled else "-" for d in DISTANCES]
            typer.echo(f"{path.name}\t{condition}\t" + "\t".join(shares) + f"\t{passages:.1f}")


def recalled_facts(path: Path, condition: str, count: int, seed: int) -> tuple[dict[int, int], float]:
    """Number of facts recalled at each distance, and the mean number of passages."""
    text, language = book_of(path)
    draw = random.Random(f"{seed} {condition}")
    available = count_words(text) - MAX_AFTER
    offsets = {d: int(d * WORDS_PER_TOKEN) for d in DISTANCES if d * WORDS_PER_TOKEN + MIN_SPREAD < available}
    words = range(WINDOW_WORDS, available - max(offsets.values()))
    planted = planted_facts(text, language, count, words, familiar=condition == "familiar", draw=draw)
    book, recall = PlantedBook(text, language, planted), Recall()
    recalled, passages = dict.fromkeys(offsets, 0), 0
    events = [(fact.word + words, distance, fact) for fact in planted for distance, words in offsets.items()]
    for word, distance, fact in sorted(events, key=lambda event: event[:2]):
        now, query, names = scene(book, word, fact, condition, draw)
        recall.update([now])
        window = last_words(now, WINDOW_WORDS)
        results = recall.find(query, window=window, names=names, limit=20, max_words=RECALLED_WORDS)
        recalled[distance] += any(fact.sentence in passage.text for passage in results)
        passages += len(results)
    return recalled, passages / len(events)


def scene(
    book: PlantedBook, word: int, fact: Fact, condition: str, draw: random.Random
) -> tuple[str, str, list[str]]:
    """The text up to a word and a little further, the query, and the names that are listed."""
    text = book.grow(word)
    if condition == "plan":
        return text, situation(text, fact.mention), []
    text += fact.mention + book.space + book.following(draw.randrange(MAX_AFTER))
    return text, situation(text), [fact.name] if condition == "listed" else []


def recall(books: list[Path], words: int = 1_000_000, chunks: int = 50) -> None:
    """Measure the time to recall passages from a long text for the next chunk, and the memory that it takes.

    The books are repeated until they have the number of words.
    """
    text = "\n\n".join(book_of(path)[0] for path in books)
    text *= -(-(words + chunks * CHUNK_WORDS) // count_words(text))
    length = len(last_words(text, chunks * CHUNK_WORDS))
    step = length // chunks
    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    passages = Recall()
    passages.update([text[:-length]])
    indexing = time.perf_counter() - start
    indexed = process.memory_info().rss
    wall: dict[str, list[float]] = {"update": [], "find": [], "both": []}
    cpu: dict[str, list[float]] = {"update": [], "find": [], "both": []}
    for end in range(len(text) - length + step, len(text), step):
        now = text[:end]
        window = last_words(now, WINDOW_WORDS)
        times = [(time.perf_counter(), time.process_time())]
        passages.update([now])
        times.append((time.perf_counter(), time.process_time()))
        passages.find(situation(now), window=window)
        times.append((time.perf_counter(), time.process_time()))
        for index, seconds in enumerate((wall, cpu)):
            a, b, c = (pair[index] for pair in times)
            for name, value in (("update", b - a), ("find", c - b), ("both", c - a)):
                seconds[name].append(value)
    typer.echo(f"# {machine()}, {count_words(text[:-length]):,} words, {len(wall['both'])} chunks")
    typer.echo(f"indexed in {indexing:.1f} s; memory {(indexed - before) / 2**20:.0f} MiB beside the text,")
    typer.echo(f"{(process.memory_info().rss - indexed) / 2**20:.0f} MiB more after the chunks")
    for name in wall:
        milliseconds = (
            f"{1000 * median(wall[name]):.1f} ms, of the processor {1000 * median(cpu[name]):.1f} ms"
        )
        typer.echo(f"{name}: median {milliseconds}, longest {1000 * max(wall[name]):.1f} ms")
