"""Learning a chunk: passes over (context -> chunk) with the loss on the chunk only (paper, section 3.2).

Human and generated text have settings of their own (`[human]`, `[generated]`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from templora_cli.config import Config, DecodeConfig, LearningConfig, TrainConfig
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.objective import Loss, Objective, Window
from templora_cli.engine.training.objectives import OBJECTIVES
from templora_cli.engine.training.replay import SAMPLE_TOKENS, Samples
from templora_cli.events import Event, Notice, Origin, TrainStep, Working
from templora_cli.prompt import window
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Compose, Given, Turn

UNCHANGED = DecodeConfig(temperature=1.0, top_p=1.0, repetition_penalty=1.0)
"""Sampling from the distribution of the model itself."""


def windows(
    turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig, extra_context_tokens: int = 0
) -> list[Window]:
    """Split the chunk into windows of `window_tokens`, each with its context; 0 makes one window.

    `book` is the text before the chunk. A window also gets `extra_context_tokens` of it, for objectives whose
    teacher sees more of the book than the student.
    """
    size = learning.window_tokens or len(chunk.tokens)
    longer = window(book, extra_context_tokens)
    examples = []
    for start in range(0, len(chunk.tokens), size):
        tokens, mask = chunk.tokens[start : start + size], chunk.loss_mask[start : start + size]
        before = chunk.tokens[:start]
        if not chunk.loss_mask or any(mask):
            context = window(turn.prompt.context + before, learning.context_tokens)
            examples.append(Window(turn.prompt.training_header, context, longer + before, tokens, mask))
    return examples


def learning_rate(chunk: int, learning: LearningConfig, train: TrainConfig) -> float:
    """The learning rate for the chunk after `chunk` learnt ones: constant after a linear warm-up."""
    assert learning.lr > 0, "the rate is not resolved (config.with_learning_rates)"
    return learning.lr * min(1.0, (chunk + 1) / max(1, train.warmup_chunks))


@dataclass(frozen=True)
class Recipe:
    """The parts of learning that an experiment may replace (`benchmarks/generated_text.py` has examples)."""

    objectives: Mapping[str, Objective] = field(default_factory=lambda: OBJECTIVES)
    windows: Callable[[Turn, Chunk, Sequence[int], LearningConfig, int], list[Window]] = windows
    rate: Callable[[int, LearningConfig, TrainConfig], float] = learning_rate


RECIPE = Recipe()


def learning_config(origin: Origin, config: Config) -> LearningConfig:
    """The settings for text of this origin."""
    if origin == "accepted":
        return replace(config.generated, lr=config.generated.accepted_lr or config.generated.lr)
    return config.human if origin == "human" else config.generated


def training_examples(
    turn: Turn, chunk: Chunk, config: Config, rejection_reason: str | None
) -> list[tuple[Chunk, LearningConfig]]:
    """The parts of a chunk to learn, with their settings. Of a rejected chunk only human parts are learnt."""
    if isinstance(turn, Given) and not turn.learnt:
        return []
    if not isinstance(turn, Compose) and turn.proposed:
        return []
    if not chunk.parts:
        return [] if rejection_reason else [(chunk, learning_config(turn.origin, config))]
    chosen = []
    for part in chunk.parts:
        learning = learning_config(part.origin, config)
        if any(part.loss_mask) and not (rejection_reason and part.origin != "human"):
            again = replace(learning, epochs=learning.epochs * part.passes)
            chosen.append((replace(chunk, loss_mask=part.loss_mask), again))
    return chosen


def learn_chunk(
    turn: Turn,
    chunk: Chunk,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    *,
    rejection_reason: str | None = None,
    recipe: Recipe = RECIPE,
) -> Generator[Event, None, list[TrainStep]]:
    """Learn a chunk that is not yet in `state`. Returns the passes; none if the adapter did not change.

    `backend` draws the samples for replay, once per book.
    """
    passes: list[TrainStep] = []
    if state.optimizer is None:
        return passes
    for example, learning in training_examples(turn, chunk, config, rejection_reason):
        rate = recipe.rate(state.primed_chunks + state.chunks, learning, config.train)
        objective = recipe.objectives[learning.objective]
        extra = objective.extra_context_tokens(learning)
        chunk_windows = recipe.windows(turn, example, state.tokens, learning, extra)
        losses = [objective.loss(each, model, learning) for each in chunk_windows]
        steps: list[tuple[Loss, ...]] = [(loss,) for loss in losses if loss is not None]
        if steps and learning.replay_samples:
            header, longest = turn.prompt.training_header, max(len(each.tokens) for each in chunk_windows)
            samples = yield from _samples(header, longest, model, backend, state, learning)
            first = state.chunks * len(steps)  # the next chunk goes on with the next samples
            steps = [(*step, samples.divergence(first + i, model)) for i, step in enumerate(steps)]
        taken = yield from _take_passes(steps, learning.epochs, rate, model, state)
        if taken and not learning.replay_samples and state.samples:
            state.samples = state.samples.unpredicted()
        passes += taken
    return passes


def _samples(
    header: tuple[int, ...],
    longest: int,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    learning: LearningConfig,
) -> Generator[Event, None, Samples]:
    """The samples in `state`, with predictions; both are made if they are missing.

    A sample has at most `longest` tokens, those of a training window.
    """
    if state.samples is None:
        yield Working("sampling the model, to keep how it writes")
        generator = torch.Generator(model.device).manual_seed(state.seed_of("samples"))
        sampler = sampler_for(UNCHANGED, generator, model.banned_tokens)
        length = min(SAMPLE_TOKENS, longest)
        drawn = []
        for _ in range(learning.replay_samples):
            tokens = backend.decode(header, sampler=sampler, max_tokens=length, stop=lambda tokens: False)
            drawn.append([token.id for token in tokens])
        backend.free_cache()
        state.samples = Samples(header, torch.tensor(drawn))
    if state.samples.ids is None:
        state.samples = state.samples.predicted(model)
    return state.samples


def _take_passes(
    steps: Sequence[Sequence[Loss]], epochs: int, rate: float, model: AdaptedModel, state: WritingState
) -> Generator[Event, None, list[TrainStep]]:
    """Take `epochs` passes over the steps, up to the first in which a step is skipped.

    Returns the passes that took at least one step.
    """
    passes: list[TrainStep] = []
    assert state.optimizer is not None
    state.optimizer.param_groups[0]["lr"] = rate
    for epoch in range(1, epochs + 1 if steps else 1):
        step_losses = [train_step(losses, model, state) for losses in steps]
        finite = [loss for loss in step_losses if math.isfinite(loss)]
        if finite:
            mean = math.fsum(finite) / len(finite)
            passes.append(TrainStep(state.chunks, epoch, epochs, mean, rate))
            yield passes[-1]
        if skipped := len(steps) - len(finite):
            which = f"{skipped} of {len(steps)} steps of pass {epoch}"
            which += " and all later passes" if epoch < epochs else ""
            yield Notice(f"chunk {state.chunks + 1}: {which} skipped because of NaN or infinite gradients")
            break
    return passes


def train_step(losses: Sequence[Loss], model: AdaptedModel, state: WritingState) -> float:
    """One optimizer step on the sum of `losses`. Returns the first, that of the chunk, before the step.

    Each is differentiated before the next is computed, so that memory holds one of them. NaN if a loss or a
    gradient is not finite: then the step is skipped.
    """
    assert state.optimizer is not None
    model.module.train()
    values = []
    with _dropout_random(state, model.device):
        for loss_of in losses:
            loss = loss_of()
            loss.backward()  # type: ignore[no-untyped-call]
            values.append(loss.item())
    model.module.eval()
    finite = all(map(math.isfinite, values)) and _finite_gradients(state)
    if finite:  # one bad step would turn the whole adapter into NaN
        state.optimizer.step()
    state.optimizer.zero_grad()
    return values[0] if finite else math.nan


@contextmanager
def _dropout_random(state: WritingState, device: torch.device) -> Iterator[None]:
    """Draw dropout masks from the random stream in `state`; leave the generators of the process untouched."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        if on_cuda:
            torch.cuda.set_rng_state(state.dropout_rng_state, device)
        else:
            torch.set_rng_state(state.dropout_rng_state)
        yield
        state.dropout_rng_state = torch.cuda.get_rng_state(device) if on_cuda else torch.get_rng_state()


def _finite_gradients(state: WritingState) -> bool:
    gradients = [p.grad for p in state.adapter.values() if p.grad is not None]
    return bool(torch.nn.utils.get_total_norm(gradients).isfinite())
