"""Layers of settings: precedence, and errors with their sources."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.config import RECIPES, Config, with_learning_rates
from templora_cli.config_layers import Layer, from_dict, resolve
from templora_cli.errors import TemploraError


def flags(values: dict[str, Any]) -> Layer:
    return Layer.of_flags(values, {("train", "learn"): "--no-learn"})


def test_defaults_are_those_of_the_dataclasses() -> None:
    assert resolve([]) == Config()


def test_later_layers_win() -> None:
    user = Layer.of_file("config.toml", {"decode": {"top_p": 0.5, "top_k": 7}, "seed": 1})
    project = Layer.of_file("templora.toml", {"decode": {"top_p": 0.6}, "seed": 2})
    config = resolve([user, project, flags({"seed": 3})])
    assert (config.decode.top_p, config.decode.top_k, config.seed) == (0.6, 7, 3)


def test_the_paper_recipe_has_the_published_settings() -> None:
    paper = resolve([flags({"train": {"recipe": "paper"}})])
    for table, values in RECIPES["paper"].items():
        chosen = paper.as_dict()[table]
        assert {key: chosen[key] for key in values} == values
    assert paper.generated.lr == paper.human.lr == 5e-5 and paper.train.dropout == 0.05
    assert paper.train.optimizer == "adamw"
    assert not paper.gate.enabled, "the paper has no gate"
    assert with_learning_rates(paper, 1_000, "gemma3_text") == paper, "its rate does not depend on the model"


def test_a_recipe_flag_overrides_all_files() -> None:
    values = {
        "train": {"rank": 3, "learn": False},
        "generated": {"lr": 0.5},
        "decode": {"chunk_tokens": 99, "top_k": 5},
    }
    file = Layer.of_file("templora.toml", values)
    config = resolve([file, flags({"train": {"recipe": "paper"}})])
    assert (config.generated.lr, config.train.rank, config.decode.chunk_tokens) == (5e-5, 64, 1024)
    assert config.decode.top_k == 5, "sampling is not part of a recipe"
    assert config.train.learn is False, "learning is not part of a recipe"


@pytest.mark.parametrize("task", ["translation", "pairs"])
def test_translations_are_learnt_with_their_sources_as_context(task: str) -> None:
    assert resolve([]).generated.context_tokens == 0
    translation = resolve([], task)
    assert translation.generated == replace(resolve([]).generated, context_tokens=256)
    named = flags({"train": {"recipe": "default"}})
    assert resolve([named], task) == translation
    assert resolve([flags({"train": {"recipe": "paper"}})], task).generated.context_tokens == 2048
    flag_layer = flags({"generated": {"context_tokens": 8}})
    assert resolve([named, flag_layer], task).generated.context_tokens == 8


def test_a_translation_samples_with_its_own_settings() -> None:
    flag_layer = flags({"decode": {"temperature": 3, "top_k": 5}, "translation": {"temperature": 0.5}})
    config = resolve([flag_layer], "translation")
    assert (config.decode.temperature, config.decode.repetition_penalty) == (0.5, 1.0)
    assert config.decode.top_k == 5
    assert from_dict(config.as_dict(), "session.json") == config, "session.json holds the resolved values"
    for task in ("novel", "pairs"):
        decode = resolve([flag_layer], task).decode
        assert (decode.temperature, decode.repetition_penalty) == (3.0, 1.1)


def test_keys_in_the_layer_of_a_recipe_override_it() -> None:
    file = Layer.of_file("templora.toml", {"generated": {"lr": 0.5}, "train": {"recipe": "paper"}})
    config = resolve([file])
    assert (config.generated.lr, config.human.lr) == (0.5, 5e-5)


def test_all_errors_are_reported_together_with_their_sources() -> None:
    file = Layer.of_file(
        "templora.toml",
        {"decode": {"top_p": 1.5, "chunk": 3}, "generated": {"lr": "fast"}, "colour": "red", "model": 7},
    )
    with pytest.raises(TemploraError) as caught:
        resolve([file, flags({"decode": {"chunk_tokens": 0}, "train": {"learn": 1}})])
    message = caught.value.message
    assert "7 settings are wrong" in message
    for line in (
        "templora.toml: [decode] top_p = 1.5: must be at most 1",
        "templora.toml: [decode] chunk: unknown",
        "templora.toml: [generated] lr = 'fast': must be a number",
        "templora.toml: colour: unknown",
        "templora.toml: model: must be a table of settings",
        "--chunk-tokens 0: must be at least 8",
        "--no-learn 1: must be true or false",
    ):
        assert line in message, line


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("human", "lr", -1e-9),
        ("generated", "lr", float("nan")),
        ("generated", "lr", float("inf")),
        ("generated", "epochs", 1.5),
        ("train", "rank", True),
        ("decode", "temperature", -0.1),
        ("decode", "top_p", 0),
        ("decode", "dry_breakers", "*"),
        ("decode", "dry_breakers", ["*", 1]),
        ("decode", "dry_breakers", ["*", ""]),
        ("model", "quantize", "fp4"),
        ("", "seed", -1),
    ],
)
def test_values_out_of_range(table: str, key: str, value: Any) -> None:
    values = {table: {key: value}} if table else {key: value}
    with pytest.raises(TemploraError, match=key.replace("_", "[-_]")):
        resolve([flags(values)])


def test_a_list_of_texts_is_a_setting() -> None:
    config = resolve([Layer.of_file("templora.toml", {"decode": {"dry_breakers": ["\n", "»"]}})])
    assert config.decode.dry_breakers == ("\n", "»")
    assert config.as_dict()["decode"]["dry_breakers"] == ["\n", "»"], "as it is in session.json"
    assert from_dict(config.as_dict(), "session.json") == config


def test_a_whole_number_is_a_number() -> None:
    assert resolve([flags({"decode": {"temperature": 1}})]).decode.temperature == 1.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(["model", "decode", "train", "session", "seed", "prompts", "x"]),
)
def test_any_value_anywhere_gives_a_config_or_one_clear_error(value: Any, key: str) -> None:
    for values in ({key: value}, {"decode": {key: value}}, {"train": {"lr": value, "rank": value}}):
        try:
            config = resolve([Layer.of_file("f", values)])
        except TemploraError as error:
            assert "f: " in error.message
        else:
            assert from_dict(config.as_dict(), "again") == config


def test_gradient_checkpointing_accepts_booleans() -> None:
    for value, expected in ((True, "on"), (False, "off"), ("auto", "auto")):
        layer = Layer.of_file("config.toml", {"train": {"gradient_checkpointing": value}})
        assert resolve([layer]).train.gradient_checkpointing == expected
    for invalid in ("maybe", 3):
        with pytest.raises(TemploraError, match=f"= {invalid!r}: must be one of auto, on, off"):
            resolve([Layer.of_file("config.toml", {"train": {"gradient_checkpointing": invalid}})])
