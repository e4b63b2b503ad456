"""What a chunk costs, alone and beside the paper's code, what commands cost that load no model, whether a
long book stays as cheap as a short one, and how much people repeat themselves.

    python -m benchmarks chunk [--device cuda] [--model smollm2-135m] [--synthetic 7b] [--book BOOK]
    python -m benchmarks startup [--sessions 1000] [--limit 2.0]
    python -m benchmarks memory [--model smollm2-135m]
    python -m benchmarks plan [--model smollm2-135m]
    python -m benchmarks flat [--model smollm2-135m] [--chunks 42]
    python -m benchmarks translation [--paragraphs 1000]
    python -m benchmarks decode BOOK [--model smollm2-135m]
    python -m benchmarks repetition BOOK... [--model smollm2-135m]

Prints what it measured; only `startup` judges. POSIX only (peak memory from getrusage).
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import typer

from benchmarks.chunk import chunk
from benchmarks.depth import flat, translation
from benchmarks.machine import machine
from benchmarks.memory import memory, plan
from benchmarks.startup import startup

app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)
for command in (chunk, startup, memory, plan, flat, translation):
    app.command()(command)


@app.command()
def decode(
    book: Path, model: str = "smollm2-135m", context_tokens: int = 1024, tokens: int = 256, rounds: int = 3
) -> None:
    """Tokens a second of the int8 and the eager backend, in turns, and how likely the book is to each."""
    import torch

    from templora_cli.config import ModelConfig, TrainConfig
    from templora_cli.documents.text_input import read_text
    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.engine.models import catalog, loading

    loaded = loading.load(catalog.resolve(model, print), ModelConfig(), TrainConfig(), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # an adapter that has learnt: as it begins, B is zero
        for name, parameter in loaded.adapter.items():
            if "lora_B" in name:
                parameter.copy_(0.002 * torch.randn(parameter.shape, generator=generator))
    ids = loaded.tokenizer.encode(read_text(book)[:40_000], add_special_tokens=False)
    paces: dict[str, list[float]] = {}
    nlls: dict[str, list[float]] = {}
    for round_ in range(rounds):
        prompt = ids[round_ * tokens : round_ * tokens + context_tokens]
        said = ids[round_ * tokens + context_tokens :][:tokens]
        for name in ("int8", "eager"):
            forced = Forced(said)
            stream = backend_for(loaded, name).decode(
                prompt, sampler=forced, max_tokens=tokens, stop=lambda _: False
            )
            next(stream)  # the prompt
            began = time.perf_counter()
            for _ in stream:
                pass
            paces.setdefault(name, []).append((tokens - 1) / (time.perf_counter() - began))
            nlls.setdefault(name, []).extend(forced.nlls)
    print(f"# {machine()}, {model}, {torch.get_num_threads()} threads, context {context_tokens}")
    ratio = median(fast / slow for fast, slow in zip(paces["int8"], paces["eager"], strict=True))
    for name, values in paces.items():
        print(
            f"{name:6} {median(values):5.1f} tokens/s, NLL {sum(nlls[name]) / len(nlls[name]):.4f} nats/token"
        )
    differences = [a - b for a, b in zip(nlls["int8"], nlls["eager"], strict=True)]
    mean = sum(differences) / len(differences)
    error = (sum((d - mean) ** 2 for d in differences) / len(differences) ** 2) ** 0.5
    print(f"int8 over eager: {ratio:.2f} times the tokens, NLL {mean:+.4f} (standard error {error:.4f})")


class Forced:
    """A sampler that says what it is told to, and keeps how likely that was."""

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
    """Share of 4-grams that a chunk of a person's text repeats from itself; the gate must let these pass."""
    from transformers import AutoTokenizer

    from templora_cli.documents.text_input import read_text
    from templora_cli.engine.models import catalog
    from templora_cli.gate import repetition

    tokenizer = AutoTokenizer.from_pretrained(catalog.resolve(model, print))
    print(f"# {model}\nbook\tchunk\tchunks\tmedian\t99 %\tmost")
    for book in books:
        ids = tokenizer.encode(read_text(book), add_special_tokens=False)
        for size in (256, 512, 1024, 2048):
            chunks = [ids[start : start + size] for start in range(0, len(ids) - size, size)]
            shares = sorted((repetition([], chunk), place) for place, chunk in enumerate(chunks))
            most, place = shares[-1]
            figures = f"{median(share for share, _ in shares):.3f}\t{shares[int(len(shares) * 0.99)][0]:.3f}"
            print(f"{book.name}\t{size}\t{len(chunks)}\t{figures}\t{most:.3f}")
            print(f"  the most: {tokenizer.decode(chunks[place])[:100]!r}")


if __name__ == "__main__":
    app()
