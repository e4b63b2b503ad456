"""The tasks of the processes of `benchmarks.chunk`: to make the chunks of a side, and to measure the machine.

Nothing heavy is imported at the top: the settings that templora makes before torch is loaded must not reach
the reference.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.machine import machine, peak_resident
from benchmarks.subject import ChunkCost, Device, Subject, Synthetic

if TYPE_CHECKING:
    from benchmarks.bounds import Sizes

SIDES = {
    "reference": "the paper's code: merge, generate, unmerge, two passes over the whole sequence",
    "live": "the reference without merging: it decodes with base and adapter",
    "default": "templora write with its default settings",
    "eager": "the default, with the eager backend",
    "paper": "templora write with --recipe paper",
    "human": "templora reads and learns human text",
}


class Side(Protocol):
    """Makes chunks: `reference.Reference` or `loop.TemploraSide`."""

    form: Any
    """The weights that decoding reads, a `bounds.Form`."""
    module: Any

    def chunk(self, prompt: list[int], text: list[int], clock: Callable[[], float]) -> dict[str, float]:
        """Write `len(text)` tokens after `prompt`, or read `text`. Returns the seconds of each phase."""

    def train_work(self, prompt: list[int], text: list[int]) -> tuple[int, int]:
        """The passes over such a chunk, and the floating-point operations of all of them."""


_sides: dict[str, Side] = {}
"""The sides that this process has loaded, by name."""


def begin(name: str, subject: Subject) -> None:
    """Load side `name` with its model."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # its advice to install kernels
    if name in ("reference", "live"):
        from benchmarks import reference

        _sides[name] = reference.load(subject, merge=name == "reference")
    else:
        from benchmarks import loop

        recipe = "paper" if name == "paper" else "default"
        backend = "eager" if name == "eager" else "auto"
        _sides[name] = loop.load(subject, recipe, "human" if name == "human" else "generated", backend)


def one_chunk(name: str, prompt: list[int], text: list[int]) -> ChunkCost:
    """Make a chunk with side `name`, which is loaded; see `Side.chunk`."""
    import torch

    from benchmarks.bounds import Work, cache_bytes, clock_on, weight_bytes

    side, module = _sides[name], _sides[name].module
    seconds = side.chunk(prompt, text, clock_on(module.device))
    passes, flops = side.train_work(prompt, text)
    cached = cache_bytes(Work.of(module), len(prompt), len(text), module.dtype.itemsize)
    on_gpu = module.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()  # the sides share the GPU
    return ChunkCost(
        seconds,
        decoded_tokens=len(text) if seconds["decode"] else 0,
        read_bytes=weight_bytes(module, side.form) + cached,
        passes=passes,
        train_flops=flops,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else peak_resident(),
    )


def rates(device: Device, sizes: Sizes | None = None) -> dict[str, Any]:
    """Describe the machine and measure its bounds, in bytes and floating-point operations a second.

    `sizes` are the sizes of the trials, by default those of `bounds.SIZES`.
    """
    import torch

    from benchmarks.bounds import SIZES, product_rate, read_bandwidth

    on_gpu = device == "cuda"
    torch_device, sizes = torch.device(device), sizes or SIZES[device]
    return {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "read_bandwidth": read_bandwidth(torch_device, sizes.read_bytes),
        "product_rate": product_rate(torch_device, torch.bfloat16 if on_gpu else torch.float32, sizes.rows),
    }


def find_model(name: str) -> Path:
    """The folder of a model, by a name as for `--model` of templora. Raises TemploraError."""
    from templora_cli.engine.models import catalog

    return catalog.resolve(name, lambda text: print(text, file=sys.stderr))


def token_ids(folder: Path | None, synthetic: Synthetic | None, book: Path | None, count: int) -> list[int]:
    """The first `count` tokens of a book, or fewer if it is shorter; random tokens without a book."""
    if book is not None:
        from transformers import AutoTokenizer

        from templora_cli.documents.text_input import read_text

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return list(tokenizer.encode(read_text(book), add_special_tokens=False))[:count]
    if synthetic is not None:
        from benchmarks.synthetic import CONFIGS

        config: Any = CONFIGS[synthetic]
    else:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return random.Random(0).choices(range(config.get_text_config().vocab_size), k=count)
