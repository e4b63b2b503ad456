"""What a book takes of memory: exact where it can be counted, monotone, and refused with figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from templora_cli.config import (
    Config,
    DecodeConfig,
    GeneratedConfig,
    LearningConfig,
    ModelConfig,
    TrainConfig,
)
from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend
from templora_cli.engine.decoding.protocols import BLOCK
from templora_cli.engine.memory import planner
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.parts import PHASES, Workload, layer_bytes
from templora_cli.engine.memory.planner import MARGIN, Plan, advice, plan_or_refuse
from templora_cli.engine.models import loading
from templora_cli.engine.models.shape import Shape, shape_of
from templora_cli.engine.training.fused_lora import fuse_lora_layers
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError
from tests.engine.decoding.cpu.test_decoder import CONFIGS

CPU = DeviceMemory("cpu", "float32", 20 * 10**9, 24 * 10**9, held=4 * 10**8, libraries=4 * 10**8)
GPU = DeviceMemory("cuda", "bfloat16", 24 * 10**9, 24 * 10**9)
HEADER = 128


def plan(shape: Shape, config: Config, device_memory: DeviceMemory, *, header: int = HEADER) -> Plan:
    return planner.plan(shape, config, device_memory, header=header)


def lora(rank: int, dropout: float = 0.0) -> LoraConfig:
    how = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    return LoraConfig(r=rank, lora_alpha=rank, lora_dropout=dropout, **how)


@pytest.fixture(scope="module")
def shape(tiny_model: Path) -> Shape:
    return shape_of(tiny_model)


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Shape:
    """Llama-2 7B, of which there is only the configuration."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("seven")
    LlamaConfig().save_pretrained(folder)
    return shape_of(folder)


def whole(**tables: Any) -> Config:
    """Settings with which own text is learnt as in the paper, the whole chunk after the whole window."""
    return Config(generated=GeneratedConfig(context_tokens=2048, window_tokens=0), **tables)


def asked(**train: Any) -> Config:
    return whole(train=TrainConfig(**train))


def with_checkpointing(how: str) -> Config:
    return asked(gradient_checkpointing=how)


# --- shapes ------------------------------------------------------------------------------------------


def test_a_configuration_is_enough_for_the_parameters(seven: Shape) -> None:
    assert seven.parameters == 6_738_415_616
    assert seven.linears_each == 7 and len(seven.linears) == 224


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shape_of_a_family_is_that_of_the_model(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    config.save_pretrained(tmp_path)
    found = shape_of(tmp_path)
    model = get_peft_model(AutoModelForCausalLM.from_config(config), lora(3))
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.parameters == model.get_base_model().num_parameters() - adapter
    assert 3 * sum(rows + columns for rows, columns in found.linears) == adapter
    assert found.norms == (4 if name == "gemma3" else 2)
    assert found.head_norms == (name in ("gemma3", "qwen3"))
    windows = {"gemma3": (24, None, 24), "qwen3": (24, None, 24), "mistral, sliding": (24,) * 3}
    assert found.windows == windows.get(name, (None,) * 3)


def test_an_architecture_of_other_names(tmp_path: Path) -> None:
    GPT2Config(vocab_size=96, n_embd=32, n_layer=3, n_head=4).save_pretrained(tmp_path)
    found = shape_of(tmp_path)
    assert (found.hidden_size, found.num_layers, found.num_heads, found.intermediate_size) == (32, 3, 4, 128)
    assert found.linears_each == 4
    assert plan(found, whole(), CPU).backend == "eager"


def test_a_folder_that_is_no_language_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    with pytest.raises(TemploraError, match="architecture vit"):
        shape_of(tmp_path)


# --- what can be counted -----------------------------------------------------------------------------


def test_base_adapter_and_moments_are_exact(tiny_model: Path, shape: Shape) -> None:
    train = TrainConfig(rank=4, alpha=4)
    loaded = loading.load(tiny_model, ModelConfig(device="cpu"), train, seed=0)
    parts = plan(shape, Config(train=train), CPU).parts
    adapter = sum(p.nbytes for p in loaded.adapter.values())
    assert parts["adapter"]["train"] == adapter
    assert parts["optimizer"]["decode"] == 2 * adapter and "load" not in parts["optimizer"]
    assert parts["base"]["load"] == 4 * loaded.parameters
    muon = plan(shape, Config(train=replace(train, optimizer="muon")), CPU)
    assert muon.parts["optimizer"]["train"] == adapter


def test_four_and_eight_bits_are_those_of_bitsandbytes(tiny_model: Path, shape: Shape) -> None:
    for quantize in ("nf4", "int8"):
        config = ModelConfig(device="cpu", quantize=quantize)
        loaded = loading.load(tiny_model, config, TrainConfig(learn=False), seed=0)
        held = sum(p.nbytes for p in loaded.module.parameters())
        planned = plan(shape, Config(model=config), CPU).parts["base"]["load"]
        assert held < planned < 1.1 * held, "the scales come on top of what torch counts"


def test_cache_and_copy_of_the_int8_backend_are_exact(tiny_model: Path, shape: Shape) -> None:
    loaded = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    backend = Int8Backend(loaded.module)
    decode = DecodeConfig(chunk_tokens=100, context_tokens=300)
    backend.decoder.reserve(28 + 400)
    made = plan(shape, whole(decode=decode), CPU, header=28)
    held = backend.decoder._keys.nbytes + backend.decoder._values.nbytes
    assert made.backend == "int8" and BLOCK < 28 + 400
    assert made.parts["cache"] == {"decode": held}
    backend.decoder.logits_after([5])
    copy = backend.decoder.copy.model
    blocks = copy.blocks
    matrices = (blocks.qkv, blocks.out, blocks.gate_up, blocks.down, copy.head)
    assert made.parts["8-bit copy"]["score"] == sum(matrix.weight.nbytes for matrix in matrices)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_what_is_kept_for_the_backward_pass(name: str, dropout: float, tmp_path: Path) -> None:
    """Against what autograd keeps, each tensor counted once."""
    wide = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "sliding_window": 512}
    config = CONFIGS[name]()
    for key, value in wide.items():
        setattr(config, key, value)
    config.save_pretrained(tmp_path)
    train = TrainConfig(rank=8, alpha=8, dropout=dropout, gradient_checkpointing="off")
    model = get_peft_model(AutoModelForCausalLM.from_config(config), lora(8, dropout))
    fuse_lora_layers(model)
    model.train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = 64
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = chunk_nll(model, [1], [2] * tokens).mean()
    logits = tokens * config.vocab_size * 4
    own = GeneratedConfig(context_tokens=0, window_tokens=0)
    decode = DecodeConfig(chunk_tokens=tokens, context_tokens=0)
    asked_for = Config(decode=decode, train=train, generated=own)
    book = Workload(shape_of(tmp_path), asked_for, CPU, chunk=tokens, header=0, quantize="none")
    assert sum(kept.values()) - logits == pytest.approx(3 * layer_bytes(book, tokens), rel=0.05)
    loss.backward()


