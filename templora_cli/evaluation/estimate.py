"""Estimates of the time and memory of a translation, from a short trial."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.evaluation.cost import PeakMemory
from templora_cli.events import ChunkLearnt
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.translation.task import TranslationTask

TRIAL_CHUNK_TOKENS = 256
"""Maximum size of the trial's chunk: a few paragraphs that are translated, checked and learnt."""


@dataclass(frozen=True)
class Estimate:
    """The size, time and memory of a translation."""

    paragraphs: int
    source_tokens: int
    target_tokens: int
    """Extrapolated from the ratio of target to source tokens in the trial."""
    seconds: float
    peak_bytes: int
    """Peak in the trial; a full chunk may take more."""
    trial_paragraphs: int
    """Number of paragraphs in the trial."""


def estimate(task: TranslationTask, model: AdaptedModel, backend: Backend, config: Config) -> Estimate:
    """Translate and learn a small first chunk, and extrapolate to all paragraphs of `task`."""
    decode = replace(config.decode, chunk_tokens=min(TRIAL_CHUNK_TOKENS, config.decode.chunk_tokens))
    trial_task, trial_config = replace(task, decode=decode), replace(config, decode=decode)
    state = WritingState.begin(model, trial_config)
    # Warm up, so that one-time compilation and copies are not measured.
    sampler = sampler_for(config.decode, torch.Generator(model.device), model.banned_tokens)
    for _ in backend.decode(task.format.header, sampler=sampler, max_tokens=2, stop=lambda _: False):
        pass
    start = time.perf_counter()
    with PeakMemory(model.device) as peak:
        for event in write(trial_task, model, backend, state, trial_config):
            if isinstance(event, ChunkLearnt):
                break
        seconds, peak_bytes = time.perf_counter() - start, peak.bytes
    trial = state.records[0]["paragraphs"]
    source_tokens = [len(task.format.source_tokens(text)) for _, text in task.paragraphs]
    factor = sum(source_tokens) / sum(source_tokens[: len(trial)])
    target_tokens = sum(len(task.format.target_tokens(record["target"])) for record in trial)
    return Estimate(
        paragraphs=len(source_tokens),
        source_tokens=sum(source_tokens),
        target_tokens=round(target_tokens * factor),
        seconds=seconds * factor,
        peak_bytes=peak_bytes,
        trial_paragraphs=len(trial),
    )
