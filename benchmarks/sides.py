"""What runs in the processes of `benchmarks.chunk`: a side that makes chunks, and what the machine could do.

Nothing heavy is imported here: what templora sets before torch is loaded must not reach the reference.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.machine import machine, peak_resident
from benchmarks.subject import Cost, Device, Subject, Synthetic

if TYPE_CHECKING:
    from benchmarks.bounds import Sizes

SIDES = {
    "reference": "the paper's code: merge, generate, unmerge, two passes over the whole sequence",
    "live": "the same, with the adapter live while it writes",
    "default": "templora's recipe for own text, as write runs it",
    "eager": "the same, decoded by the model itself",
    "paper": "templora with --recipe paper",
    "human": "templora's recipe for given text, which is read and learnt",
}


class Side(Protocol):
    """What makes chunks: `reference.Reference` or `loop.Loop`."""

    form: Any
    """Of the weights that decoding reads: a `bounds.Form`."""
    module: Any

    def chunk(self, prompt: list[int], given: list[int], clock: Callable[[], float]) -> dict[str, float]:
        """Make a chunk after `prompt`, as long as `human` or `human` itself; seconds of each phase."""

    def train_work(self, prompt: list[int], given: list[int]) -> tuple[int, int]:
        """Passes over such a chunk, and the floating-point operations that they need together."""


_sides: dict[str, Side] = {}
"""Those that this process has loaded, by name."""


def begin(name: str, subject: Subject) -> None:
    """Load the model as side `name` does."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advises to install kernels
    if name in ("reference", "live"):
        from benchmarks import reference

        _sides[name] = reference.load(subject, merge=name == "reference")
    else:
        from benchmarks import loop

        recipe = "paper" if name == "paper" else "default"
        backend = "eager" if name == "eager" else "auto"
        _sides[name] = loop.load(subject, recipe, "human" if name == "human" else "generated", backend)


def one_chunk(name: str, prompt: list[int], given: list[int]) -> Cost:
    """Let side `name`, which has begun, make a chunk after `prompt`, as long as `human`."""
    import torch

    from benchmarks.bounds import Work, cache_bytes, clock_on, weight_bytes

    side, module = _sides[name], _sides[name].module
    seconds = side.chunk(prompt, given, clock_on(module.device))
    passes, flops = side.train_work(prompt, given)
    cached = cache_bytes(Work.of(module), len(prompt), len(given), module.dtype.itemsize)
    on_gpu = module.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()  # the sides share the card
    return Cost(
        seconds,
        decoded_tokens=len(given) if seconds["decode"] else 0,
        read_bytes=weight_bytes(module, side.form) + cached,
        passes=passes,
        train_flops=flops,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else peak_resident(),
    )


def rates(device: Device, sizes: Sizes | None = None) -> dict[str, Any]:
    """What the machine is, and what it could do: bytes and floating-point operations a second.

    `sizes` are those of the trials; by default those of `bounds.SIZES`.
    """
    import torch

    from benchmarks.bounds import SIZES, product_rate, read_bandwidth

    on_gpu = device == "cuda"
    place, sizes = torch.device(device), sizes or SIZES[device]
    return {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "read_bandwidth": read_bandwidth(place, sizes.read_bytes),
        "product_rate": product_rate(place, torch.bfloat16 if on_gpu else torch.float32, sizes.rows),
    }


def find_model(name: str) -> Path:
    """The folder of a model, as templora's `--model` finds it. Raises TemploraError."""
    from templora_cli.engine.models import catalog

    return catalog.resolve(name, lambda text: print(text, file=sys.stderr))


def token_ids(folder: Path | None, synthetic: Synthetic | None, book: Path | None, count: int) -> list[int]:
    """The first `count` tokens of a text, fewer where it is shorter; random ones without a text."""
    if book is not None:
        from transformers import AutoTokenizer

        from templora_cli.documents.utf8_text import read_text

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return list(tokenizer.encode(read_text(book), add_special_tokens=False))[:count]
    if synthetic is not None:
        from benchmarks.synthetic import CONFIGS

        config: Any = CONFIGS[synthetic]
    else:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return random.Random(0).choices(range(config.get_text_config().vocab_size), k=count)
