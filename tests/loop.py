"""A loop over the tiny model with prescribed text, for tests of the algorithm and of its users."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from templora_cli.config import Config, DecodeConfig, GateConfig, LearningConfig, TrainConfig
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.models import loading
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.events import ChunkLearnt, Event, TextDecoded
from templora_cli.learning import RECIPE, Recipe
from templora_cli.novel.prompt import opening_tokens
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt import fixed_header
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.turn import Task, Turn

WHOLE = LearningConfig(lr=1e-2, epochs=2, context_tokens=2048, window_tokens=0)
"""Whole chunks after the whole context, in two passes, as in the paper."""
CONFIG = Config(
    decode=DecodeConfig(chunk_tokens=12, context_tokens=20),
    train=TrainConfig(rank=4, alpha=4, warmup_chunks=2, dropout=0.1),
    human=WHOLE,
    generated=WHOLE,
    gate=GateConfig(prose=False, max_attempts=2, stop=False),
    seed=3,
)
HEADER = (1, 2, 3)

Result = TypeVar("Result")


class FakeBackend:
    """A backend that "decodes" the chunks in its queue."""

    exact = True

    def __init__(self) -> None:
        self.queue: list[list[int]] = []
        self.prompts: list[Sequence[int]] = []
        self.changes = self.resets = self.cache_frees = 0

    def enqueue(self, *chunks: str) -> FakeBackend:
        self.queue += [list(chunk.encode()) for chunk in chunks]
        return self

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        self.prompts.append(prompt)
        for token in self.queue.pop(0)[:max_tokens]:
            yield DecodedToken(token)

    def reset(self) -> None:
        self.resets += 1

    def free_cache(self) -> None:
        self.cache_frees += 1

    def adapter_changed(self) -> None:
        self.changes += 1


class Loop:
    """Model, task, state and backend of a loop."""

    def __init__(
        self,
        folder: Path,
        goal: int,
        *,
        opening: str = "",
        config: Config = CONFIG,
        recipe: Recipe = RECIPE,
        task: Task | None = None,
    ) -> None:
        self.config, self.recipe = config, recipe
        self.model = loading.load(folder, config.model, config.train, seed=config.seed)
        self.task = task or novel(self.model.tokenizer, goal, opening, config)
        self.state = WritingState.begin(self.model, config)
        self.backend = FakeBackend()

    def stream(self) -> Generator[Event, None, None]:
        return write(self.task, self.model, self.backend, self.state, self.config, recipe=self.recipe)

    def run(self) -> list[Event]:
        return list(self.stream())

    def next_turn(self) -> Turn:
        turn = self.task.next_turn(self.state.tokens, self.state.records)
        assert turn is not None
        return turn


def novel(tokenizer: object, goal: int, opening: str = "", config: Config = CONFIG) -> NovelTask:
    """A task with a header of three tokens and a goal in tokens."""
    prompt = fixed_header(HEADER, config.decode.context_tokens)
    tokens = opening_tokens(tokenizer, opening)
    size = config.decode.chunk_tokens
    return NovelTask(prompt, tokens, Goal(goal, "tokens"), size, tokenizer, whole_sentences=False)


class Turns:
    """A task that returns the given turns, one after another."""

    def __init__(self, *turns: Turn, like: Task) -> None:
        self.turns, self.like = turns, like

    def next_turn(self, book: Sequence[int], records: Sequence[object]) -> Turn | None:
        return self.turns[len(records)] if len(records) < len(self.turns) else None

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        return self.like.text_stream(book)


def kinds(events: Sequence[Event]) -> list[str]:
    """The class names of the events, without `TextDecoded`."""
    return [type(event).__name__ for event in events if not isinstance(event, TextDecoded)]


def learnt(events: Sequence[Event]) -> list[ChunkLearnt]:
    """The `ChunkLearnt` events."""
    return [event for event in events if isinstance(event, ChunkLearnt)]


def drained(stream: Generator[Event, None, Result]) -> tuple[list[Event], Result]:
    """The values that a generator yields, and its return value."""
    events = []
    try:
        while True:
            events.append(next(stream))
    except StopIteration as end:
        return events, end.value


@contextmanager
def passes_over(model: AdaptedModel) -> Iterator[list[tuple[bool, list[int]]]]:
    """The forward passes inside the `with` block: were gradients enabled, and the input ids."""
    passes: list[tuple[bool, list[int]]] = []

    def record(module: torch.nn.Module, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        passes.append((torch.is_grad_enabled(), kwargs["input_ids"][0].tolist()))

    body = model.module.get_base_model().model
    hook = body.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


def adapter_of(state: WritingState) -> dict[str, torch.Tensor]:
    """A copy of the adapter's weights."""
    return {name: weight.detach().clone() for name, weight in state.adapter.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Are two adapters equal, bit for bit?"""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
