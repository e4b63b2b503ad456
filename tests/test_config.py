"""Layers of settings: who wins, and that every mistake is reported with its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.config import (
    GENERATED_LR_SHARE,
    MEASURED_LR,
    MEASURED_PARAMETERS,
    OPTIMIZERS,
    PAPER_LR,
    PAPER_PARAMETERS,
    RECIPES,
    Config,
    Layer,
    from_dict,
    learning_rate_for,
    resolve,
    with_learning_rates,
)
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


def test_the_papers_recipe_is_the_papers() -> None:
    paper = resolve([flags({"train": {"recipe": "paper"}})])
    for table, values in RECIPES["paper"].items():
        chosen = paper.as_dict()[table]
        assert {key: chosen[key] for key in values} == values
    assert paper.generated.lr == paper.human.lr == 5e-5 and paper.train.dropout == 0.05
    assert paper.train.optimizer == "adamw"
    assert not paper.gate.enabled, "the paper has none"
    assert with_learning_rates(paper, 1_000) == paper, "its rate is its own, whatever the model"


def test_a_rate_of_nothing_is_chosen_by_the_size_of_the_model() -> None:
    for optimizer in OPTIMIZERS:
        config = resolve([flags({"train": {"optimizer": optimizer}})])
        assert with_learning_rates(config, int(MEASURED_PARAMETERS)).human.lr == MEASURED_LR[optimizer]
        assert with_learning_rates(config, int(PAPER_PARAMETERS)).human.lr == PAPER_LR[optimizer]
        rates = [learning_rate_for(10**n, optimizer) for n in range(6, 13)]
        assert rates == sorted(rates, reverse=True) and all(0 < rate < 1 for rate in rates)
    asked = resolve([flags({"human": {"lr": 3e-3}, "generated": {"lr": 0}})])
    chosen = with_learning_rates(asked, 10**9)
    assert chosen.human.lr == 3e-3
    assert chosen.generated.lr == pytest.approx(
        GENERATED_LR_SHARE * learning_rate_for(10**9, "adamw"), rel=0.05
    )
    assert with_learning_rates(asked, int(MEASURED_PARAMETERS)).generated.lr == 2e-5


def test_a_recipe_flag_gives_the_recipe_whatever_the_files_say() -> None:
    values = {
        "train": {"rank": 3, "learn": False},
        "generated": {"lr": 0.5},
        "decode": {"chunk_tokens": 99, "top_k": 5},
    }
    file = Layer.of_file("templora.toml", values)
    config = resolve([file, flags({"train": {"recipe": "paper"}})])
    assert (config.generated.lr, config.train.rank, config.decode.chunk_tokens) == (5e-5, 64, 1024)
    assert config.decode.top_k == 5, "how tokens are drawn is no part of a recipe"
    assert config.train.learn is False, "learning or not is no part of a recipe"


@pytest.mark.parametrize("task", ["translation", "pairs"])
def test_a_translation_shows_the_sources_of_what_it_learns(task: str) -> None:
    assert resolve([]).generated.context_tokens == 0
    translation = resolve([], task)
    assert translation.generated == replace(resolve([]).generated, context_tokens=256)
    named = flags({"train": {"recipe": "default"}})
    assert resolve([named], task) == translation
    assert resolve([flags({"train": {"recipe": "paper"}})], task).generated.context_tokens == 2048
    asked = flags({"generated": {"context_tokens": 8}})
    assert resolve([named, asked], task).generated.context_tokens == 8


def test_a_translation_draws_by_its_own_settings() -> None:
    asked = flags({"decode": {"temperature": 3, "top_k": 5}, "translation": {"temperature": 0.5}})
    config = resolve([asked], "translation")
    assert (config.decode.temperature, config.decode.repetition_penalty) == (0.5, 1.0)
    assert config.decode.top_k == 5
    assert from_dict(config.as_dict(), "session.json") == config, "frozen as it was resolved"
    for task in ("novel", "pairs"):
        decode = resolve([asked], task).decode
        assert (decode.temperature, decode.repetition_penalty) == (3.0, 1.1)


def test_keys_beside_a_recipe_change_it() -> None:
    file = Layer.of_file("templora.toml", {"generated": {"lr": 0.5}, "train": {"recipe": "paper"}})
    config = resolve([file])
    assert (config.generated.lr, config.human.lr) == (0.5, 5e-5)


def test_all_mistakes_are_reported_together_each_with_its_place() -> None:
    file = Layer.of_file(
        "templora.toml",
        {"decode": {"top_p": 1.5, "chunk": 3}, "generated": {"lr": "fast"}, "colour": "red", "model": 7},
    )
    with pytest.raises(TemploraError) as caught:
        resolve([file, flags({"decode": {"chunk_tokens": 0}, "train": {"learn": 1}})])
    message = caught.value.message
    assert "7 settings are wrong" in message
    for place in (
        "templora.toml: [decode] top_p = 1.5: must be at most 1",
        "templora.toml: [decode] chunk: unknown",
        "templora.toml: [generated] lr = 'fast': must be a number",
        "templora.toml: colour: unknown",
        "templora.toml: model: is a table of settings",
        "--chunk-tokens = 0: must be at least 8",
        "--no-learn = 1: must be true or false",
    ):
        assert place in message, place


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
        ("model", "quantize", "fp4"),
        ("", "seed", -1),
    ],
)
def test_values_out_of_range(table: str, key: str, value: Any) -> None:
    values = {table: {key: value}} if table else {key: value}
    with pytest.raises(TemploraError, match=key.replace("_", "[-_]")):
        resolve([flags(values)])


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


def test_checkpointing_may_be_said_as_before_there_was_auto() -> None:
    for value, meant in ((True, "on"), (False, "off"), ("auto", "auto")):
        asked = Layer.of_file("config.toml", {"train": {"gradient_checkpointing": value}})
        assert resolve([asked]).train.gradient_checkpointing == meant
    for wrong in ("maybe", 3):
        with pytest.raises(TemploraError, match=f"= {wrong!r}: must be one of auto, on, off"):
            resolve([Layer.of_file("config.toml", {"train": {"gradient_checkpointing": wrong}})])
