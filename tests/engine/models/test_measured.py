"""What is measured of a model without weights is that of one with them."""

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
    found: list[Tensor] = []
    for layer in cache.layers:
        for value in vars(layer).values():
            parts = value.values() if isinstance(value, dict) else value
            parts = parts if isinstance(parts, (list, tuple)) or isinstance(value, dict) else [value]
            found += [part for part in parts if isinstance(part, Tensor)]
    return found


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_mamba", "jamba", "bamba"])
def test_the_cache_is_that_of_the_model(kind: str, tmp_path: Path) -> None:
    module = save_tiny(tmp_path, KINDS[kind]())
    found = shape_of(tmp_path).cache
    for tokens in (20, 40):
        with torch.no_grad():
            _, cache = logits_at(module, [0] * tokens, [tokens - 1], use_cache=True)
        assert sum(t.numel() for t in tensors_of(cache)) == tokens * sum(found.each) + found.state
    assert bool(found.state) and bool(sum(found.each)) == (kind in ("jamba", "bamba"))


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_a_recurrent_model_keeps_no_more_for_a_longer_text(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS[kind]())
    shape = shape_of(tmp_path)
    short, long = (
        plan(shape, Config(decode=DecodeConfig(context_tokens=tokens)), CPU, header=8)
        for tokens in (64, 4096)
    )
    assert short.backend == "eager" and short.parts["cache"] == long.parts["cache"]
    assert short.parts["cache"]["decode"] == 4 * shape.cache.state


def kept_by(module: nn.Module, block: nn.Module, tokens: int) -> int:
    """Bytes that autograd keeps of `block`, of a model with weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}
    inside = False

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if inside and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
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
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out, _ = logits_at(module, [0] * tokens, [tokens - 1])
    del out
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "qwen3_moe", "gpt_oss"])
def test_what_blocks_keep_is_that_of_the_model(kind: str, tmp_path: Path) -> None:
    module = save_tiny(tmp_path, KINDS[kind]()).to(torch.bfloat16)
    shape = shape_of(tmp_path)
    found = shape.experts if kind in ("qwen3_moe", "gpt_oss") else shape.recurrent
    assert found.blocks == shape.num_layers
    wanted = are_experts if found is shape.experts else lambda b: hasattr(b, "conv1d")
    block = next(part for part in module.modules() if wanted(part))
    few, many = (kept_by(module, block, tokens) for tokens in (256, 512))
    assert (many - few) / 256 == pytest.approx(2 * found.elements + found.other_bytes, rel=0.05)


def test_what_cannot_be_run_without_weights_is_not_known() -> None:
    class Looks(nn.Module):
        def forward(self, input_ids: Tensor, **_: object) -> float:
            return float(input_ids.sum())

    looks = Looks()
    looks.weight = nn.Parameter(torch.empty(1, device="meta"))
    assert cache_size(looks) is None
    assert recurrent_activations(looks) is None and expert_activations(looks) is None
