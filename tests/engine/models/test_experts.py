"""Experts in 4 bits: as bitsandbytes would pack them, and computed as transformers does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import Tensor, nn

from templora_cli.config import Config, ModelConfig, TrainConfig
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.planner import plan, plan_or_refuse
from templora_cli.engine.models import loading
from templora_cli.engine.models.experts import Packed, packed_weights
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.engine.models.shape import shape_of
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError
from tests.engine.models.tiny_kinds import KINDS, save_tiny

MIXTURES = ["qwen3_moe", "qwen2_moe", "gpt_oss", "jamba"]
TRAIN = TrainConfig(rank=4, alpha=4)
NF4 = ModelConfig(device="cpu", quantize="nf4")
GPU = DeviceMemory("cuda", "bfloat16", 24 * 10**9, 24 * 10**9)


def test_each_expert_is_packed_by_itself() -> None:
    weights = torch.randn(3, 16, 64, generator=torch.Generator().manual_seed(0))
    packed = Packed(weights)
    for number, weight in enumerate(weights):
        alone = quantize_4bit(weight.contiguous(), blocksize=64, quant_type="nf4", compress_statistics=True)
        assert torch.equal(packed[number], dequantize_4bit(*alone))


def unpack(model: LanguageModel) -> None:
    """Give transformers the same experts unpacked, to compute them itself."""
    for block in model.module.modules():
        for name, packed in getattr(block, "in_nf4", {}).items():
            whole = torch.stack([packed[number] for number in range(packed.shape[0])])
            setattr(block, name, nn.Parameter(whole, requires_grad=False))
            block.config._experts_implementation = "eager"


def losses_and_gradients(model: LanguageModel) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        for name, matrix in model.adapter.items():
            if "lora_B" in name:
                matrix.fill_(0.05)
    loss = chunk_nll(model.module, [1, 2, 3], list(range(40, 60)))
    loss.mean().backward()
    return loss.detach(), {name: p.grad for name, p in model.adapter.items() if p.grad is not None}


@pytest.mark.parametrize("kind", MIXTURES)
def test_they_are_computed_as_transformers_computes_them(kind: str, tmp_path: Path) -> None:
    whole = save_tiny(tmp_path, KINDS[kind]())
    ours, theirs = (loading.load(tmp_path, NF4, TRAIN, seed=0) for _ in range(2))
    assert ours.parameters == whole.num_parameters() and packed_weights(ours.module) > 0
    unpack(theirs)
    (loss, gradients), (same, others) = losses_and_gradients(ours), losses_and_gradients(theirs)
    assert torch.allclose(loss, same, atol=1e-5)
    assert gradients.keys() == others.keys() == ours.adapter.keys()
    assert all(torch.allclose(gradients[name], others[name], atol=1e-6) for name in gradients)


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("quantize", ["nf4", "int8", "none"])
def test_the_plan_counts_them_as_they_are_held(kind: str, quantize: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS[kind]())
    config = ModelConfig(device="cpu", quantize=quantize)
    module = loading.load(tmp_path, config, TrainConfig(learn=False), seed=0).module
    packed = [part for block in module.modules() for part in getattr(block, "in_nf4", {}).values()]
    held = sum(p.nbytes for p in module.parameters()) + sum(
        tensor.nbytes for part in packed for tensor in (part.weights, part.scales, part.second_scales)
    )
    cpu = DeviceMemory("cpu", "float32", 10**9, 10**9)
    planned = plan(shape_of(tmp_path), Config(model=config), cpu, header=0).parts["base"]["load"]
    assert held <= planned < 1.1 * held


def test_why_a_mixture_is_large_is_said(tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS["qwen3_moe"]())
    shape = shape_of(tmp_path)
    few, many = (
        plan(shape, Config(model=ModelConfig(quantize=held)), GPU, header=0) for held in ("nf4", "int8")
    )
    assert few.notes == ()
    assert many.notes == ("the experts of this model, 0.0 of 0.0 billion weights, stay in 16 bits with int8",)
    small = DeviceMemory("cuda", "bfloat16", 10**6, 10**6)
    with pytest.raises(TemploraError, match=r"; the experts of this model, .* stay in 16 bits with int8$"):
        plan_or_refuse(shape, Config(model=ModelConfig(quantize="int8")), small, header=0)
    save_tiny(tmp_path / "llama", KINDS["llama4_text"]())
    (note,) = plan(shape_of(tmp_path / "llama"), Config(), GPU, header=0).notes
    assert note.endswith(
        "stay in 16 bits with nf4, because templora cannot quantise experts of llama4_text models"
    )


def test_a_model_of_which_nothing_can_be_quantised(tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS["falcon"]())
    made = plan(shape_of(tmp_path), Config(), GPU, header=0)
    assert made.notes == ("no layer of this model (falcon) can be quantised: its weights stay in 16 bits",)
