"""What a translation will take, by a short trial of the real thing."""

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

TRIAL_TOKENS = 256
"""Size of the chunk that is tried: some paragraphs, translated, checked and learnt."""


@dataclass(frozen=True)
class Estimate:
    """Of all the paragraphs of a task."""

    paragraphs: int
    source_tokens: int
    target_tokens: int
    """Of a translation that grows as the trial's did."""
    seconds: float
    peak_bytes: int
    """In the trial; a whole chunk may take more."""
    tried: int
    """Paragraphs in the trial."""


def estimate(task: TranslationTask, model: AdaptedModel, backend: Backend, config: Config) -> Estimate:
    """Translate and learn the first chunk, kept small, and take the rest to go on like that."""
    decode = replace(config.decode, chunk_tokens=min(TRIAL_TOKENS, config.decode.chunk_tokens))
    trial, small = replace(task, decode=decode), replace(config, decode=decode)
    state = WritingState.begin(model, small)
    # What is compiled or copied once does not come again with every chunk.
    sampler = sampler_for(config.decode, torch.Generator(model.device), model.banned_tokens)
    for _ in backend.decode(task.format.header, sampler=sampler, max_tokens=2, stop=lambda _: False):
        pass
    began = time.perf_counter()
    with PeakMemory(model.device) as peak:
        for event in write(trial, model, backend, state, small):
            if isinstance(event, ChunkLearnt):
                break
        seconds, most = time.perf_counter() - began, peak.bytes
    form = task.format
    tried = state.records[0]["paragraphs"]
    sources = [len(form.source_tokens(text)) for _, text in task.paragraphs]
    share = sum(sources) / sum(sources[: len(tried)])
    targets = sum(len(form.target_tokens(one["target"])) for one in tried)
    return Estimate(len(sources), sum(sources), round(targets * share), seconds * share, most, len(tried))
