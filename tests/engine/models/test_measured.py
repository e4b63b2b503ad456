"""Memory that is measured on a model without weights equals that of the model with weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from templora_cli.config import Config, DecodeConfig
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.planner import plan
from templora_cli.engine.models.measured import (
    are_experts,
    cache_size,
    expert_activations,
    recurrent_activations,
)
from templora_cli.engine.models.shape import shape_of
from templora_cli.engine.training.forward import logits_at
from tests.engine.models.tiny_kinds import KINDS, save_tiny

CPU = DeviceMemory("cpu", "float32", 20 * 10**9, 24 * 10**9, in_use=4 * 10**8, libraries=4 * 10**8)


def tensors_of(cache: Any) -> list[Tensor]:
    tensors: list[Tensor] = []
    for layer in cache.layers:
        for value in vars(layer).values():
            parts = value.values() if isinstance(value, dict) else value
            parts = parts if isinstance(parts, (list, tuple)) or isinstance(value, dict) else [value]
            tensors += [part for part in parts if isinstance(part, Tensor)]
    return tensors


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_mamba", "jamba", "bamba"])
def test_the_measured_cache_equals_that_of_the_model(kind: str, tmp_path: Path) -> None:
    module = save_tiny(tmp_path, KINDS[kind]())
    measured = shape_of(tmp_path).cache
    for tokens in (20, 40):
        with torch.no_grad():
            _, cache = logits_at(module, [0] * tokens, [tokens - 1], use_cache=True)
        assert sum(t.numel() for t in tensors_of(cache)) == tokens * sum(measured.each) + measured.state
    assert bool(measured.state) and bool(sum(measured.each)) == (kind in ("jamba", "bamba"))


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_the_cache_of_a_recurrent_model_does_not_grow_with_the_text(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS[kind]())
    shape = shape_of(tmp_path)
    short, long = (
        plan(shape, Config(decode=DecodeConfig(context_tokens=tokens)), CPU, header=8)
        for tokens in (64, 4096)
    )
    assert short.backend == "eager" and short.parts["cache"] == long.parts["cache"]
    assert short.parts["cache"]["decode"] == 4 * shape.cache.state


def saved_by(module: nn.Module, block: nn.Module, tokens: int) -> int:
    """The bytes that autograd saves in `block`, in a model with weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved: dict[int, int] = {}
    inside = False

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if inside and storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def enter(*_: object) -> None:
        nonlocal inside
        inside = True

    def leave(*_: object) -> None:
        nonlocal inside
        inside = False

    block.register_forward_pre_hook(enter)
    block.register_forward_hook(leave)
    module.requires_grad_(False).get_input_embeddings().weight.requires_grad_(True)  # type: ignore[operator, union-attr]
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        out, _ = logits_at(module, [0] * tokens, [tokens - 1])
    del out
    return sum(saved.values())


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "qwen3_moe", "gpt_oss"])
def test_the_measured_activations_equal_those_of_the_model(kind: str, tmp_path: Path) -> None:
    module = save_tiny(tmp_path, KINDS[kind]()).to(torch.bfloat16)
    shape = shape_of(tmp_path)
    found = shape.experts if kind in ("qwen3_moe", "gpt_oss") else shape.recurrent
    assert found.blocks == shape.num_layers
    wanted = are_experts if found is shape.experts else lambda b: hasattr(b, "conv1d")
    block = next(part for part in module.modules() if wanted(part))
    few, many = (kept_by(module, block, tokens) for tokens in (256, 512))
    assert (many - few) / 256 == pytest.approx(2 * found.numbers + found.other_bytes, rel=0.05)


def test_a_model_that_reads_its_inputs_is_not_measured() -> None:
    class ReadsInput(nn.Module):
        def forward(self, input_ids: Tensor, **_: object) -> float:
            return float(input_ids.sum())

    looks = Looks()
    looks.weight = nn.Parameter(torch.empty(1, device="meta"))
    assert cache_size(looks) is None
    assert recurrent_activations(looks) is None and expert_activations(looks) is None
