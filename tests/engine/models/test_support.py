"""Which models can be written with, by their configuration alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.models.shape import shape_of
from templora_cli.engine.models.support import LIST, read_config, unsupported_hint, unsupported_reason
from templora_cli.errors import TemploraError

BIDIRECTIONAL = "reads text in both directions and cannot continue it"
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("kind", "said", "reason"),
    [
        ("bert", {}, BIDIRECTIONAL),
        ("roberta", {"architectures": ["RobertaForMaskedLM"]}, BIDIRECTIONAL),
        ("modernbert", {}, BIDIRECTIONAL),
        ("t5", {"is_encoder_decoder": True}, "turns one text into another and cannot continue one"),
        ("bart", {"is_encoder_decoder": True}, "turns one text into another and cannot continue one"),
        ("whisper", {"is_encoder_decoder": True}, "is an audio model, not a text model"),
        ("wav2vec2", {}, "is an audio model, not a text model"),
        ("vit", {}, "is an image model, not a text model"),
        ("clip", {}, "is an image model, not a text model"),
        ("detr", {}, "is an image model, not a text model"),
        ("paligemma", {}, "answers questions about images and reads text in both directions"),
        (
            "qwen3",
            {"architectures": ["Qwen3ForSequenceClassification"]},
            "is a Qwen3ForSequenceClassification, which classifies text and does not write it",
        ),
    ],
)
def test_other_models_are_refused_by_name(
    kind: str, said: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    config = {"model_type": kind, **said}
    assert unsupported_reason(config, "some/model") == f"some/model (architecture {kind}) {reason}"
    assert unsupported_hint(config, "some/model") == LIST
    (tmp_path / "config.json").write_text(json.dumps(config))
    for learn in (True, False):  # in `doctor` and in `write`, with learning and without
        with pytest.raises(TemploraError, match=f"^here .architecture {kind}. {reason}$"):
            shape_of(tmp_path, "/models/here")
        with pytest.raises(TemploraError, match=f"^here .architecture {kind}. {reason}$"):
            model = ModelConfig(device="cpu", name="/models/here")
            loading.load(tmp_path, model, TrainConfig(learn=learn), seed=0)


@pytest.mark.parametrize(
    "kind",
    ["llama", "gpt2", "mamba", "mamba2", "jamba", "qwen3_next", "gemma3", "mistral3", "qwen2_5_vl", "llama4"],
)
def test_those_that_write_are_not(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    assert unsupported_reason(json.loads(config.to_json_string())) is None
    assert unsupported_reason({"model_type": kind}) is None


def test_a_decoder_made_of_a_model_that_reads_writes() -> None:
    assert unsupported_reason({"model_type": "bert", "is_decoder": True}) is None


def test_no_language_model_of_transformers_is_refused_for_what_it_is_not() -> None:
    refused = {kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if unsupported_reason({"model_type": kind})}
    assert not refused & {"llama", "mistral", "qwen3", "gemma3_text", "phi3", "granite", "olmo2", "gpt_oss"}
    assert "bert" in refused and "trocr" in refused


def test_what_transformers_does_not_know_and_code_that_comes_with_a_model() -> None:
    reason = unsupported_reason({"model_type": "quux", "auto_map": {"AutoConfig": "evil.Config"}}, "x")
    assert reason is not None and "(architecture quux) cannot be loaded: transformers " in reason
    assert reason.endswith("does not support it, and templora does not run code from model repositories")
    assert "run code" not in str(unsupported_reason({"model_type": "quux"}, "x"))
    assert (
        unsupported_reason({}, "x")
        == "x cannot be loaded: its config.json names no architecture (model_type)"
    )


@given(st.dictionaries(st.sampled_from(["model_type", "architectures", "text_config", "x"]), JSON))
def test_no_configuration_breaks_it(config: dict[str, Any]) -> None:
    reason = unsupported_reason(config, "a/b")
    assert reason is None or (reason.isprintable() and len(reason) < 200)


@pytest.mark.parametrize("content", ["[]", "{", "3", ""])
def test_a_damaged_config(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(TemploraError, match=r"its config\.json is damaged"):
        read_config(tmp_path)
