"""DRY: the penalties of its sources, in linear time, and after a rewind those of the shorter text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.config import DecodeConfig, ModelConfig, TrainConfig
from templora_cli.engine.decoding.processors.dry import MAX_MATCH, MAX_PENALTY, Dry
from templora_cli.engine.models import loading

VOCABULARY = 10


def dry(breakers: Sequence[int] = (), **config: Any) -> Dry:
    values = {"multiplier": 1.0, "base": 2.0, "allowed_length": 1, **config}
    settings = {f"dry_{name}": value for name, value in values.items()}
    return Dry(DecodeConfig(**settings), (), torch.device("cpu"), breakers)


def penalties(processor: Dry, ids: Sequence[int]) -> dict[int, float]:
    """The penalties by token, as the reference defines them; both fast forms must have the same."""
    expected = -processor.reference(torch.zeros(VOCABULARY).double(), ids)
    on_device = -processor.apply_on_device(torch.zeros(VOCABULARY), ids)
    on_host = -torch.from_numpy(processor.apply_on_host(torch.zeros(VOCABULARY).numpy(), ids))
    assert torch.equal(expected.float(), on_device) and torch.equal(on_device, on_host)
    return {token: value for token, value in enumerate(expected.tolist()) if value}


def test_the_example_of_llama_cpp() -> None:
    """From the comments of its source: "a b c c b c y a b c", repeated are "c" by 3, "b" by 1, "y" by 2."""
    a, b, c, y = 1, 2, 3, 9
    assert penalties(dry(), [a, b, c, c, b, c, y, a, b, c]) == {c: 4.0, b: 1.0, y: 2.0}


def test_the_penalty_grows_with_the_match_from_the_allowed_length_on() -> None:
    ids = [1, 2, 3, 4, 9, 1, 2, 3]
    assert penalties(dry(), ids) == {4: 4.0}
    assert penalties(dry(allowed_length=3, multiplier=0.8, base=1.75), ids) == {4: 0.8}
    assert penalties(dry(allowed_length=4), ids) == {}


def test_a_match_does_not_reach_across_a_breaker() -> None:
    ids = [1, 2, 3, 4, 9, 1, 2, 3]
    assert penalties(dry([1]), ids) == {4: 2.0}, "2 3"
    assert penalties(dry([3]), ids) == {}, "the text ends with a breaker"
    assert penalties(dry([4]), ids) == {}, "a breaker is never made less likely"


def test_the_range_limits_both_the_search_and_the_match() -> None:
    ids = [1, 2, 3, 4, 9, 1, 2, 3]
    assert [penalties(dry(range=size), ids) for size in (0, 8, 7, 6, 5)] == [
        {4: 4.0},
        {4: 4.0},
        {4: 2.0},
        {4: 1.0},
        {},
    ]


def test_penalties_are_bounded() -> None:
    assert penalties(dry(base=1.0 + 1e-9), [7] * 200)[7] == pytest.approx(1.0)
    assert penalties(dry(base=10.0), [7] * 200) == {7: MAX_PENALTY}
    shorter, longer = ([7] * size for size in (MAX_MATCH + 1, MAX_MATCH + 2))
    assert penalties(dry(base=1.1), shorter) == penalties(dry(base=1.1), longer)


@given(
    texts=st.lists(st.lists(st.integers(0, 3), max_size=80), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 80), min_size=4, max_size=4),
    breakers=st.sets(st.integers(0, 3), max_size=2),
    window=st.integers(0, 20),
    allowed=st.integers(1, 4),
)
def test_growing_and_cut_texts_have_the_penalties_of_the_definition(
    texts: list[list[int]], cuts: list[int], breakers: set[int], window: int, allowed: int
) -> None:
    """Token by token, several at once, and after rewinds; `penalties` compares with the definition."""
    processor = dry(sorted(breakers), range=window, allowed_length=allowed, base=1.1)
    ids: list[int] = []
    for text, cut in zip(texts, cuts, strict=False):
        ids = ids[:cut] + text[:-20]
        for token in text[-20:]:
            penalties(processor, ids)
            ids.append(token)
        penalties(processor, ids)


def test_breakers_are_the_tokens_that_contain_them(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(), TrainConfig(learn=False), seed=0)
    texts = {token: model.tokenizer.decode([token]) for token in range(len(model.tokenizer))}
    breakers = model.tokens_with(("\n", '"'))
    assert breakers == {token for token, text in texts.items() if "\n" in text or '"' in text} != set()
    assert model.tokens_with(("\n", '"')) is breakers, "the vocabulary is read once"
    assert model.tokens_with(()) == frozenset()
    assert len(model.tokens_with(("no token has this",))) == 1
