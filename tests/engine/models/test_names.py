"""Names of models as people type them, and the models that match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.engine.models.model_names import (
    MAX_SUGGESTIONS,
    SUGGESTED,
    WELL_KNOWN,
    suggestions,
    unique_match,
    without_address,
)

KNOWN = ["smollm2-135m", "gemma3-270m", *(one.name for one in WELL_KNOWN)]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Qwen3-8B", "Qwen/Qwen3-8B"),
        ("qwen3-8b", "Qwen/Qwen3-8B"),
        ("qwen/qwen3-8b", "Qwen/Qwen3-8B"),
        (" Qwen3-8B ", "Qwen/Qwen3-8B"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("mistral 7b instruct", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("gemma-3-4b-it", "google/gemma-3-4b-it"),
        ("phi-4", "microsoft/phi-4"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("smollm2 1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    ],
)
def test_a_name_that_only_one_model_can_have(typed: str, name: str) -> None:
    assert unique_match(typed, KNOWN) == name == suggestions(typed, KNOWN)[0]


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("qwen3:8b", ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"]),
        ("qwen 3 14b", ["Qwen/Qwen3-14B", "Qwen/Qwen3-14B-Base"]),
        ("llama3.1", ["meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"]),
        ("mistral-7b", ["mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-7B-v0.3"]),
        ("Qwen3-8B-Instruct", ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"]),
        ("Qwen3-8B-GGUF", ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"]),
        ("Qwen3-8B-Q4_K_M", ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"]),
        ("unsloth/Qwen3-14B-bnb-4bit", ["Qwen/Qwen3-14B", "Qwen/Qwen3-14B-Base"]),
        ("quen3-8b", ["Qwen/Qwen3-8B"]),
        ("smolm2-135m", ["smollm2-135m"]),
    ],
)
def test_a_name_of_several_or_none_is_not_taken_for_one(typed: str, names: list[str]) -> None:
    assert suggestions(typed, KNOWN) == names
    assert unique_match(typed, KNOWN) is None


@pytest.mark.parametrize("typed", ["gpt9", "", "8b", "..", "/nowhere", "x" * 5000, "no/such-model"])
def test_what_means_nothing(typed: str) -> None:
    assert suggestions(typed, KNOWN) == [] and unique_match(typed, KNOWN) is None


@given(st.text(max_size=60))
def test_any_text_means_a_few_known_names_or_none(typed: str) -> None:
    found = suggestions(typed, KNOWN)
    assert len(found) <= MAX_SUGGESTIONS and set(found) <= set(KNOWN)
    one = unique_match(typed, KNOWN)
    assert one is None or one in KNOWN


def test_two_owners_of_one_name() -> None:
    known = ["other/Qwen3-8B", *KNOWN]
    assert unique_match("Qwen3-8B", known) is None
    assert unique_match("other/qwen3-8b", known) == "other/Qwen3-8B"
    assert suggestions("Qwen3-8B", known)[:2] == ["other/Qwen3-8B", "Qwen/Qwen3-8B"]


@pytest.mark.parametrize("address", ["https://huggingface.co/", "huggingface.co/", "https://hf.co/", ""])
@pytest.mark.parametrize("rest", ["", "/tree/main", "?library=transformers"])
def test_the_address_of_a_page(address: str, rest: str) -> None:
    if address or not rest:
        assert without_address(f"{address}Qwen/Qwen3-8B{rest}") == "Qwen/Qwen3-8B"


def test_what_is_suggested_goes_by_size_and_has_a_licence() -> None:
    sizes = [one.download_bytes for one in SUGGESTED]
    assert sizes == sorted(sizes) and all(one.licence and one.kind == "chat" for one in SUGGESTED)
    assert len({one.name for one in WELL_KNOWN}) == len(WELL_KNOWN)
