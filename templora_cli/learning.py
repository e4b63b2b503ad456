"""What is learnt of a chunk, and how: passes over (context -> chunk), loss on the chunk only (paper, section
3.2), by the recipe of whoever wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from templora_cli.config import Config, LearningConfig, TrainConfig
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.objective import Loss, Objective, Window
from templora_cli.engine.training.objectives import OBJECTIVES
from templora_cli.events import Event, Notice, Origin, TrainStep
from templora_cli.prompt import window
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Turn


def windows(turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig) -> list[Window]:
    """The chunk in windows of `window_tokens`, each after what stands before it; whole where that is 0."""
    size = learning.window_tokens or len(chunk.tokens)
    seen = window(book, learning.teacher_context_tokens)
    made = []
    for start in range(0, len(chunk.tokens), size):
        tokens, mask = chunk.tokens[start : start + size], chunk.loss_mask[start : start + size]
        before = chunk.tokens[:start]
        if not chunk.loss_mask or any(mask):
            context = window(turn.prompt.context + before, learning.context_tokens)
            made.append(Window(turn.prompt.header, context, seen + before, tokens, mask))
    return made


def learning_rate(chunk: int, learning: LearningConfig, train: TrainConfig) -> float:
    """The rate for chunk number `chunk` (from 0): constant after a linear warm-up that starts above 0."""
    assert learning.lr > 0, "the rate was not chosen (config.for_size)"
    return learning.lr * min(1.0, (chunk + 1) / max(1, train.warmup_chunks))


@dataclass(frozen=True)
class Recipe:
    """The parts of learning that an experiment may replace."""

    objectives: Mapping[str, Objective] = field(default_factory=lambda: OBJECTIVES)
    windows: Callable[[Turn, Chunk, Sequence[int], LearningConfig], list[Window]] = windows
    rate: Callable[[int, LearningConfig, TrainConfig], float] = learning_rate


RECIPE = Recipe()


def learning_config(origin: Origin, config: Config) -> LearningConfig:
    """Own text is not given text: samples of the model's own bring nothing new, and are learnt otherwise."""
    return config.human if origin == "human" else config.generated


def training_examples(
    turn: Turn, chunk: Chunk, config: Config, rejection_reason: str | None
) -> list[tuple[Chunk, LearningConfig]]:
    """What is learnt of a chunk, and how. Of one with a `rejection_reason` only what a person wrote in it."""
    if not chunk.parts:
        return [] if rejection_reason else [(chunk, learning_config(turn.origin, config))]
    chosen = []
    for part in chunk.parts:
        learning = learning_config(part.origin, config)
        if any(part.loss_mask) and not (rejection_reason and part.origin == "generated"):
            again = replace(learning, epochs=learning.epochs * part.passes)
            chosen.append((replace(chunk, loss_mask=part.loss_mask), again))
    return chosen


def learn_chunk(
    turn: Turn,
    chunk: Chunk,
    model: AdaptedModel,
    state: WritingState,
    config: Config,
    *,
    rejection_reason: str | None = None,
    recipe: Recipe = RECIPE,
) -> Generator[Event, None, list[float]]:
    """Learn what is to be learnt of the chunk, which is not yet in `state`; returns the loss of each pass."""
    losses: list[float] = []
    for training_example, learning in (
        training_examples(turn, chunk, config, rejection_reason) if state.optimizer is not None else ()
    ):
        rate = recipe.rate(state.chunks, learning, config.train)
        objective = recipe.objectives[learning.objective]
        steps = [
            loss
            for one in recipe.windows(turn, training_example, state.tokens, learning)
            if (loss := objective.loss(one, model, learning)) is not None
        ]
        losses += yield from _passes(steps, learning.epochs, rate, model, state)
    return losses


def _passes(
    steps: Sequence[Loss], epochs: int, rate: float, model: AdaptedModel, state: WritingState
) -> Generator[Event, None, list[float]]:
    """Passes over all `steps`; returns the mean loss of each."""
    losses: list[float] = []
    assert state.optimizer is not None
    state.optimizer.param_groups[0]["lr"] = rate
    for epoch in range(1, epochs + 1 if steps else 1):
        found = [train_step(loss, model, state) for loss in steps]
        if not all(map(math.isfinite, found)):
            left_out = f"pass {epoch} of {epochs}" + (" and those after it" if epoch < epochs else "")
            yield Notice(f"chunk {state.chunks + 1}: {left_out} left out, the gradients are not finite")
            break
        losses.append(math.fsum(found) / len(found))
        yield TrainStep(state.chunks, epoch, epochs, losses[-1], rate)
    return losses


def train_step(loss_of_window: Loss, model: AdaptedModel, state: WritingState) -> float:
    """One step of the optimizer; returns the loss before it, or NaN where it or a gradient is not finite."""
    assert state.optimizer is not None
    model.module.train()
    with _dropout_random(state, model.device):
        loss = loss_of_window()
        loss.backward()  # type: ignore[no-untyped-call]
    model.module.eval()
    finite = math.isfinite(loss.item()) and _finite_gradients(state)
    if finite:  # one step that is not would turn the whole adapter into NaN
        state.optimizer.step()
    state.optimizer.zero_grad()
    return loss.item() if finite else math.nan


@contextmanager
def _dropout_random(state: WritingState, device: torch.device) -> Iterator[None]:
    """Let dropout draw from the state's own stream, and leave the process's generators untouched."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        if on_cuda:
            torch.cuda.set_rng_state(state.dropout, device)
        else:
            torch.set_rng_state(state.dropout)
        yield
        state.dropout = torch.cuda.get_rng_state(device) if on_cuda else torch.get_rng_state()


def _finite_gradients(state: WritingState) -> bool:
    gradients = [p.grad for p in state.adapter.values() if p.grad is not None]
    return bool(torch.nn.utils.get_total_norm(gradients).isfinite())
