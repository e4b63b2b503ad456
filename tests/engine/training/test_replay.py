"""Replay: samples of the model, and how far it has come from what it predicted for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.forward import frozen_head
from templora_cli.engine.training.loss import _top_divergence, chunk_logits, kl_divergence, top_divergence
from templora_cli.engine.training.replay import draw_samples

PROMPT, CHUNK = [5, 9, 20, 33, 40], [7, 8, 9, 7]


@pytest.fixture
def model(tiny_model: Path) -> loading.LanguageModel:
    return loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)


def moved(model: loading.LanguageModel) -> None:
    """Give the adapter an effect."""
    with torch.no_grad():
        for weight in model.adapter.values():
            weight.normal_(std=0.2, generator=torch.Generator().manual_seed(0))


def test_samples_depend_on_the_seed_and_leave_the_generator_of_the_process(
    model: loading.LanguageModel,
) -> None:
    before = torch.get_rng_state()
    first, same, other = (draw_samples(model, PROMPT, 3, 6, seed=seed, at_once=2) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.tokens.shape == (3, 6) and first.prompt == tuple(PROMPT) and first.ids is None
    assert torch.equal(first.tokens, same.tokens) and not torch.equal(first.tokens, other.tokens)
    assert len({tuple(tokens) for tokens in first.tokens.tolist()}) == 3


def test_banned_tokens_are_not_drawn(model: loading.LanguageModel) -> None:
    drawn = draw_samples(model, PROMPT, 16, 32, seed=0, at_once=16).tokens
    assert model.banned_tokens and not set(drawn.flatten().tolist()) & set(model.banned_tokens)


def test_a_model_that_has_not_changed_does_not_diverge(model: loading.LanguageModel) -> None:
    samples = draw_samples(model, PROMPT, 2, 6, seed=0, at_once=2).predicted(model)
    assert [samples.divergence(i, model)().item() for i in (0, 1, 2)] == pytest.approx([0, 0, 0], abs=1e-6)
    moved(model)
    values = [samples.divergence(i, model)().item() for i in (0, 1, 2)]
    assert min(values) > 0.01 and values[0] == values[2] != values[1]
    assert samples.predicted(model).divergence(0, model)().item() == pytest.approx(0, abs=1e-6)
    assert samples.unpredicted().ids is None


def odd_head(module: nn.Module) -> None:
    """A head that no slices can be computed of."""
    head = module.get_base_model().get_output_embeddings()
    head.__class__ = type("Odd", (nn.Linear,), {})
    assert frozen_head(module) is None


@pytest.mark.parametrize("at_once", [1, 600, 1 << 24, None])
def test_the_divergence_in_slices_and_its_gradients(
    model: loading.LanguageModel, at_once: int | None
) -> None:
    with torch.no_grad():
        logs, ids = chunk_logits(model.module, PROMPT, CHUNK).log_softmax(-1).topk(16, -1)
    moved(model)
    expected = _top_divergence(chunk_logits(model.module, PROMPT, CHUNK), ids, logs)
    expected.mean().backward()
    gradients = {name: weight.grad for name, weight in model.adapter.items()}
    for weight in model.adapter.values():
        weight.grad = None
    if at_once is None:
        odd_head(model.module)
    found = top_divergence(model.module, PROMPT, CHUNK, ids, logs, at_once=at_once or 1)
    found.mean().backward()
    torch.testing.assert_close(found, expected)
    assert any(gradient is not None and gradient.abs().max() > 1e-4 for gradient in gradients.values())
    for name, weight in model.adapter.items():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-3, atol=1e-6)


def test_with_all_tokens_it_is_the_kl_divergence() -> None:
    teacher, student = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    logs, ids = teacher.log_softmax(-1).topk(8, -1)
    whole = kl_divergence(teacher.log_softmax(-1), student)
    torch.testing.assert_close(_top_divergence(student, ids, logs), whole, rtol=1e-3, atol=1e-4)
    fewer = _top_divergence(student, ids[:, :3], logs[:, :3])
    assert (fewer > 0).all() and (fewer < whole + 1e-4).all()
