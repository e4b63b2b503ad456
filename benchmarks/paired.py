"""Recipes for generated text, measured in pairs: what does learning do to the predictions for the same text?

    \b
    python -m benchmarks.paired write-books --first 0 --books 8 --out books.jsonl
    python -m benchmarks.paired run books.jsonl --recipe off --recipe default --probe BOOK.txt
    python -m benchmarks.paired table paired.jsonl
    python -m benchmarks.paired write-books --recipe default --first 8 --books 12 --out free.jsonl
    python -m benchmarks.paired repeats free.jsonl

Books that are written freely differ more between seeds than between recipes. So the books are written once,
without learning. Each recipe then learns them chunk by chunk, and before it learns a chunk its predictions
for that chunk are compared with those of the base, which is the recipe `off`. The best recipes then write
books of their own. All files get one line of JSON per book. A command that is started again goes on after the
last line.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean, median, stdev
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.generated_text import config_of
from benchmarks.paired_variants import VARIANTS, PairedVariant, variant_of
from benchmarks.premises import PREMISES
from templora_cli.config import Config, DecodeConfig, with_learning_rates
from templora_cli.documents.text_input import read_text
from templora_cli.engine.decoding.choose import backend_for
from templora_cli.engine.models import catalog, loading
from templora_cli.engine.training.loss import chunk_logits, chunk_nll
from templora_cli.evaluation.drift_measures import LiveMeasures
from templora_cli.events import ChunkLearnt
from templora_cli.gate import MIN_COMPLETION
from templora_cli.learning import learn_chunk
from templora_cli.ngrams import FourGrams, repetition
from templora_cli.novel.prompt import NovelPrompt
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt import fixed_header
from templora_cli.prompt_files import load_prompts
from templora_cli.reading import reading_tokens
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.text import TextStream, decode
from templora_cli.turn import Chunk, Given

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…][\"”’')\]]*\s*$")
MAX_BOOKS_WITH_WORD = 2
"""A word is rare if no more of the books have it."""


@dataclass(frozen=True)
class Book:
    """A book that was written without learning."""

    number: int
    header: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str


@app.command()
def write_books(
    first: Annotated[int, typer.Option(help="Number of the first book; it chooses premise and seed.")] = 0,
    books: int = 8,
    recipe: str = "off",
    tokens: int = 8192,
    chunk_tokens: int = 512,
    context_tokens: int = 512,
    model: str = "smollm2-135m",
    out: Path = Path("books.jsonl"),
) -> None:
    """Write books, by default without learning, and append a line of JSON for each to `out`."""
    variant = variant_or_refuse(recipe)
    written = {(line["recipe"], line["book"]) for line in lines_of(out)}
    for number in range(first, first + books):
        if (recipe, number) in written:
            continue
        config = config_of(variant.settings, number, (chunk_tokens, context_tokens), model)
        loaded = loading.load(catalog.resolve(model, print), config.model, config.train, seed=number)
        config = with_learning_rates(config, loaded.parameters, loaded.model_type)
        variant.prepare(loaded)
        prompts, sections = (load_prompts(name, config.prompts) for name in ("novel", "sections"))
        premise = PREMISES[number % len(PREMISES)]
        prompt = NovelPrompt(loaded.tokenizer, prompts, sections, premise, False, config.decode)
        goal = Goal(tokens, "tokens")
        task = NovelTask(prompt, (), goal, chunk_tokens, loaded.tokenizer, whole_sentences=False)
        backend = backend_for(loaded, config.decode.backend)
        state = WritingState.begin(loaded, config)
        seconds: dict[str, float] = defaultdict(float)
        chunks: list[ChunkLearnt] = []
        began = time.perf_counter()
        for event in write(task, loaded, backend, state, config, recipe=variant.recipe(loaded)):
            now = time.perf_counter()
            seconds[type(event).__name__] += now - began
            began = now
            if isinstance(event, ChunkLearnt):
                chunks.append(event)
        append(
            out,
            {
                "recipe": recipe,
                "book": number,
                "premise": premise,
                "header": list(prompt(()).header),
                "tokens": state.tokens,
                "text": "".join(chunk.text for chunk in chunks),
                "chunks": [
                    {
                        key: value
                        for key, value in asdict(chunk).items()
                        if key not in ("tokens", "text", "prompt")
                    }
                    for chunk in chunks
                ],
                "decoding": seconds["TextDecoded"],
                "learning": seconds["TrainStep"] + seconds["ChunkLearnt"],
            },
        )
        typer.echo(f"{recipe}, book {number}: {len(state.tokens)} tokens")


def variant_or_refuse(recipe: str) -> PairedVariant:
    """The recipe with this name."""
    variant = variant_of(recipe)
    if variant is None:
        raise typer.BadParameter(f"unknown recipe {recipe}; choose from {'; '.join(VARIANTS)}")
    return variant


@app.command()
def run(
    books: Path,
    recipe: Annotated[list[str], typer.Option(help="Recipes to run.")] = ["off", "default"],  # noqa: B006
    first: Annotated[int, typer.Option(help="Number of the first book to use.")] = 0,
    count: Annotated[int, typer.Option(help="How many books to use.")] = 8,
    chunk_tokens: int = 512,
    context_tokens: int = 512,
    model: str = "smollm2-135m",
    probe: Annotated[list[Path], typer.Option(help="Human text that is never learnt.")] = [],  # noqa: B006
    probe_tokens: int = 1024,
    tokens: Annotated[int, typer.Option(help="How much of each book is used.")] = 8192,
    bf16: Annotated[bool, typer.Option(help="Matrix products in bfloat16, for a first look.")] = False,
    out: Path = Path("paired.jsonl"),
) -> None:
    """Learn each book with each recipe, and append a line of JSON for each to `out`."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if bf16 else "ieee"  # type: ignore[attr-defined]
    for name in recipe:
        variant_or_refuse(name)
    available = [book_of(line) for line in lines_of(books) if line["recipe"] == "off"]
    available = [replace(book, tokens=book.tokens[:tokens]) for book in available]
    rare = rare_words(available)
    measured = {(line["recipe"], line["book"], line["tokens"], line["bf16"]) for line in lines_of(out)}
    for name in recipe:
        for book in available:
            if not first <= book.number < first + count:
                continue
            if (name, book.number, len(book.tokens), bf16) in measured:
                continue
            sizes = (chunk_tokens, context_tokens)
            probes = {path.name: (read_text(path), probe_tokens) for path in probe}
            values = measure_book(name, book, rare, sizes, model, probes)
            append(out, {**values, "tokens": len(book.tokens), "bf16": bf16})
            typer.echo(f"{name}, book {book.number}")