# --- how it grows ------------------------------------------------------------------------------------


def test_the_peak_is_that_of_the_dearest_phase(seven: Shape) -> None:
    made = plan(seven, whole(), GPU)
    assert made.peak == max(made.phase(phase) for phase in PHASES) < sum(map(made.phase, PHASES))


def test_a_longer_header_takes_more(seven: Shape) -> None:
    made, longer = (plan(seven, whole(), GPU, header=header) for header in (HEADER, HEADER + 1000))
    for phase in PHASES[1:]:
        assert longer.phase(phase) > made.phase(phase)
    with pytest.raises(TemploraError, match="not enough memory"):
        plan_or_refuse(seven, whole(), room_of(made.peak), header=HEADER + 1000)


GROWING: dict[str, Callable[[int], Config]] = {
    "chunk": lambda n: whole(decode=DecodeConfig(chunk_tokens=256 * n)),
    "context": lambda n: whole(decode=DecodeConfig(context_tokens=512 * n)),
    "rank": lambda n: asked(rank=8 * n),
    "teacher": lambda n: Config(
        generated=GeneratedConfig(objective="distill", teacher_context_tokens=2**20 * n),
        human=LearningConfig(epochs=1),
    ),
}


@pytest.mark.parametrize("what", GROWING)
@pytest.mark.parametrize("checkpointing", ["on", "off"])
def test_more_takes_more(what: str, checkpointing: str, seven: Shape) -> None:
    configs = [GROWING[what](n) for n in (1, 2, 4)]
    checkpointed = [replace(c, train=replace(c.train, gradient_checkpointing=checkpointing)) for c in configs]
    for device_memory in (CPU, GPU):
        peaks = [plan(seven, config, device_memory).peak for config in checkpointed]
        assert peaks[0] < peaks[1] < peaks[2]


def test_less_takes_less(seven: Shape) -> None:
    on, off = (plan(seven, with_checkpointing(how), CPU).peak for how in ("on", "off"))
    assert on < off, "without checkpointing"
    assert plan(seven, asked(learn=False), CPU).peak < on
    assert plan(seven, asked(dropout=0.05, gradient_checkpointing="off"), CPU).peak > off
    sizes = [
        plan(seven, Config(model=ModelConfig(quantize=held)), GPU).parts["base"]["load"]
        for held in ("nf4", "int8", "none")
    ]
    assert sizes == sorted(sizes) and sizes[0] == plan(seven, whole(), GPU).parts["base"]["load"]


def test_only_layers_that_are_not_lean_hold_the_adapters_part_apart(seven: Shape) -> None:
    def scored(quantize: str, learn: bool) -> int:
        config = replace(asked(learn=learn), model=ModelConfig(quantize=quantize))
        return plan(seven, config, GPU).parts["activations"]["score"]

    assert scored("nf4", learn=True) == scored("nf4", learn=False) == scored("int8", learn=False)
    assert scored("int8", learn=True) > scored("int8", learn=False)


