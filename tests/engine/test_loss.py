"""The loss of a chunk is that of the library, without its logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from templora_cli.engine.loss import chunk_nll

PROMPT, CHUNK = [5, 9, 20, 33, 40], [7, 8, 9]


@pytest.fixture(scope="module")
def module(tiny_model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def test_it_is_the_librarys_loss_with_labels_on_the_chunk_only(module: torch.nn.Module) -> None:
    ids = torch.tensor([PROMPT + CHUNK])
    labels = torch.tensor([[-100] * len(PROMPT) + CHUNK])
    wanted = module(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(chunk_nll(module, PROMPT, CHUNK).mean(), wanted)


def test_gradients_are_the_librarys(module: torch.nn.Module) -> None:
    weight = module.model.layers[0].mlp.up_proj.weight
    module(
        input_ids=torch.tensor([PROMPT + CHUNK]), labels=torch.tensor([[-100] * len(PROMPT) + CHUNK])
    ).loss.backward()
    wanted = weight.grad.clone()
    module.zero_grad()
    chunk_nll(module, PROMPT, CHUNK).mean().backward()
    torch.testing.assert_close(weight.grad, wanted)


def test_logits_exist_for_the_chunk_only(module: torch.nn.Module) -> None:
    shapes = []
    hook = module.lm_head.register_forward_hook(lambda m, i, out: shapes.append(out.shape[-2]))
    chunk_nll(module, PROMPT, CHUNK)
    hook.remove()
    assert shapes == [len(CHUNK)]


def test_an_architecture_that_cannot_keep_logits_back(module: torch.nn.Module) -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, input_ids, past_key_values=None, use_cache=False):  # type: ignore[no-untyped-def]
            return self.inner(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)

    torch.testing.assert_close(chunk_nll(Plain(), PROMPT, CHUNK), chunk_nll(module, PROMPT, CHUNK))
