"""Measure the cost of a chunk, of commands without a model and of a long book, and repetition in human text.

    \b
    python -m benchmarks chunk [--device cuda] [--model smollm2-135m] [--synthetic 7b] [--book BOOK]
    python -m benchmarks startup [--sessions 1000] [--limit 2.0]
    python -m benchmarks memory [--model smollm2-135m]
    python -m benchmarks plan [--model smollm2-135m]
    python -m benchmarks flat [--model smollm2-135m] [--chunks 42]
    python -m benchmarks translation [--paragraphs 1000]
    python -m benchmarks recall BOOK... [--words 1000000]
    python -m benchmarks facts BOOK... [--count 100] [--seed 0]
    python -m benchmarks decode BOOK [--model smollm2-135m]
    python -m benchmarks repetition BOOK... [--model smollm2-135m]
    python -m benchmarks prose [BOOK...] [--misses]

Prints the measurements; only `startup` has a limit and can fail. POSIX only (peak memory from getrusage).
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.chunk import chunk
from benchmarks.depth import flat, translation
from benchmarks.machine import machine
from benchmarks.memory import memory, plan
from benchmarks.recall import facts, recall
from benchmarks.startup import startup

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)
for command in (chunk, startup, memory, plan, flat, translation, recall, facts):
    app.command()(command)


@app.command()
def decode(
    book: Path, model: str = "smollm2-135m", context_tokens: int = 1024, tokens: int = 256, rounds: int = 3
) -> None:
    """Measure the speed of the int8 and the eager backend, in turns, and the NLL of the book under each."""
    import torch

    from templora_cli.config import ModelConfig, TrainConfig
    from templora_cli.documents.text_input import read_text
    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.engine.models import catalog, loading

    loaded = loading.load(catalog.resolve(model, print), ModelConfig(), TrainConfig(), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # an adapter with an effect: a new one has B = 0
        for name, parameter in loaded.adapter.items():
            if "lora_B" in name:
                parameter.copy_(0.002 * torch.randn(parameter.shape, generator=generator))
    ids = loaded.tokenizer.encode(read_text(book)[:40_000], add_special_tokens=False)
    speeds: dict[str, list[float]] = {}
    nlls: dict[str, list[float]] = {}
    for round_ in range(rounds):
        prompt = ids[round_ * tokens : round_ * tokens + context_tokens]
        continuation = ids[round_ * tokens + context_tokens :][:tokens]
        for name in ("int8", "eager"):
            forced = ForcedSampler(continuation)
            stream = backend_for(loaded, name).decode(
                prompt, sampler=forced, max_tokens=tokens, stop=lambda _: False
            )
            next(stream)  # this one includes the prompt
            start = time.perf_counter()
            for _ in stream:
                pass
            speeds.setdefault(name, []).append((tokens - 1) / (time.perf_counter() - start))
            nlls.setdefault(name, []).extend(forced.nlls)
    print(f"# {machine()}, {model}, {torch.get_num_threads()} threads, context {context_tokens}")
    ratio = median(fast / slow for fast, slow in zip(speeds["int8"], speeds["eager"], strict=True))
    for name, values in speeds.items():
        print(
            f"{name:6} {median(values):5.1f} tokens/s, NLL {sum(nlls[name]) / len(nlls[name]):.4f} nats/token"
        )
    differences = [a - b for a, b in zip(nlls["int8"], nlls["eager"], strict=True)]
    mean = sum(differences) / len(differences)
    error = (sum((d - mean) ** 2 for d in differences) / len(differences) ** 2) ** 0.5
    print(f"int8 against eager: {ratio:.2f} times the speed, NLL {mean:+.4f} (standard error {error:.4f})")


class ForcedSampler:
    """A sampler that returns the tokens of a text, and records their NLLs."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = iter(tokens)
        self.nlls: list[float] = []

    def draw(self, ids: Any, logits: Any) -> int:
        """See `Sampler.draw`."""
        token = next(self.tokens)
        self.nlls.append(-logits.log_softmax(-1)[token].item())
        return token


@app.command()
def repetition(books: list[Path], model: str = "smollm2-135m") -> None:
    """Measure the share of repeated 4-grams in chunks of human text; the gate must let these chunks pass."""
    from transformers import AutoTokenizer

    from templora_cli.documents.text_input import read_text
    from templora_cli.engine.models import catalog
    from templora_cli.ngrams import repetition

    tokenizer = AutoTokenizer.from_pretrained(catalog.resolve(model, print))
    print(f"# {model}\nbook\tchunk\tchunks\tmedian\t99 %\tmax")
    for book in books:
        ids = tokenizer.encode(read_text(book), add_special_tokens=False)
        for size in (256, 512, 1024, 2048):
            chunks = [ids[start : start + size] for start in range(0, len(ids) - size, size)]
            shares = sorted((repetition([], chunk), index) for index, chunk in enumerate(chunks))
            max_share, index = shares[-1]
            figures = f"{median(share for share, _ in shares):.3f}\t{shares[int(len(shares) * 0.99)][0]:.3f}"
            print(f"{book.name}\t{size}\t{len(chunks)}\t{figures}\t{max_share:.3f}")
            print(f"  max: {tokenizer.decode(chunks[index])[:100]!r}")


@app.command()
def prose(books: Annotated[list[Path] | None, typer.Argument()] = None, misses: bool = False) -> None:
    """Measure the checks of prose: alarms in human books (.txt, GuoFeng's JSON), and faults found."""
    from benchmarks.prose_faults.measure import print_alarms, print_rates

    if books:
        print_alarms(books)
    print_rates(misses)


if __name__ == "__main__":
    app()
