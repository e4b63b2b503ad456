"""The memory plan: exact where memory can be counted, monotone, and refused with figures if too large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from templora_cli.commands.settings import settings_of
from templora_cli.config import (
    Config,
    DecodeConfig,
    GeneratedConfig,
    LearningConfig,
    ModelConfig,
    TrainConfig,
)
from templora_cli.config_layers import from_dict
from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend
from templora_cli.engine.decoding.protocols import BLOCK
from templora_cli.engine.memory import planner
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.parts import PHASES, Workload, layer_bytes
from templora_cli.engine.memory.planner import MARGIN, Plan, advice, plan_or_refuse
from templora_cli.engine.memory.sizes import USUAL_SIZES, UsualSize
from templora_cli.engine.models import loading
from templora_cli.engine.models.prequantized import format_of
from templora_cli.engine.models.shape import Shape, shape_of
from templora_cli.engine.training.fused_lora import fuse_lora_layers
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS

CPU = DeviceMemory("cpu", "float32", 20 * 10**9, 24 * 10**9, in_use=4 * 10**8, libraries=4 * 10**8)
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
    """Llama 2 7B, from its configuration alone."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("seven")
    LlamaConfig().save_pretrained(folder)
    return shape_of(folder)


def whole(**tables: Any) -> Config:
    """Settings that learn generated text as in the paper: whole chunks after the whole window."""
    return Config(generated=GeneratedConfig(context_tokens=2048, window_tokens=0), **tables)


def asked(**train: Any) -> Config:
    return whole(train=TrainConfig(**train))


def with_checkpointing(how: str) -> Config:
    return asked(gradient_checkpointing=how)


# --- shapes ------------------------------------------------------------------------------------------


