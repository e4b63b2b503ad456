"""What a way of reading and writing costs: peak memory, and seconds for a thousand tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil
import torch

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel

TRIAL_TOKENS = 64
"""Tokens that are decoded to learn how long one takes."""


@dataclass(frozen=True)
class Cost:
    """Of one way, on this machine."""

    peak_bytes: int
    """Of the process (its resident memory) or, on a GPU, of torch's allocations there."""
    read_seconds: float
    """To score and to learn 1000 tokens that are there."""
    write_seconds: float
    """To write 1000 tokens: prompt, decoding, scoring and learning."""


class PeakMemory:
    """The most memory in use inside its `with` block; on a CPU looked at every few milliseconds."""

    INTERVAL_SECONDS = 0.01

    def __init__(self, device: torch.device) -> None:
        self.device, self._seen = device, 0
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type != "cuda":
            self._ended.set()
            self._watching.join()

    @property
    def bytes(self) -> int:
        """The peak so far."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.device) if on_gpu else self._seen

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self._seen = max(self._seen, process.memory_info().rss)
            if self._ended.wait(self.INTERVAL_SECONDS):
                return


def decode_trial(
    model: AdaptedModel, backend: Backend, prompt: Sequence[int], config: DecodeConfig
) -> tuple[float, float]:
    """Seconds to the first token after `prompt`, and for each token after it; the state draws nothing."""
    sampler = sampler_for(config, torch.Generator(model.device).manual_seed(0), model.banned_tokens)
    if not model.adapter:  # what a backend prepares is then prepared once a book, not once a chunk
        list(backend.decode(prompt[:2], sampler=sampler, max_tokens=2, stop=lambda chunk: False))
        backend.chunk_begins()
    times = [time.perf_counter()]
    for _ in backend.decode(prompt, sampler=sampler, max_tokens=TRIAL_TOKENS, stop=lambda chunk: False):
        times.append(time.perf_counter())
    return times[1] - times[0], (times[-1] - times[1]) / (len(times) - 2)


def cost_of(
    chunks: Iterable[Mapping[str, Any]], trial: tuple[float, float], peak_bytes: int, chunk_tokens: int
) -> Cost:
    """From a session's `chunk.json` values, what `decode_trial` returned, and the peak of its run."""
    seconds = tokens = 0.0
    for chunk in chunks:
        seconds += chunk["seconds"].get("score", 0.0) + chunk["seconds"].get("train", 0.0)
        tokens += len(chunk["tokens"])
    read = 1000 * seconds / tokens
    first, each = trial
    decode = first + (chunk_tokens - 1) * each
    return Cost(peak_bytes, read, read + 1000 * decode / chunk_tokens)
