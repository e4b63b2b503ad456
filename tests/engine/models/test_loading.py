"""Loading: precision, quantisation on the CPU, the adapter, and folders that are refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError

TRAIN = TrainConfig(rank=4, alpha=4)
CPU = ModelConfig(device="cpu")


def test_a_new_adapter_has_no_effect_and_covers_every_linear_layer(tiny_model: Path) -> None:
    model = loading.load(tiny_model, CPU, TRAIN, seed=0)
    assert len(model.adapter) == 2 * 7 * 2, "two layers, seven linear modules, A and B"
    assert not any("lm_head" in name or "default" in name for name in model.adapter)
    with torch.no_grad():
        live = chunk_nll(model.module, [1, 2], [3, 4])
        with model.without_adapter():
            assert torch.equal(live, chunk_nll(model.module, [1, 2], [3, 4]))
        for name, parameter in model.adapter.items():
            if "lora_B" in name:
                parameter += 0.1
        assert not torch.equal(live, chunk_nll(model.module, [1, 2], [3, 4]))
        with model.without_adapter():
            assert torch.equal(live, chunk_nll(model.module, [1, 2], [3, 4]))


def test_only_the_adapter_is_trainable(tiny_model: Path) -> None:
    model = loading.load(tiny_model, CPU, TRAIN, seed=0)
    trainable = {id(p) for p in model.module.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in model.adapter.values()}


def test_the_seed_initialises_the_adapter_without_the_process_generator(tiny_model: Path) -> None:
    state = torch.get_rng_state()
    first, same, other = (loading.load(tiny_model, CPU, TRAIN, seed=s).adapter for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    name = next(name for name in first if "lora_A" in name)
    assert torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name])


def test_without_learning_there_is_no_adapter(tiny_model: Path) -> None:
    model = loading.load(tiny_model, CPU, TrainConfig(learn=False), seed=0)
    assert model.adapter == {}
    with model.without_adapter():
        chunk_nll(model.module, [1], [2])


def test_special_tokens_are_banned(tiny_model: Path) -> None:
    model = loading.load(tiny_model, CPU, TRAIN, seed=0)
    banned = model.tokenizer.convert_ids_to_tokens(model.banned_tokens)
    assert {"<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"} <= set(banned)
    assert model.tokenizer.encode("a", add_special_tokens=False)[0] not in model.banned_tokens


@pytest.mark.parametrize(("quantize", "stored"), [("nf4", "Linear4bit"), ("int8", "Linear8bitLt")])
def test_an_adapter_learns_over_a_quantised_base_on_the_cpu(
    tiny_model: Path, quantize: str, stored: str
) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu", quantize=quantize), TRAIN, seed=0)
    layer = model.module.get_base_model().model.layers[0].mlp.up_proj.base_layer
    assert type(layer).__name__ == stored
    if quantize == "nf4":
        assert layer.weight.quant_state.nested, "double quantisation"
        assert layer.weight.quant_state.quant_type == "nf4"
    assert {p.dtype for p in model.adapter.values()} == {torch.float32}
    before = layer.weight.data.clone()
    with torch.no_grad():  # bitsandbytes would pack the weights again here
        chunk_nll(model.module, [1, 2, 3], [40, 41, 42, 43])
    optimizer = torch.optim.AdamW(model.adapter.values(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = chunk_nll(model.module, [1, 2, 3], [40, 41, 42, 43]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01
    assert torch.equal(layer.weight.data, before), "the base is frozen"


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(tiny_model, tmp_path / "copy")


def load_error(folder: Path) -> TemploraError:
    with pytest.raises(TemploraError) as caught:
        loading.load(folder, CPU, TRAIN, seed=0)
    assert caught.value.hint and "\n" not in caught.value.message
    return caught.value


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "quux"}))
    assert "cannot be loaded" in load_error(copy).message and "quux" in load_error(copy).message


def test_an_architecture_of_another_kind_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    assert "architecture vit) is an image model" in load_error(copy).message


def test_code_in_the_model_folder_is_not_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "quux", "auto_map": auto}))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')")
    assert "cannot be loaded" in load_error(copy).message
    assert not (copy / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\x05\0\0\0\0\0\0\0hello",
        b"\0" * 100,
        b'\x07\0\0\0\0\0\0\0{"a":1}',
        b"\x02\0\0\0\0\0\0\0[]",
    ],
)
def test_damaged_weights_are_refused(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").write_bytes(content)
    assert "damaged" in load_error(copy).message


def test_truncated_weights_are_refused(copy: Path) -> None:
    file = copy / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1000)
    assert "is incomplete" in load_error(copy).message


def test_a_missing_weight_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "weight model.layers.1.mlp.up_proj.weight is missing" in load_error(copy).message


@pytest.mark.parametrize("content", ["[]", "{", "3", '{"model_type": 7}'])
def test_a_damaged_config_is_refused(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    assert "cannot be loaded" in load_error(copy).message


def test_failed_allocations_become_an_error_with_advice() -> None:
    for raised in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        with pytest.raises(TemploraError, match="not enough memory"), loading.out_of_memory_hint("less"):
            raise raised
    with pytest.raises(RuntimeError, match="something else"), loading.out_of_memory_hint("less"):
        raise RuntimeError("something else")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_refused(tiny_model: Path) -> None:
    with pytest.raises(TemploraError, match="no CUDA GPU") as caught:
        loading.load(tiny_model, ModelConfig(device="cuda"), TRAIN, seed=0)
    assert caught.value.hint == "use --device cpu"
