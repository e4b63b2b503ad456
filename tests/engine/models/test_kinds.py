"""Architectures unlike Llama: recurrent and hybrid models, mixtures of experts, models with vision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft.tuners.lora import LoraLayer

from templora_cli.config import Config, ModelConfig, TrainConfig
from templora_cli.engine.decoding.choose import backend_name
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.models import loading
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.engine.models.shape import shape_of
from templora_cli.engine.training.forward import logits_at
from templora_cli.errors import TemploraError
from templora_cli.events import ChunkLearnt
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from tests.engine.models.tiny_kinds import KINDS, gemma3, qwen2_5_vl, save_tiny
from tests.loop import CONFIG, learnt, novel

TRAIN = TrainConfig(rank=4, alpha=4)
CPU = ModelConfig(device="cpu")
TEXT = list(b"It rained on the harbour and no ship came in.")


def loaded(folder: Path, model: ModelConfig = CPU, train: TrainConfig = TRAIN) -> LanguageModel:
    return loading.load(folder, model, train, seed=0)


def written(model: LanguageModel, config: Config = CONFIG) -> list[ChunkLearnt]:
    """Write and learn two chunks."""
    state = WritingState.begin(model, config)
    backend = EagerBackend(model.module)
    return learnt(list(write(novel(model.tokenizer, 24, "", config), model, backend, state, config)))


def adapted(model: LanguageModel) -> set[str]:
    """The last parts of the names of the layers with an adapter."""
    modules = model.module.named_modules()
    return {name.rpartition(".")[2] for name, part in modules if isinstance(part, LoraLayer)}


# --- recurrent and hybrid models, mixtures of experts ------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_chunks_are_written_and_learnt(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS[kind]())
    model = loaded(tmp_path)
    chunks = written(model)
    assert len(chunks) == 2 and all(len(chunk.train_losses) == 2 for chunk in chunks)
    assert chunks[0].train_losses[1] < chunks[0].train_losses[0], "the adapter learns"
    assert all(p.abs().sum() > 0 for name, p in model.adapter.items() if "lora_B" in name), "in every layer"
    shape = shape_of(tmp_path)
    assert 4 * sum(map(sum, shape.linears)) == sum(p.numel() for p in model.adapter.values())
    assert shape.parameters == model.parameters


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_with_a_cache_equals_a_single_pass(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS[kind]())
    module = loaded(tmp_path, train=TrainConfig(learn=False)).module
    with torch.no_grad():
        expected, _ = logits_at(module, TEXT, list(range(len(TEXT))))
        logits, cache = logits_at(module, TEXT[:20], [19], use_cache=True)
        for position in range(20, len(TEXT)):
            assert torch.allclose(logits[-1], expected[position - 1], atol=1e-4)
            if cache is None:  # this architecture has no cache
                logits, _ = logits_at(module, TEXT[: position + 1], [position])
            else:
                logits, cache = logits_at(
                    module, [TEXT[position]], [0], cache=cache, use_cache=True, start=position
                )


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_mamba"])
def test_layers_that_kernels_bypass_get_no_adapter(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS[kind]())
    assert adapted(loaded(tmp_path)) == {"in_proj"}
    quantised = loaded(tmp_path, ModelConfig(device="cpu", quantize="nf4"))
    layers = quantised.module.get_base_model().backbone.layers
    assert type(layers[0].mixer.in_proj.base_layer).__name__ == "Linear4bit"
    assert type(layers[0].mixer.out_proj) is torch.nn.Linear, "nor are they quantised"
    assert written(quantised)[1].train_losses


def test_a_hybrid_model_writes_with_checkpointing_and_without_learning(tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS["jamba"]())
    on = TrainConfig(rank=4, alpha=4, gradient_checkpointing="on")
    assert written(loaded(tmp_path, train=on))[1].train_losses
    assert not written(loaded(tmp_path, train=TrainConfig(learn=False)))[1].train_losses


def test_a_router_gets_no_adapter(tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS["llama4_text"]())
    assert "router" not in adapted(loaded(tmp_path))


def test_experts_of_a_mixture_get_no_adapter(tmp_path: Path) -> None:
    save_tiny(tmp_path, KINDS["qwen2_moe"]())
    model = loaded(tmp_path)
    names = {name for name, part in model.module.named_modules() if isinstance(part, LoraLayer)}
    assert names and not any(name.endswith("experts") for name in names)
    assert any("shared_expert." in name for name in names)


def test_an_architecture_that_fails_to_compute_is_refused_when_loaded(tmp_path: Path) -> None:
    config = transformers.CpmAntConfig(
        vocab_size=264, hidden_size=32, num_attention_heads=4, dim_head=8, dim_ff=64, num_hidden_layers=2
    )
    save_tiny(tmp_path, config)
    with pytest.raises(TemploraError, match=r"\(architecture cpmant\) cannot be used: ") as caught:
        loaded(tmp_path)
    assert caught.value.hint and "\n" not in caught.value.message


# --- models with vision ------------------------------------------------------------------------------


def logits_of(module: Any) -> torch.Tensor:
    with torch.no_grad():
        return module(input_ids=torch.tensor([TEXT])).logits[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("old", [False, True], ids=["new names", "names of the hub"])
def test_only_the_language_part_of_gemma3_is_loaded(old: bool, tmp_path: Path) -> None:
    whole = save_tiny(tmp_path, gemma3(), transformers.AutoModelForImageTextToText)
    if not old:
        whole.save_pretrained(tmp_path, save_original_format=False)
    model = loaded(tmp_path)
    assert type(model.module.get_base_model()).__name__ == "Gemma3ForCausalLM"
    assert backend_name(model, "auto") == "int8", "the fast backend"
    with model.without_adapter():
        assert torch.equal(logits_of(model.module), logits_of(whole))
    assert model.parameters == shape_of(tmp_path).parameters < whole.num_parameters()
    assert len(model.adapter) == 3 * 7 * 2


def test_an_untied_head_is_detected_from_the_weights(tmp_path: Path) -> None:
    text = {**gemma3().text_config.to_dict(), "model_type": "mistral", "sliding_window": None}
    text = {key: text[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size", "head_dim")}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    vision = {**gemma3().vision_config.to_dict(), "model_type": "pixtral"}
    for tied in (True, False):
        config = transformers.Mistral3Config(
            text_config={**text, **heads, "model_type": "mistral"},
            vision_config=vision,
            tie_word_embeddings=tied,
        )
        folder = tmp_path / str(tied)
        whole = save_tiny(folder, config, transformers.AutoModelForImageTextToText)
        model = loaded(folder)
        with model.without_adapter():
            assert torch.allclose(logits_of(model.module), logits_of(whole), atol=1e-5)


def test_without_a_class_for_the_language_part_only_that_part_gets_an_adapter(tmp_path: Path) -> None:
    whole = save_tiny(tmp_path, qwen2_5_vl(), transformers.AutoModelForImageTextToText)
    model = loaded(tmp_path)
    names = [name for name, part in model.module.named_modules() if isinstance(part, LoraLayer)]
    assert names and all(".language_model." in name for name in names)
    with model.without_adapter():
        assert torch.allclose(logits_of(model.module), logits_of(whole), atol=1e-5)
    assert written(model)[1].train_losses
    assert 4 * sum(map(sum, shape_of(tmp_path).linears)) == sum(p.numel() for p in model.adapter.values())
