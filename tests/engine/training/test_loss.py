"""The loss of a chunk is that of the library, without its logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.forward import frozen_head
from templora_cli.engine.training.loss import _SlicedNll, chunk_logits, chunk_nll
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS

PROMPT, CHUNK = [5, 9, 20, 33, 40], [7, 8, 9]


@pytest.fixture
def module(tiny_model: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


@pytest.fixture
def learning(tiny_model: Path) -> nn.Module:
    """With an adapter that says something; its head is frozen."""
    train = TrainConfig(rank=4, alpha=4, dropout=0.0)
    loaded = loading.load(tiny_model, ModelConfig(device="cpu"), train, seed=0)
    with torch.no_grad():
        for weight in loaded.adapter.values():
            weight.normal_(std=0.1)
    return loaded.module


def by_the_library(module: nn.Module, labels: list[int]) -> Tensor:
    return module(input_ids=torch.tensor([PROMPT + CHUNK]), labels=torch.tensor([labels])).loss


def test_it_is_the_librarys_loss_with_labels_on_the_chunk_only(module: nn.Module) -> None:
    wanted = by_the_library(module, [-100] * len(PROMPT) + CHUNK)
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK).mean(), wanted)


def test_only_what_counts_is_scored(module: nn.Module) -> None:
    wanted = by_the_library(module, [-100] * len(PROMPT) + [-100, 8, -100])
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK, [False, True, False])[0], wanted)
    assert len(chunk_nll(module, PROMPT, CHUNK, [False] * 3)) == 0


@pytest.mark.parametrize("mask", [(), (True, False, True)])
def test_gradients_are_the_librarys(learning: nn.Module, mask: tuple[bool, ...]) -> None:
    """Also in slices of two tokens."""
    assert frozen_head(learning) is not None
    adapter = [p for p in learning.parameters() if p.requires_grad]
    labels = [t if not mask or mask[i] else -100 for i, t in enumerate(CHUNK)]
    by_the_library(learning, [-100] * len(PROMPT) + labels).backward()
    wanted = [p.grad.clone() for p in adapter if p.grad is not None]
    learning.zero_grad()
    two = 2 * learning.config.vocab_size
    chunk_nll(learning, PROMPT, CHUNK, mask, at_once=two).mean().backward()
    assert len(wanted) == len(adapter)
    for weight, gradient in zip(adapter, wanted, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_a_head_that_learns_gets_its_gradient(module: nn.Module) -> None:
    by_the_library(module, [-100] * len(PROMPT) + CHUNK).backward()
    wanted = module.lm_head.weight.grad.clone()
    module.zero_grad()
    chunk_nll(module, PROMPT, CHUNK).mean().backward()
    torch.testing.assert_close(module.lm_head.weight.grad, wanted)


@given(tokens=st.integers(1, 9), slice_rows=st.integers(1, 10), biased=st.booleans(), seed=st.integers(0, 99))
def test_slices_are_the_whole(tokens: int, slice_rows: int, biased: bool, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(11, 4, generator=random)
    bias = torch.randn(11, generator=random) if biased else None
    wanted = torch.randint(11, (tokens,), generator=random)
    scale = torch.randn(tokens, generator=random)
    one, other = (
        torch.randn(tokens, 4, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        for _ in "ab"
    )
    whole = cross_entropy(nn.functional.linear(one, weight, bias), wanted, reduction="none")
    (whole * scale).sum().backward()
    sliced = _SlicedNll.apply(other, weight, bias, wanted, slice_rows)
    (sliced * scale).sum().backward()
    torch.testing.assert_close(sliced, whole)
    torch.testing.assert_close(other.grad, one.grad)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_alike(name: str) -> None:
    made = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval().requires_grad_(False)
    assert frozen_head(made) is not None
    logits = chunk_logits(made, PROMPT, CHUNK)
    wanted = cross_entropy(logits, torch.tensor(CHUNK), reduction="none")
    torch.testing.assert_close(chunk_nll(made, PROMPT, CHUNK), wanted)


def test_a_head_with_something_behind_it_is_left_to_the_library() -> None:
    config = CONFIGS["gemma3"]()
    config.final_logit_softcapping = 1.0
    made = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    assert frozen_head(made) is None
    wanted = cross_entropy(chunk_logits(made, PROMPT, CHUNK), torch.tensor(CHUNK), reduction="none")
    torch.testing.assert_close(chunk_nll(made, PROMPT, CHUNK), wanted)


def test_logits_exist_for_what_counts_only(module: nn.Module) -> None:
    shapes = []
    hook = module.lm_head.register_forward_hook(lambda m, i, out: shapes.append(out.shape[-2]))
    chunk_nll(module, PROMPT, CHUNK)
    chunk_nll(module, PROMPT, CHUNK, [True, False, True])
    hook.remove()
    assert shapes == [3, 2]


class Watching(TorchFunctionMode):
    """Of how many tokens there are logits [n, V] at once."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.made: list[int] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        if function is nn.functional.linear and out.shape[-1] == self.vocabulary:
            self.made.append(out.numel() // self.vocabulary)
        return out


def test_a_slice_is_all_that_there_is(learning: nn.Module) -> None:
    vocabulary = learning.config.vocab_size
    with Watching(vocabulary) as watching:
        chunk_nll(learning, PROMPT, [7, 8, 9, 10, 11], at_once=2 * vocabulary)
    assert watching.made == [2, 2, 1]


def test_an_architecture_that_cannot_keep_logits_back(module: nn.Module) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, input_ids, past_key_values=None, use_cache=False):  # type: ignore[no-untyped-def]
            return self.inner(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)

    torch.testing.assert_close(chunk_nll(Plain(), PROMPT, CHUNK), chunk_nll(module, PROMPT, CHUNK))
