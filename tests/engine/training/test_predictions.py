"""What is known of a model's predictions, against a simple computation from whole logits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.forward import frozen_head
from templora_cli.engine.training.loss import chunk_logits, chunk_nll
from templora_cli.engine.training.predictions import chunk_predictions, token_prediction

PROMPT, CHUNK = [5, 9, 20, 33, 40], [7, 8, 9, 7]
COMPLETIONS = [set(), {8}, {1, 2, 3}, set()]


@pytest.fixture(params=["base", "adapter", "odd head"])
def module(request: pytest.FixtureRequest, tiny_model: Path) -> nn.Module:
    if request.param == "adapter":
        train = TrainConfig(rank=4, alpha=4)
        return loading.load(tiny_model, ModelConfig(device="cpu"), train, seed=0).module.eval()
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    if request.param == "odd head":
        model.get_output_embeddings().__class__ = type("Odd", (nn.Linear,), {})
        with torch.no_grad():
            assert frozen_head(model) is None
    return model


def expected(module: nn.Module) -> torch.Tensor:
    rows = []
    with torch.no_grad():
        for logits, token, known in zip(chunk_logits(module, PROMPT, CHUNK), CHUNK, COMPLETIONS, strict=True):
            shares = logits.softmax(-1)
            entropy = -sum(p * math.log(p) for p in shares.tolist())
            rows.append([-math.log(shares[token].item()), entropy, sum(shares[k].item() for k in known)])
    return torch.tensor(rows)


@pytest.mark.parametrize("at_once", [1, 600, 1 << 24])
def test_predictions_of_a_chunk_in_slices(module: nn.Module, at_once: int) -> None:
    found = chunk_predictions(module, PROMPT, CHUNK, COMPLETIONS, at_once=at_once)
    torch.testing.assert_close(found, expected(module), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(found[:, 0], chunk_nll(module, PROMPT, CHUNK))


def test_only_tokens_in_the_mask_are_predicted(module: nn.Module) -> None:
    mask = [True, False, True, True]
    found = chunk_predictions(module, PROMPT, CHUNK, COMPLETIONS, mask)
    torch.testing.assert_close(found, expected(module)[[0, 2, 3]], rtol=1e-4, atol=1e-5)
    assert chunk_predictions(module, PROMPT, CHUNK, COMPLETIONS, [False] * 4).shape == (0, 3)


def test_predictions_of_a_token(module: nn.Module) -> None:
    with torch.no_grad():
        logits = chunk_logits(module, PROMPT, CHUNK)
    for row, values in enumerate(expected(module)):
        found = token_prediction(logits[row], CHUNK[row], COMPLETIONS[row])
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)


def test_a_token_that_is_impossible_does_not_make_the_entropy_nan() -> None:
    logits = torch.tensor([0.0, -math.inf, 0.0])
    assert token_prediction(logits, 0, [1, 2]).tolist() == pytest.approx([math.log(2), math.log(2), 0.5])
