"""Models whose weights come quantised: taken as they come, or refused before any weights are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from templora_cli.config import Config, ModelConfig, TrainConfig
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.planner import plan
from templora_cli.engine.models import loading
from templora_cli.engine.models.prequantized import display_name, format_of, original_of, resolve_quantize
from templora_cli.engine.models.shape import shape_of
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError
from tests.engine.models.tiny_kinds import KINDS, save_tiny

TRAIN = TrainConfig(rank=4, alpha=4)
GPU = DeviceMemory("cuda", "bfloat16", 24 * 10**9, 24 * 10**9)
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def as_said(said: object) -> dict[str, Any]:
    return {"model_type": "llama", "quantization_config": said}


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "compressed tensors"),
        ({"quant_method": "fbgemm_fp8"}, "FP8 (FBGEMM)"),
        ({"quant_method": "modelopt"}, "ModelOpt"),
        ({"quant_method": "brand-new\x1b[1m"}, "brand-new1m"),
        ({"group_size": 64, "bits": 4}, "an unnamed 4-bit format, such as MLX's"),
        ("what", "an unnamed format"),
    ],
)
@pytest.mark.parametrize("quantize", ["auto", "nf4", "none"])
def test_formats_in_which_nothing_learns_are_refused_with_what_to_take(
    said: object, name: str, quantize: str, tiny_model: Path, tmp_path: Path
) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    folder = tmp_path / "Tiny-Instruct-AWQ"
    folder.mkdir()  # and no weights
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    model = ModelConfig(device="cpu", quantize=quantize, name=str(folder))
    for refusing in (
        lambda: shape_of(folder, str(folder)),
        lambda: loading.load(folder, model, TRAIN, seed=0),
        lambda: loading.load(folder, model, TrainConfig(learn=False), seed=0),
    ):
        with pytest.raises(TemploraError) as caught:
            refusing()
        assert caught.value.message == (
            f"Tiny-Instruct-AWQ comes quantised as {name}; templora cannot train an adapter on it"
        )
        assert caught.value.hint == "use the original, such as Tiny-Instruct"


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B"),
        ("TheBloke/Mistral-7B-Instruct-v0.2-GPTQ", "Mistral-7B-Instruct-v0.2"),
        ("mlx-community/Qwen3-8B-4bit", "Qwen3-8B"),
        ("unsloth/gemma-3-12b-it-unsloth-bnb-4bit", "gemma-3-12b-it"),
        ("RedHatAI/Llama-3.1-8B-Instruct-FP8-dynamic", "Llama-3.1-8B-Instruct"),
        ("/models/Qwen3-8B-4bit/", "Qwen3-8B"),
        ("./phi-4-w4a16", "phi-4"),
        ("Qwen/Qwen3-8B", None),
        ("/models/here", None),
    ],
)
def test_the_original_is_told_from_the_name(name: str, original: str | None) -> None:
    assert original_of({}, name) == original
    assert original_of({"_name_or_path": "Owner/Model"}, name) == "Owner/Model"
    assert original_of({"_name_or_path": "/srv/models/x"}, name) == original


def test_names_are_shown_without_folders() -> None:
    assert display_name("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B" and display_name("/a/b/Model") == "Model"
    assert display_name("/") == "this model"


@given(st.text() | st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.integers()))
def test_no_description_of_a_format_breaks_it(said: object) -> None:
    found = format_of(as_said(said))
    assert (found is None) == (not said)
    assert found is None or found.name.isprintable()


def test_a_model_that_is_not_quantised_is_held_as_is_asked() -> None:
    assert format_of({"quantization_config": None}) is None and format_of({}) is None
    for quantize in ("nf4", "int8", "none"):
        assert resolve_quantize(None, quantize, "cuda") == quantize
    assert resolve_quantize(None, "auto", "cuda") == "nf4" and resolve_quantize(None, "auto", "cpu") == "none"


# --- those that are taken as they come ---------------------------------------------------------------


def nll_of(model: loading.LanguageModel) -> Tensor:
    return chunk_nll(model.module, [1, 2, 3], list(range(40, 60)))


def copied(tiny_model: Path, folder: Path, said: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def in_fp8(tiny_model: Path, folder: Path) -> Path:
    weights = {}
    for name, weight in load_file(tiny_model / "model.safetensors").items():
        if "_proj." in name:
            scale = weight.abs().max() / 448
            weights[name] = (weight / scale).to(torch.float8_e4m3fn)
            weights[name.replace("weight", "weight_scale_inv")] = torch.full((1, 1), float(scale))
        else:
            weights[name] = weight
    return copied(tiny_model, folder, FP8, weights)


@pytest.mark.parametrize(
    ("how", "held", "layer"),
    [
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4", "Linear4bit"),
        ({"load_in_4bit": True}, "nf4", "Linear4bit"),
        ({"load_in_8bit": True}, "int8", "Linear8bitLt"),
    ],
    ids=["nf4", "fp4", "int8"],
)
def test_what_bitsandbytes_has_packed_is_learnt_over(
    how: dict[str, Any], held: str, layer: str, tiny_model: Path, tmp_path: Path
) -> None:
    packed = AutoModelForCausalLM.from_pretrained(
        tiny_model, quantization_config=BitsAndBytesConfig(**how), device_map={"": "cpu"}
    )
    folder = shutil.copytree(tiny_model, tmp_path / "packed-bnb")
    packed.save_pretrained(folder)
    model = loading.load(folder, ModelConfig(device="cpu"), TRAIN, seed=0)
    assert model.quantize == held
    base = model.module.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert type(base).__name__ == layer and base.weight.dtype.itemsize == 1
    plain = loading.load(tiny_model, ModelConfig(device="cpu"), TRAIN, seed=0)
    loss = nll_of(model)
    assert torch.allclose(loss, nll_of(plain), atol=0.1)
    loss.mean().backward()
    made = plan(shape_of(folder), Config(), GPU, header=128)
    assert made.quantize == held and not made.notes
    for other in {"nf4", "int8", "none"} - {held}:
        asked = ModelConfig(device="cpu", quantize=other, name=str(folder))
        with pytest.raises(TemploraError, match=f"cannot be loaded as {other}") as caught:
            loading.load(folder, asked, TRAIN, seed=0)
        assert caught.value.hint == f"--quantize {held}, or use the original, such as packed"
        with pytest.raises(TemploraError, match=f"cannot be loaded as {other}"):
            plan(shape_of(folder, str(folder)), Config(model=asked), GPU, header=128)


def test_fp8_is_unpacked_and_the_plan_says_so(tiny_model: Path, tmp_path: Path) -> None:
    folder = in_fp8(tiny_model, tmp_path / "fp8")
    model = loading.load(folder, ModelConfig(device="cpu"), TRAIN, seed=0)
    plain = loading.load(tiny_model, ModelConfig(device="cpu"), TRAIN, seed=0)
    assert model.quantize == "none"
    loss = nll_of(model)
    assert torch.allclose(loss, nll_of(plain), atol=0.1)
    loss.mean().backward()
    made, usual = (plan(shape_of(one), Config(), GPU, header=128) for one in (folder, tiny_model))
    assert (made.quantize, usual.quantize) == ("none", "nf4")
    assert made.parts["base"]["load"] == 2 * model.parameters > usual.parts["base"]["load"]
    assert made.notes == ("this model comes quantised as FP8, and its weights are unpacked to 16 bits each",)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_mxfp4_is_unpacked_or_packed_anew(quantize: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS["gpt_oss"]())
    weights, random = {}, torch.Generator().manual_seed(0)
    for name, weight in load_file(tmp_path / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, columns, rows = weight.shape
            blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), generator=random)
            weights[f"{name}_blocks"] = blocks.to(torch.uint8)
            weights[f"{name}_scales"] = torch.full((experts, rows, columns // 32), 121, dtype=torch.uint8)
        else:
            weights[name] = weight
    folder = copied(tmp_path, tmp_path / "mxfp4", {"quant_method": "mxfp4"}, weights)
    plain = loading.load(folder, ModelConfig(device="cpu"), TRAIN, seed=0)
    model = loading.load(folder, ModelConfig(device="cpu", quantize=quantize), TRAIN, seed=0)
    assert (plain.quantize, model.quantize) == ("none", quantize)
    assert model.parameters == plain.parameters == shape_of(folder).parameters
    loss = nll_of(model)
    assert torch.allclose(loss, nll_of(plain), atol=0.1)
    loss.mean().backward()
    shape = shape_of(folder)
    assert plan(shape, Config(), GPU, header=128).quantize == "nf4", "it is not unpacked where it need not be"
    held = plan(shape, Config(model=ModelConfig(quantize=quantize)), GPU, header=128).parts["base"]["load"]
    unpacked = 2 * shape.parameters
    assert held == unpacked if quantize == "none" else held < unpacked - 1.4 * shape.expert_weights
