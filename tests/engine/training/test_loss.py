"""The loss of a chunk equals that of transformers, with fewer logits in memory."""

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
    """A model with an adapter that has an effect; its head is frozen."""
    train = TrainConfig(rank=4, alpha=4, dropout=0.0)
    loaded = loading.load(tiny_model, ModelConfig(device="cpu"), train, seed=0)
    with torch.no_grad():
        for weight in loaded.adapter.values():
            weight.normal_(std=0.1)
    return loaded.module


def transformers_loss(module: nn.Module, labels: list[int]) -> Tensor:
    return module(input_ids=torch.tensor([PROMPT + CHUNK]), labels=torch.tensor([labels])).loss


def test_the_loss_is_that_of_transformers_with_labels_on_the_chunk_only(module: nn.Module) -> None:
    expected = transformers_loss(module, [-100] * len(PROMPT) + CHUNK)
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK).mean(), expected)


def test_only_tokens_in_the_mask_are_scored(module: nn.Module) -> None:
    expected = transformers_loss(module, [-100] * len(PROMPT) + [-100, 8, -100])
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK, [False, True, False])[0], expected)
    assert len(chunk_nll(module, PROMPT, CHUNK, [False] * 3)) == 0


@pytest.mark.parametrize("mask", [(), (True, False, True)])
def test_gradients_in_slices_are_those_of_transformers(learning: nn.Module, mask: tuple[bool, ...]) -> None:
    assert frozen_head(learning) is not None
    adapter = [p for p in learning.parameters() if p.requires_grad]
    labels = [t if not mask or mask[i] else -100 for i, t in enumerate(CHUNK)]
    transformers_loss(learning, [-100] * len(PROMPT) + labels).backward()
    expected = [p.grad.clone() for p in adapter if p.grad is not None]
    learning.zero_grad()
    two_tokens = 2 * learning.config.vocab_size
    chunk_nll(learning, PROMPT, CHUNK, mask, at_once=two_tokens).mean().backward()
    assert len(expected) == len(adapter)
    for weight, gradient in zip(adapter, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_a_trainable_head_gets_its_gradient(module: nn.Module) -> None:
    transformers_loss(module, [-100] * len(PROMPT) + CHUNK).backward()
    expected = module.lm_head.weight.grad.clone()
    module.zero_grad()
    chunk_nll(module, PROMPT, CHUNK).mean().backward()
    torch.testing.assert_close(module.lm_head.weight.grad, expected)


@given(tokens=st.integers(1, 9), slice_rows=st.integers(1, 10), biased=st.booleans(), seed=st.integers(0, 99))
def test_the_sliced_loss_equals_the_unsliced_one(
    tokens: int, slice_rows: int, biased: bool, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(11, 4, generator=random)
    bias = torch.randn(11, generator=random) if biased else None
    targets = torch.randint(11, (tokens,), generator=random)
    scale = torch.randn(tokens, generator=random)
    unsliced_states, sliced_states = (
        torch.randn(tokens, 4, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        for _ in "ab"
    )
    logits = nn.functional.linear(unsliced_states, weight, bias)
    unsliced = cross_entropy(logits, targets, reduction="none")
    (unsliced * scale).sum().backward()
    sliced = _SlicedNll.apply(sliced_states, weight, bias, targets, slice_rows)
    (sliced * scale).sum().backward()
    torch.testing.assert_close(sliced, unsliced)
    torch.testing.assert_close(sliced_states.grad, unsliced_states.grad)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_of_every_family_equals_that_of_its_logits(name: str) -> None:
    module = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval().requires_grad_(False)
    assert frozen_head(module) is not None
    logits = chunk_logits(module, PROMPT, CHUNK)
    expected = cross_entropy(logits, torch.tensor(CHUNK), reduction="none")
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK), expected)


def test_a_head_with_softcapping_is_not_sliced() -> None:
    config = CONFIGS["gemma3"]()
    config.final_logit_softcapping = 1.0
    module = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    assert frozen_head(module) is None
    expected = cross_entropy(chunk_logits(module, PROMPT, CHUNK), torch.tensor(CHUNK), reduction="none")
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK), expected)


def test_only_scored_tokens_have_logits(module: nn.Module) -> None:
    shapes = []
    hook = module.lm_head.register_forward_hook(lambda m, i, out: shapes.append(out.shape[-2]))
    chunk_nll(module, PROMPT, CHUNK)
    chunk_nll(module, PROMPT, CHUNK, [True, False, True])
    hook.remove()
    assert shapes == [3, 2]


class LogitsRecorder(TorchFunctionMode):
    """Records the number of tokens n of each computed tensor of logits [n, V]."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.tokens: list[int] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        if function is nn.functional.linear and out.shape[-1] == self.vocab_size:
            self.tokens.append(out.numel() // self.vocab_size)
        return out


def test_logits_are_computed_in_slices(learning: nn.Module) -> None:
    vocab_size = learning.config.vocab_size
    with LogitsRecorder(vocab_size) as recorder:
        chunk_nll(learning, PROMPT, [7, 8, 9, 10, 11], at_once=2 * vocab_size)
    assert recorder.tokens == [2, 2, 1]


def test_an_architecture_without_logits_to_keep_has_the_same_loss(module: nn.Module) -> None:
    class WithoutLogitsToKeep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, input_ids, past_key_values=None, use_cache=False):  # type: ignore[no-untyped-def]
            return self.inner(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)

    torch.testing.assert_close(
        chunk_nll(WithoutLogitsToKeep(), PROMPT, CHUNK), chunk_nll(module, PROMPT, CHUNK)
    )