def test_the_longer_of_both_recipes_counts(seven: Shape) -> None:
    short = LearningConfig(context_tokens=0, window_tokens=64)
    long = LearningConfig(context_tokens=2048, window_tokens=0)
    both = [
        Config(human=g, generated=o) for g, o in ((short, long), (long, short), (long, long), (short, short))
    ]  # type: ignore[arg-type]
    peaks = [plan(seven, config, GPU).phase("train") for config in both]
    assert peaks[0] == peaks[1] == peaks[2] > peaks[3]


def test_a_layer_with_a_window_keeps_no_more(tmp_path: Path) -> None:
    CONFIGS["gemma3"]().save_pretrained(tmp_path)
    found = shape_of(tmp_path)
    cache = plan(found, whole(decode=DecodeConfig(backend="eager")), CPU).parts["cache"]["decode"]
    tokens = HEADER + 2048 + 1024
    assert cache == 2 * 2 * 16 * 4 * (24 + tokens + 24)


def test_a_graph_keeps_as_many_places_in_each_layer(tmp_path: Path) -> None:
    CONFIGS["gemma3"]().save_pretrained(tmp_path)
    made = plan(shape_of(tmp_path), whole(decode=DecodeConfig(backend="graph")), GPU)
    places = 3328  # a multiple of them
    assert made.backend == "graph" and places - BLOCK < HEADER + 2048 + 1024 <= places
    assert made.parts["cache"]["decode"] == 2 * 2 * 16 * GPU.bytes_each * 3 * places


def test_a_backend_that_loading_will_refuse_is_not_planned_with(tmp_path: Path) -> None:
    CONFIGS["llama"]().save_pretrained(tmp_path)
    found = shape_of(tmp_path)
    for wanted, device_memory, planned in (
        ("graph", CPU, "int8"),
        ("int8", GPU, "graph"),
        ("eager", GPU, "eager"),
    ):
        assert plan(found, whole(decode=DecodeConfig(backend=wanted)), device_memory).backend == planned


# --- what is chosen, and what is refused -------------------------------------------------------------


def room_of(free: float) -> DeviceMemory:
    return replace(GPU, free=int(free))


def test_checkpointing_only_where_the_memory_demands_it(seven: Shape) -> None:
    on, off = (plan(seven, with_checkpointing(how), GPU).peak for how in ("on", "off"))

    def chosen(free: float) -> Plan:
        return plan(seven, whole(), room_of(free))

    assert chosen(off * (1 + MARGIN) + 1).config.train.gradient_checkpointing == "off"
    tight = chosen(off * 1.01)
    assert tight.config.train.gradient_checkpointing == "on", "a plan may be wrong by as much"
    assert chosen(on).fits and chosen(on).is_tight and not chosen(on - 1).fits
    kept = plan(seven, with_checkpointing("off"), room_of(on))
    assert kept.config.train.gradient_checkpointing == "off", "what was said is done"


def test_what_cannot_fit_is_refused_with_figures_and_what_would_help(seven: Shape) -> None:
    peak = plan(seven, whole(), room_of(0)).peak
    with pytest.raises(TemploraError) as caught:
        plan_or_refuse(seven, whole(), room_of(peak - 1), header=HEADER)
    assert caught.value.message == (
        f"not enough memory: to decode takes {peak / 1e9:.2f} GB (base 3.87 GB, cache 1.74 GB, "
        f"optimizer 1.28 GB), and {(peak - 1) / 1e9:.2f} GB are there on cuda"
    )
    assert caught.value.hint == "--set chunk_tokens=512 --set decode.context_tokens=1024"
    assert plan_or_refuse(seven, whole(), room_of(peak), header=HEADER).peak == peak


@pytest.mark.parametrize(
    ("config", "of", "hint"),
    [
        (with_checkpointing("off"), with_checkpointing("on"), "--set gradient_checkpointing=auto"),
        (
            whole(model=ModelConfig(quantize="none")),
            whole(),
            "--quantize nf4",
        ),
        (whole(), asked(rank=16), "--set rank=16"),
        (
            whole(),
            whole(train=TrainConfig(rank=16), decode=DecodeConfig(chunk_tokens=512, context_tokens=1024)),
            "--set chunk_tokens=512 --set decode.context_tokens=1024 --set rank=16",
        ),
        (whole(), asked(learn=False, rank=1), "--no-learn"),
    ],
)
def test_advice_is_the_fewest_changes_that_help(config: Config, of: Config, hint: str, seven: Shape) -> None:
    free = plan(seven, of, room_of(0)).peak
    assert not plan(seven, config, room_of(free)).fits
    assert advice(seven, config, room_of(free), header=HEADER) == hint


def test_where_nothing_helps_a_smaller_model_does(seven: Shape) -> None:
    assert "smaller --model" in advice(seven, whole(), room_of(10**9), header=HEADER)


def test_what_the_process_holds_already_is_not_taken_twice(shape: Shape) -> None:
    made = plan(shape, whole(), replace(CPU, free=10**9, held=3 * 10**9))
    assert made.available == 4 * 10**9 and made.peak < 2 * 10**9
