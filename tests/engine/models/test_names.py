"""Typed names of models, and the models that they match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.engine.models.names import PROPOSED, SUGGESTED, WELL_KNOWN, meant, the_one, without_address

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
def test_an_unambiguous_name_is_resolved(typed: str, name: str) -> None:
    assert the_one(typed, KNOWN) == name == meant(typed, KNOWN)[0]


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
def test_an_ambiguous_or_inexact_name_only_has_proposals(typed: str, names: list[str]) -> None:
    assert meant(typed, KNOWN) == names
    assert the_one(typed, KNOWN) is None


@pytest.mark.parametrize("typed", ["gpt9", "", "8b", "..", "/nowhere", "x" * 5000, "no/such-model"])
def test_an_unknown_name_has_no_proposals(typed: str) -> None:
    assert meant(typed, KNOWN) == [] and the_one(typed, KNOWN) is None


@given(st.text(max_size=60))
def test_any_text_has_a_few_known_proposals_at_most(typed: str) -> None:
    proposals = meant(typed, KNOWN)
    assert len(proposals) <= PROPOSED and set(proposals) <= set(KNOWN)
    name = the_one(typed, KNOWN)
    assert name is None or name in KNOWN


def test_a_name_with_two_owners_is_ambiguous_without_an_owner() -> None:
    known = ["other/Qwen3-8B", *KNOWN]
    assert the_one("Qwen3-8B", known) is None
    assert the_one("other/qwen3-8b", known) == "other/Qwen3-8B"
    assert meant("Qwen3-8B", known)[:2] == ["other/Qwen3-8B", "Qwen/Qwen3-8B"]


@pytest.mark.parametrize("address", ["https://huggingface.co/", "huggingface.co/", "https://hf.co/", ""])
@pytest.mark.parametrize("rest", ["", "/tree/main", "?library=transformers"])
def test_the_address_of_a_page_is_removed(address: str, rest: str) -> None:
    if address or not rest:
        assert without_address(f"{address}Qwen/Qwen3-8B{rest}") == "Qwen/Qwen3-8B"


def test_suggested_models_are_sorted_by_size_and_have_a_licence() -> None:
    sizes = [one.download_bytes for one in SUGGESTED]
    assert sizes == sorted(sizes) and all(one.licence and one.kind == "chat" for one in SUGGESTED)
    assert len({one.name for one in WELL_KNOWN}) == len(WELL_KNOWN)