def test_the_shape_is_read_from_the_configuration_alone(seven: Shape) -> None:
    assert seven.parameters == 6_738_415_616
    assert seven.linears_each == 7 and len(seven.linears) == 224


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shape_of_every_family_matches_its_model(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    config.save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    model = get_peft_model(AutoModelForCausalLM.from_config(config), lora(3))
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.parameters == model.get_base_model().num_parameters() - adapter
    assert 3 * sum(rows + columns for rows, columns in shape.linears) == adapter
    assert shape.norms == (4 if name == "gemma3" else 2)
    assert shape.head_norms == (name in ("gemma3", "qwen3"))
    windows = {"gemma3": (24, None, 24), "qwen3": (24, None, 24), "mistral, sliding": (24,) * 3}
    assert shape.windows == windows.get(name, (None,) * 3)


def test_an_architecture_with_other_names_is_planned(tmp_path: Path) -> None:
    GPT2Config(vocab_size=96, n_embd=32, n_layer=3, n_head=4).save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    assert (shape.hidden_size, shape.num_layers, shape.num_heads, shape.intermediate_size) == (32, 3, 4, 128)
    assert shape.linears_each == 4
    assert plan(shape, whole(), CPU).backend == "eager"


def test_a_folder_without_a_language_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    with pytest.raises(TemploraError, match="architecture vit"):
        shape_of(tmp_path)


# --- counted memory ----------------------------------------------------------------------------------


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


def test_quantised_weights_match_those_of_bitsandbytes(tiny_model: Path, shape: Shape) -> None:
    for quantize in ("nf4", "int8"):
        config = ModelConfig(device="cpu", quantize=quantize)
        loaded = loading.load(tiny_model, config, TrainConfig(learn=False), seed=0)
        measured = sum(p.nbytes for p in loaded.module.parameters())
        planned = plan(shape, Config(model=config), CPU).parts["base"]["load"]
        assert measured < planned < 1.1 * measured, "torch does not count the scales"


def test_cache_and_copy_of_the_int8_backend_are_exact(tiny_model: Path, shape: Shape) -> None:
    loaded = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    backend = Int8Backend(loaded.module)
    decode = DecodeConfig(chunk_tokens=100, context_tokens=300)
    backend.decoder.reserve(28 + 400)
    book_plan = plan(shape, whole(decode=decode), CPU, header=28)
    held = backend.decoder._keys.nbytes + backend.decoder._values.nbytes
    assert book_plan.backend == "int8" and BLOCK < 28 + 400
    assert book_plan.parts["cache"] == {"decode": held}
    backend.decoder.logits_after([5])
    copy = backend.decoder.quantized.weights
    blocks = copy.blocks
    matrices = (blocks.qkv, blocks.out, blocks.gate_up, blocks.down, copy.head)
    assert book_plan.parts["8-bit copy"]["score"] == sum(matrix.weight.nbytes for matrix in matrices)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_saved_activations_match_those_of_autograd(name: str, dropout: float, tmp_path: Path) -> None:
    """Each tensor that autograd saves is counted once."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "sliding_window": 512}
    config = CONFIGS[name]()
    for key, value in sizes.items():
        setattr(config, key, value)
    config.save_pretrained(tmp_path)
    train = TrainConfig(rank=8, alpha=8, dropout=dropout, gradient_checkpointing="off")
    model = get_peft_model(AutoModelForCausalLM.from_config(config), lora(8, dropout))
    fuse_lora_layers(model)
    model.train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = 64
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        loss = chunk_nll(model, [1], [2] * tokens).mean()
    logits = tokens * config.vocab_size * 4
    generated = GeneratedConfig(context_tokens=0, window_tokens=0)
    decode = DecodeConfig(chunk_tokens=tokens, context_tokens=0)
    settings = Config(decode=decode, train=train, generated=generated)
    book = Workload(shape_of(tmp_path), settings, CPU, chunk=tokens, header=0, quantize="none")
    assert sum(saved.values()) - logits == pytest.approx(3 * layer_bytes(book, tokens), rel=0.05)
    loss.backward()


# --- growth ------------------------------------------------------------------------------------------


def test_the_peak_is_that_of_the_largest_phase(seven: Shape) -> None:
    book_plan = plan(seven, whole(), GPU)
    assert (
        book_plan.peak == max(book_plan.phase(phase) for phase in PHASES) < sum(map(book_plan.phase, PHASES))
    )


def test_a_longer_header_takes_more(seven: Shape) -> None:
    book_plan, longer = (plan(seven, whole(), GPU, header=header) for header in (HEADER, HEADER + 1000))
    for phase in PHASES[1:]:
        assert longer.phase(phase) > book_plan.phase(phase)
    with pytest.raises(TemploraError, match="not enough memory"):
        plan_or_refuse(seven, whole(), room_of(book_plan.peak), header=HEADER + 1000)


def test_what_training_does_not_see_takes_no_memory_in_training(seven: Shape) -> None:
    shown, learnt, without = (
        planner.plan(seven, whole(), GPU, header=header, passing=passing)
        for header, passing in ((HEADER + 1000, 1000), (HEADER + 1000, 0), (HEADER, 0))
    )
    assert shown.phase("train") == without.phase("train") < learnt.phase("train")
    assert shown.phase("decode") == learnt.phase("decode") > without.phase("decode")


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
def test_memory_grows_with_each_setting(what: str, checkpointing: str, seven: Shape) -> None:
    configs = [GROWING[what](n) for n in (1, 2, 4)]
    checkpointed = [replace(c, train=replace(c.train, gradient_checkpointing=checkpointing)) for c in configs]
    for device_memory in (CPU, GPU):
        peaks = [plan(seven, config, device_memory).peak for config in checkpointed]
        assert peaks[0] < peaks[1] < peaks[2]


def test_memory_shrinks_without_learning_and_with_quantisation(seven: Shape) -> None:
    on, off = (plan(seven, with_checkpointing(how), CPU).peak for how in ("on", "off"))
    assert on < off, "without checkpointing"
    assert plan(seven, asked(learn=False), CPU).peak < on
    assert plan(seven, asked(dropout=0.05, gradient_checkpointing="off"), CPU).peak > off
    sizes = [
        plan(seven, Config(model=ModelConfig(quantize=quantize)), GPU).parts["base"]["load"]
        for quantize in ("nf4", "int8", "none")
    ]
    assert sizes == sorted(sizes) and sizes[0] == plan(seven, whole(), GPU).parts["base"]["load"]


def test_only_layers_that_are_not_fused_have_activations_of_the_adapter(seven: Shape) -> None:
    def scored(quantize: str, learn: bool) -> int:
        config = replace(asked(learn=learn), model=ModelConfig(quantize=quantize))
        return plan(seven, config, GPU).parts["activations"]["score"]

    assert scored("nf4", learn=True) == scored("nf4", learn=False) == scored("int8", learn=False)
    assert scored("int8", learn=True) > scored("int8", learn=False)


def test_a_model_published_in_8_bits_trains_with_float32_inputs(seven: Shape) -> None:
    """`auto` resolves to int8 for such a model, and is planned as if the user had set it."""
    published = replace(seven, quantization_format=format_of({"quantization_config": {"load_in_8bit": True}}))
    config = asked(gradient_checkpointing="off")
    auto, int8 = (
        plan(published, replace(config, model=ModelConfig(quantize=quantize)), GPU)
        for quantize in ("auto", "int8")
    )
    assert auto.quantize == "int8" and auto.parts == int8.parts


def test_the_recipe_with_the_longer_window_counts(seven: Shape) -> None:
    short = LearningConfig(context_tokens=0, window_tokens=64)
    long = LearningConfig(context_tokens=2048, window_tokens=0)
    both = [
        Config(human=g, generated=o) for g, o in ((short, long), (long, short), (long, long), (short, short))
    ]  # type: ignore[arg-type]
    peaks = [plan(seven, config, GPU).phase("train") for config in both]
    assert peaks[0] == peaks[1] == peaks[2] > peaks[3]


def test_replay_counts_where_its_step_is_the_peak(seven: Shape) -> None:
    """Its samples are computed when all gradients exist, so a long header can make it the larger half."""

    def train(optimizer: str, samples: int, header: int) -> int:
        settings = TrainConfig(gradient_checkpointing="on", optimizer=optimizer)
        config = Config(train=settings, generated=GeneratedConfig(replay_samples=samples))
        return plan(seven, config, GPU, header=header).phase("train")

    assert train("muon", 16, 1500) > train("muon", 0, 1500)
    assert train("muon", 16, 1500) == train("muon", 1, 1500), "one sample at a time"
    assert train("adamw", 16, HEADER) == train("adamw", 0, HEADER), "a step of AdamW takes more"


def test_the_cache_of_a_sliding_layer_is_limited_to_its_window(tmp_path: Path) -> None:
    CONFIGS["gemma3"]().save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    cache = plan(shape, whole(decode=DecodeConfig(backend="eager")), CPU).parts["cache"]["decode"]
    tokens = HEADER + 2048 + 1024
    assert cache == 2 * 2 * 16 * 4 * (24 + tokens + 24)


def test_the_cache_of_a_graph_has_all_positions_in_each_layer(tmp_path: Path) -> None:
    CONFIGS["gemma3"]().save_pretrained(tmp_path)
    book_plan = plan(shape_of(tmp_path), whole(decode=DecodeConfig(backend="graph")), GPU)
    positions = 3328  # a multiple of `BLOCK`
    assert book_plan.backend == "graph" and positions - BLOCK < HEADER + 2048 + 1024 <= positions
    assert book_plan.parts["cache"]["decode"] == 2 * 2 * 16 * GPU.bytes_each * 3 * positions


def test_the_plan_uses_the_backend_that_the_device_supports(tmp_path: Path) -> None:
    CONFIGS["llama"]().save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    for requested, device_memory, planned in (
        ("graph", CPU, "int8"),
        ("int8", GPU, "graph"),
        ("eager", GPU, "eager"),
    ):
        assert plan(shape, whole(decode=DecodeConfig(backend=requested)), device_memory).backend == planned


# --- choices and refusals ----------------------------------------------------------------------------


def room_of(free: float) -> DeviceMemory:
    return replace(GPU, free=int(free))


def test_checkpointing_is_chosen_only_for_lack_of_memory(seven: Shape) -> None:
    on, off = (plan(seven, with_checkpointing(how), GPU).peak for how in ("on", "off"))

    def chosen(free: float) -> Plan:
        return plan(seven, whole(), room_of(free))

    assert chosen(off * (1 + MARGIN) + 1).config.train.gradient_checkpointing == "off"
    tight = chosen(off * 1.01)
    assert tight.config.train.gradient_checkpointing == "on", "a plan may be wrong by the margin"
    assert chosen(on).fits and chosen(on).is_tight and not chosen(on - 1).fits
    explicit = plan(seven, with_checkpointing("off"), room_of(on))
    assert explicit.config.train.gradient_checkpointing == "off", "an explicit setting is not changed"


def safe(peak: int) -> DeviceMemory:
    """One in which that leaves just the margin."""
    return room_of(peak * (1 + MARGIN) + 1)


def test_what_cannot_fit_is_refused_with_figures_and_what_would_help(seven: Shape) -> None:
    peak = plan(seven, whole(), room_of(0)).peak
    with pytest.raises(TemploraError) as caught:
        plan_or_refuse(seven, whole(), room_of(peak - 1), header=HEADER)
    assert caught.value.message == (
        f"not enough memory on cuda: decoding needs about {peak / 1e9:.2f} GB (the model 3.87 GB, "
        f"the text in view 1.74 GB, state of learning 1.28 GB), and {(peak - 1) / 1e9:.2f} GB is available"
    )
    assert caught.value.hint == "add to the command: --set rank=16 --set alpha=16"
    assert plan_or_refuse(seven, whole(), room_of(peak), header=HEADER).peak == peak


RANK = "--set rank=32 --set alpha=32"
CHUNK = "--set chunk_tokens=512 --set decode.context_tokens=1024"


@pytest.mark.parametrize(
    ("config", "of", "flags"),
    [
        (with_checkpointing("off"), with_checkpointing("on"), "--set gradient_checkpointing=auto"),
        (
            whole(model=ModelConfig(quantize="none")),
            whole(),
            "--quantize nf4",
        ),
        (whole(), asked(rank=32, alpha=32), RANK),
        (asked(rank=64, alpha=16), asked(rank=32, alpha=8), "--set rank=32 --set alpha=8"),
        (
            whole(),
            whole(
                train=TrainConfig(rank=32, alpha=32),
                decode=DecodeConfig(chunk_tokens=512, context_tokens=1024),
            ),
            f"{RANK} {CHUNK}",
        ),
    ],
)
def test_advice_is_the_fewest_changes_that_leave_the_margin(
    config: Config, of: Config, flags: str, seven: Shape
) -> None:
    device_memory = safe(plan(seven, of, room_of(0)).peak)
    made = plan(seven, config, device_memory)
    assert not made.fits or made.is_tight
    found = advice(seven, config, device_memory, header=HEADER)
    assert (found.flags, found.learns, found.smaller) == (flags, True, None)
    assert found.text == f"add to the command: {flags}"


@given(
    free=st.integers(10**9, 60 * 10**9),
    rank=st.sampled_from([1, 8, 64, 256]),
    chunk=st.sampled_from([8, 256, 1024, 4096]),
    quantize=st.sampled_from(["auto", "none", "int8"]),
    checkpointing=st.sampled_from(["auto", "on", "off"]),
    learn=st.booleans(),
    device=st.sampled_from([CPU, GPU]),
)
def test_nothing_is_advised_that_is_tight(
    seven: Shape,
    free: int,
    rank: int,
    chunk: int,
    quantize: str,
    checkpointing: str,
    learn: bool,
    device: DeviceMemory,
) -> None:
    """What is advised is typed as it stands: with it the book fits, and by more than a plan may be wrong."""
    train = TrainConfig(rank=rank, learn=learn, gradient_checkpointing=checkpointing)
    config = Config(ModelConfig(quantize=quantize), DecodeConfig(chunk_tokens=chunk), train)
    device_memory = replace(device, free=free)
    found = advice(seven, config, device_memory, header=HEADER)
    assert found.learns or found.flags.endswith("--no-learn")
    if found.flags:
        made = plan(seven, typed(config, found.flags), device_memory)
        assert made.fits and not made.is_tight
    if found.smaller is not None:
        name, parameters = found.smaller
        assert parameters < seven.parameters and f"--model {name}" in found.text
        usual = next(size for size in USUAL_SIZES if size.name == name).shape()
        made = plan(usual, config, device_memory)
        assert made.fits and not made.is_tight


def typed(config: Config, flags: str) -> Config:
    """The settings with flags after them, as the command line reads them."""
    words, assignments = flags.split(), []
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == "--set":
            assignments.append(value)
        elif word == "--quantize":
            assignments.append(f"quantize={value}")
        elif word == "--no-learn":
            assignments.append("learn=false")
    tables = config.as_dict()
    for (table, key), value in settings_of(assignments, prefer="generated").items():
        tables[table][key] = value
    return from_dict(tables, "typed")


def test_where_no_setting_is_enough_smaller_models_are_named(seven: Shape) -> None:
    found = advice(seven, whole(), room_of(4 * 10**9), header=HEADER)
    assert found.text == "a model with 1.7 billion parameters fits, such as --model Qwen/Qwen3-1.7B"
    found = advice(seven, whole(), room_of(3 * 10**9), header=HEADER)
    assert found.text == "a model with 596 million parameters fits, such as --model Qwen/Qwen3-0.6B"


def test_a_book_that_does_not_learn_is_advised_last(seven: Shape) -> None:
    short = whole(decode=DecodeConfig(chunk_tokens=8, context_tokens=8), train=TrainConfig(rank=4, alpha=4))
    plain = replace(short, train=replace(short.train, learn=False))
    found = advice(seven, short, safe(plan(seven, plain, room_of(0)).peak), header=HEADER)
    assert not found.learns and found.smaller is not None
    assert found.text == (
        "a model with 4.0 billion parameters fits, such as --model Qwen/Qwen3-4B; "
        "this model fits without learning: --no-learn"
    )


def test_where_nothing_fits_at_all(seven: Shape) -> None:
    found = advice(seven, whole(), room_of(10**9), header=HEADER)
    assert found.text.startswith("close other programs")


@pytest.mark.parametrize("size", USUAL_SIZES, ids=lambda size: size.name)
def test_usual_sizes_are_those_that_their_names_say(size: UsualSize) -> None:
    said = float(size.name.rpartition("-")[2].rstrip("B"))
    assert size.shape().parameters == pytest.approx(said * 1e9, rel=0.06)


def test_memory_that_the_process_holds_already_is_available(shape: Shape) -> None:
    book_plan = plan(shape, whole(), replace(CPU, free=10**9, in_use=3 * 10**9))
    assert book_plan.available == 4 * 10**9 and book_plan.peak < 2 * 10**9
