"""The cost of reading and writing: peak memory, and seconds per 1000 tokens."""

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

DECODE_TRIAL_TOKENS = 64
"""Number of tokens that are decoded to measure the speed."""


@dataclass(frozen=True)
class Cost:
    """The cost of one model and window on this machine."""

    peak_bytes: int
    """Peak resident memory of the process or, on a GPU, peak of torch's allocations."""
    read_seconds: float
    """Seconds to score and learn 1000 tokens of a given text."""
    write_seconds: float
    """Seconds to write 1000 tokens: prompt, decoding, scoring and learning."""


class PeakMemory:
    """Measures peak memory inside its `with` block; on a CPU by sampling every INTERVAL_SECONDS."""

    INTERVAL_SECONDS = 0.01

    def __init__(self, device: torch.device) -> None:
        self.device, self._peak = device, 0
        self._ended = threading.Event()
        self._sampling = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._sampling.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type != "cuda":
            self._ended.set()
            self._sampling.join()

    @property
    def bytes(self) -> int:
        """The peak so far."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.device) if on_gpu else self._peak

    def _sample(self) -> None:
        process = psutil.Process()
        while True:
            self._peak = max(self._peak, process.memory_info().rss)
            if self._ended.wait(self.INTERVAL_SECONDS):
                return


def decode_trial(
    model: AdaptedModel, backend: Backend, prompt: Sequence[int], config: DecodeConfig
) -> tuple[float, float]:
    """(seconds to the first token after `prompt`, seconds for each further token).

    Random numbers come from a separate generator, so the state of the book does not change.
    """
    sampler = sampler_for(config, torch.Generator(model.device).manual_seed(0), model.banned_tokens)
    if not model.adapter:  # the backend's preparation is then needed once per book, not once per chunk
        list(backend.decode(prompt[:2], sampler=sampler, max_tokens=2, stop=lambda chunk: False))
        backend.reset()
    times = [time.perf_counter()]
    tokens = backend.decode(prompt, sampler=sampler, max_tokens=DECODE_TRIAL_TOKENS, stop=lambda chunk: False)
    for _ in tokens:
        times.append(time.perf_counter())
    return times[1] - times[0], (times[-1] - times[1]) / (len(times) - 2)


def cost_of(
    chunks: Iterable[Mapping[str, Any]], trial: tuple[float, float], peak_bytes: int, chunk_tokens: int
) -> Cost:
    """The cost of a session from its `chunk.json` values, a `decode_trial` result and its peak memory."""
    seconds = tokens = 0.0
    for chunk in chunks:
        seconds += chunk["seconds"].get("score", 0.0) + chunk["seconds"].get("train", 0.0)
        tokens += len(chunk["tokens"])
    read = 1000 * seconds / tokens
    first_token, next_token = trial
    decode = first_token + (chunk_tokens - 1) * next_token
    return Cost(peak_bytes, read, read + 1000 * decode / chunk_tokens)