def measure_book(
    name: str,
    book: Book,
    rare: Collection[str],
    sizes: tuple[int, int],
    model_name: str,
    probes: Mapping[str, tuple[str, int]],
) -> dict[str, Any]:
    """Learn `book` with recipe `name`. Returns the measures of each chunk, taken before it is learnt."""
    variant = variant_or_refuse(name)
    config = config_of(variant.settings, book.number, sizes, model_name)
    model = loading.load(catalog.resolve(model_name, print), config.model, config.train, seed=0)
    config = with_learning_rates(config, model.parameters, model.model_type)
    variant.prepare(model)
    state = WritingState.begin(model, config)
    backend = backend_for(model, config.decode.backend)
    recipe = variant.recipe(model)
    prompt = fixed_header(book.header, config.decode.context_tokens)
    ends = TokenEnds.of(model.tokenizer, model.module.get_input_embeddings().num_embeddings)
    grams = FourGrams()
    held_out = {path: Probe.of(model, text, limit, config) for path, (text, limit) in probes.items()}
    chunks: list[dict[str, Any]] = []
    for start in range(0, len(book.tokens), sizes[0]):
        turn = Given(prompt(state.tokens), book.tokens[start : start + sizes[0]], "generated")
        completions = grams.completions_of(turn.tokens)
        words = word_positions(model.tokenizer, state.tokens, turn.tokens, sizes[1], rare)
        values = predictions(model, turn, completions, ends, words)
        begin = time.perf_counter()
        before = {name: weight.detach().clone() for name, weight in model.adapter.items()}
        list(learn_chunk(turn, Chunk(turn.tokens, ""), model, backend, state, config, recipe=recipe))
        if variant.after_chunk:
            variant.after_chunk(model, before)
        values["seconds"] = time.perf_counter() - begin
        state.tokens += turn.tokens
        for token in turn.tokens:
            grams.add(token)
        state.chunks += 1
        values["recall"] = recall(model, book.header, state.tokens, config.decode)
        if len(state.tokens) == len(book.tokens):
            values["probes"] = {path: probe.nll(model) for path, probe in held_out.items()}
        chunks.append(values)
    return {"recipe": name, "book": book.number, "chunks": chunks, "config": config.as_dict()}


