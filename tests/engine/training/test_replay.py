"""Replay: samples of the model, and how far it has come from what it predicted for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.forward import frozen_head
from templora_cli.engine.training.loss import (
    _top_divergence,
    chunk_logits,
    kl_divergence,
    top_divergence,
    top_predictions,
)
from templora_cli.engine.training.replay import Samples

PROMPT, CHUNK = [5, 9, 20, 33, 40], [7, 8, 9, 7]


@pytest.fixture
def model(tiny_model: Path) -> loading.LanguageModel:
    return loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)


def moved(model: loading.LanguageModel) -> None:
    """Give the adapter an effect."""
    with torch.no_grad():
        for weight in model.adapter.values():
            weight.normal_(std=0.2, generator=torch.Generator().manual_seed(0))


def test_a_model_that_has_not_changed_does_not_diverge(model: loading.LanguageModel) -> None:
    samples = Samples(tuple(PROMPT), torch.tensor([[7, 8, 9, 7], [4, 3, 2, 1]])).predicted(model)
    assert samples.ids is not None and samples.ids.dtype == torch.int32 and samples.ids.shape == (2, 4, 64)
    assert [samples.divergence(i, model)().item() for i in (0, 1, 2)] == pytest.approx([0, 0, 0], abs=1e-6)
    moved(model)
    values = [samples.divergence(i, model)().item() for i in (0, 1, 2)]
    assert min(values) > 0.01 and values[0] == values[2] != values[1]
    assert samples.predicted(model).divergence(0, model)().item() == pytest.approx(0, abs=1e-6)
    assert samples.unpredicted().ids is None


@pytest.mark.parametrize("sliced", [True, False])
def test_the_likeliest_tokens_in_slices(model: loading.LanguageModel, sliced: bool) -> None:
    with torch.no_grad():
        logs, ids = chunk_logits(model.module, PROMPT, CHUNK).log_softmax(-1).topk(5, -1)
    if not sliced:
        odd_head(model.module)
    found_ids, found_logs = top_predictions(model.module, PROMPT, CHUNK, 5)
    assert torch.equal(found_ids.long(), ids)
    torch.testing.assert_close(found_logs, logs)


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
