"""The state of a book: its random generators."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import torch

from templora_cli.config import Config, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.state import WritingState

CONFIG = Config(train=TrainConfig(rank=2, alpha=2), seed=7)


def draw(state: WritingState, candidate: int) -> tuple[float, ...]:
    return tuple(torch.rand(4, generator=state.generator(candidate, torch.device("cpu"))).tolist())


def test_each_chunk_take_and_candidate_draws_other_numbers(tiny_model: Path) -> None:
    model = loading.load(tiny_model, CONFIG.model, CONFIG.train, seed=7)
    numbers = set()
    for seed, chunk, take, candidate in product((0, 1, 2**62), range(3), range(3), range(3)):
        state = WritingState.begin(model, Config(train=CONFIG.train, seed=seed), take=take)
        state.chunks = chunk
        numbers.add(draw(state, candidate))
    assert len(numbers) == 3**4


def test_numbers_do_not_depend_on_earlier_draws(tiny_model: Path) -> None:
    model = loading.load(tiny_model, CONFIG.model, CONFIG.train, seed=7)
    state = WritingState.begin(model, CONFIG, take=2)
    state.chunks = 5
    first = draw(state, 0)
    draw(state, 1)
    torch.rand(3)
    assert draw(state, 0) == first
    later = WritingState.begin(model, CONFIG, take=2)
    later.chunks = 5
    assert draw(later, 0) == first