@torch.no_grad()
def recall(
    model: loading.LanguageModel, header: Sequence[int], book: Sequence[int], config: DecodeConfig
) -> float | None:
    """Mean NLL in nats/token of the passage that `LiveMeasures` recalls; None in a book that is too short."""
    end = len(book) - config.context_tokens - LiveMeasures.RECALL_AFTER
    start = end - config.chunk_tokens
    if start < 0:
        return None
    prompt = [*header, *book[max(0, start - config.context_tokens // 4) : start]]
    return chunk_nll(model.module, prompt, book[start:end]).mean().item()


@torch.no_grad()
def predictions(
    model: loading.LanguageModel,
    turn: Given,
    completions: Sequence[Collection[int]],
    ends: TokenEnds,
    words: Sequence[int],
) -> dict[str, Any]:
    """Mean measures of the predictions for the tokens of a chunk, from one pass over it.

    `completions` has for each token those that would complete a 4-gram of the book, `words` the positions of
    names and rare words that the book has and the window has not.
    """
    model.module.eval()
    logs = chunk_logits(model.module, turn.prompt.tokens, turn.tokens).log_softmax(-1)
    nll = -logs.gather(1, torch.tensor(turn.tokens)[:, None])[:, 0]
    shares = logs.exp()
    completing = [shares[i, list(known)].sum().item() for i, known in enumerate(completions) if known]
    return {
        "nll": nll.mean().item(),
        "entropy": -(shares * logs).sum(-1).mean().item(),
        "completion": math.fsum(completing) / len(turn.tokens),
        "paragraph_end": shares[:, ends.paragraph].sum(-1).mean().item(),
        "sentence_end": shares[:, ends.sentence].sum(-1).mean().item(),
        "words": nll[list(words)].sum().item(),
        "word_tokens": len(words),
    }


@dataclass(frozen=True)
class TokenEnds:
    """Ids of the tokens that end a paragraph (a newline in them) or a sentence."""

    paragraph: Tensor
    sentence: Tensor

    @classmethod
    def of(cls, tokenizer: Any, vocab_size: int) -> TokenEnds:
        """The tokens of a vocabulary."""
        texts = [tokenizer.decode([token]) for token in range(min(vocab_size, len(tokenizer)))]
        paragraph = [token for token, text in enumerate(texts) if "\n" in text]
        sentence = [token for token, text in enumerate(texts) if _SENTENCE_END.search(text)]
        return cls(torch.tensor(paragraph), torch.tensor(sentence))


@dataclass(frozen=True)
class Probe:
    """A human text that is never learnt."""

    header: tuple[int, ...]
    tokens: tuple[int, ...]
    config: Config

    @classmethod
    def of(cls, model: loading.LanguageModel, text: str, limit: int, config: Config) -> Probe:
        """The first `limit` tokens of a text."""
        header, tokens = reading_tokens(model.tokenizer, text)
        return cls(header, tokens[:limit], config)

    def nll(self, model: loading.LanguageModel) -> float:
        """Mean NLL in nats/token."""
        measure = LiveMeasures(model, (), (self.header, self.tokens), self.config.decode)
        value = measure(WritingState.begin(model, self.config))["probe"]
        assert value is not None
        return value


def word_positions(
    tokenizer: Any, book: Sequence[int], chunk: Sequence[int], window: int, rare: Collection[str]
) -> list[int]:
    """Positions in `chunk` of names and rare words of the book that its last `window` tokens do not have."""
    gone = set(_WORD.findall(decode(tokenizer, book[: max(0, len(book) - window)])))
    visible = set(_WORD.findall(decode(tokenizer, book[max(0, len(book) - window) :])))
    to_text = TextStream(lambda tokens: decode(tokenizer, tokens), ()).push
    pieces = [to_text(token) for token in chunk]
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece))
    positions = []
    for match in _WORD.finditer("".join(pieces)):
        word = match.group()
        if word in gone and word not in visible and word.lower() in rare:
            positions += [
                i for i in range(len(chunk)) if starts[i] < match.end() and starts[i + 1] > match.start()
            ]
        visible.add(word)
    return positions


def rare_words(books: Sequence[Book]) -> set[str]:
    """Words, in small letters, that at most `MAX_BOOKS_WITH_WORD` of the books have."""
    having = Counter(word for book in books for word in {w.lower() for w in _WORD.findall(book.text)})
    return {word for word, number in having.items() if number <= MAX_BOOKS_WITH_WORD}


def book_of(line: Mapping[str, Any]) -> Book:
    """The book in a line of `write-books`."""
    return Book(line["book"], tuple(line["header"]), tuple(line["tokens"]), line["text"])


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The values in a file of JSON lines; none if there is no file."""
    return [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []


def append(path: Path, values: Mapping[str, Any]) -> None:
    """Append a line of JSON."""
    with path.open("a") as stream:
        stream.write(json.dumps(values) + "\n")


COLUMNS = {
    "completion": "4-gram completions, times the base's",
    "entropy": "entropy, nats",
    "paragraph_end": "paragraph ends, times",
    "sentence_end": "sentence ends, times",
    "recall": "recall, nats/token",
    "words": "names and rare words, nats/token",
    "probes": "human prose, %",
    "seconds": "learning a chunk, s",
}


@app.command()
def table(
    files: list[Path],
    first: Annotated[int, typer.Option(help="Number of the first book to use.")] = 0,
    count: Annotated[int, typer.Option(help="How many books to use.")] = 1000,
) -> None:
    """Print one row per recipe: its difference from `off`, with a 95 % interval over the books."""
    lines = [line for file in files for line in lines_of(file) if first <= line["book"] < first + count]
    base = {line["book"]: line for line in lines if line["recipe"] == "off"}
    print(f"| recipe | books | {' | '.join(COLUMNS.values())} |")
    print(f"| {' | '.join(['---'] * (len(COLUMNS) + 2))} |")
    for name in dict.fromkeys(line["recipe"] for line in lines if line["recipe"] != "off"):
        rows = [
            differences(line, base[line["book"]])
            for line in lines
            if line["recipe"] == name and line["book"] in base
        ]
        cells = [
            interval([value for row in rows if (value := row[column]) is not None]) for column in COLUMNS
        ]
        print(f"| {name} | {len(rows)} | {' | '.join(cells)} |")


def differences(line: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float | None]:
    """The measures of a book against those of the base on the same book."""
    later = [(a, b) for a, b in zip(line["chunks"], base["chunks"], strict=True)][1:]

    def ratio(key: str) -> float | None:
        whole = math.fsum(b[key] for _, b in later)
        return math.fsum(a[key] for a, _ in later) / whole if whole else None

    recalled = [b["recall"] - a["recall"] for a, b in later if a["recall"] is not None]
    word_tokens = sum(a["word_tokens"] for a, _ in later)
    probed = [(a["probes"], b["probes"]) for a, b in later if "probes" in a][-1:]
    harm = [(math.exp(a[text] - b[text]) - 1) * 100 for a, b in probed for text in a]
    return {
        "completion": ratio("completion"),
        "entropy": fmean(a["entropy"] - b["entropy"] for a, b in later),
        "paragraph_end": ratio("paragraph_end"),
        "sentence_end": ratio("sentence_end"),
        "recall": fmean(recalled) if recalled else None,
        "words": math.fsum(b["words"] - a["words"] for a, b in later) / word_tokens if word_tokens else None,
        "probes": fmean(harm) if harm else None,
        "seconds": fmean(a["seconds"] for a, _ in later),
    }


@app.command()
def limits(files: list[Path]) -> None:
    """Print for each recipe what the gate would see of single chunks: median, 90th percentile and maximum.

    The ratio of 4-gram completions (`gate.completion`), and by how much entropy falls (`gate.entropy`).
    """
    lines = [line for file in files for line in lines_of(file)]
    base = {line["book"]: line["chunks"] for line in lines if line["recipe"] == "off"}
    print("| recipe | chunks | 4-gram completions, times the base's | entropy falls by |")
    print("| --- | --- | --- | --- |")
    for name in dict.fromkeys(line["recipe"] for line in lines if line["recipe"] != "off"):
        pairs = [
            pair
            for line in lines
            if line["recipe"] == name and line["book"] in base
            for pair in zip(line["chunks"][1:], base[line["book"]][1:], strict=True)
        ]
        ratios = sorted(own["completion"] / max(off["completion"], MIN_COMPLETION) for own, off in pairs)
        falls = sorted(1 - own["entropy"] / off["entropy"] for own, off in pairs)
        places = (len(pairs) // 2, int(0.9 * len(pairs)), len(pairs) - 1)
        cells = [", ".join(f"{ratios[i]:.2f}" for i in places), ", ".join(f"{falls[i]:.1%}" for i in places)]
        print(f"| {name} | {len(pairs)} | {' | '.join(cells)} |")


@app.command()
def repeats(files: list[Path]) -> None:
    """Print one row per recipe: how much its freely written books repeat themselves, against `off`."""
    lines = [line for file in files for line in lines_of(file)]
    shares: dict[str, dict[int, float]] = {}
    for line in lines:
        shares.setdefault(line["recipe"], {})[line["book"]] = repetition([], line["tokens"])
    print(
        "| recipe | books | 4-grams repeated in the book | median | times `off` | learning, times decoding |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, books in shares.items():
        same = sorted(books.keys() & shares.get("off", {}).keys())
        base, own = ([by[number] for number in same] for by in (shares.get("off", {}), books))
        times = [line["learning"] / line["decoding"] for line in lines if line["recipe"] == name]
        cells = [name, str(len(books)), interval(list(books.values())), f"{median(books.values()):.3f}"]
        cells += [ratio_interval(own, base), f"{median(times):.2f}"]
        print(f"| {' | '.join(cells)} |")


def ratio_interval(own: Sequence[float], base: Sequence[float], draws: int = 10_000) -> str:
    """The ratio of two means over the same books, with a bootstrap interval of 95 % over the books."""
    if not base or not sum(base):
        return ""
    random = Random(0)
    picks = [random.choices(range(len(base)), k=len(base)) for _ in range(draws)]
    drawn = sorted(sum(own[i] for i in pick) / (sum(base[i] for i in pick) or math.nan) for pick in picks)
    low, high = drawn[int(0.025 * draws)], drawn[int(0.975 * draws)]
    return f"{sum(own) / sum(base):.2f} ({low:.2f} to {high:.2f})"


T_95 = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
"""Student's t for a two-sided interval of 95 %, by degrees of freedom."""


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval of the mean."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = T_95[min(len(values) - 1, len(T_95) - 1)] * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.3f} ± {half:.3f}"


if __name__ == "__main__":
    app()
