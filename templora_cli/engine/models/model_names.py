"""Well-known models, and matching of incomplete names: `Qwen3-8B`, `llama-3.1-8b`, `mistral 7b instruct`.

Matches are suggested only. A model is downloaded only if its full name is typed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["chat", "base", ""]
"""A chat model follows a premise, a base model only continues a text. Empty if unknown."""


@dataclass(frozen=True)
class WellKnown:
    """A model that people often name without its owner."""

    name: str
    """Its Hugging Face id."""
    licence: str
    billions: float
    """Parameters, in billions."""
    kind: Kind = "chat"

    @property
    def download_bytes(self) -> int:
        """Approximate size of the download: all of these are published in 16 bits."""
        return int(self.billions * 2e9)


APACHE, MIT, GEMMA, LLAMA = "Apache-2.0", "MIT", "Gemma terms of use", "Llama licence"

SUGGESTED = (
    WellKnown("Qwen/Qwen3-0.6B", APACHE, 0.75),
    WellKnown("Qwen/Qwen3-1.7B", APACHE, 2.03),
    WellKnown("HuggingFaceTB/SmolLM3-3B", APACHE, 3.08),
    WellKnown("Qwen/Qwen3-4B", APACHE, 4.02),
    WellKnown("Qwen/Qwen3-4B-Instruct-2507", APACHE, 4.02),
    WellKnown("google/gemma-3-4b-it", GEMMA, 4.3),
    WellKnown("mistralai/Mistral-7B-Instruct-v0.3", APACHE, 7.25),
    WellKnown("meta-llama/Llama-3.1-8B-Instruct", LLAMA, 8.03),
    WellKnown("Qwen/Qwen3-8B", APACHE, 8.19),
    WellKnown("google/gemma-3-12b-it", GEMMA, 12.19),
    WellKnown("mistralai/Mistral-Nemo-Instruct-2407", APACHE, 12.25),
    WellKnown("microsoft/phi-4", MIT, 14.66),
    WellKnown("Qwen/Qwen3-14B", APACHE, 14.77),
    WellKnown("Qwen/Qwen3-32B", APACHE, 32.76),
)
"""Models of the Hub that `templora models list` shows, smallest first."""
WELL_KNOWN = (
    *SUGGESTED,
    WellKnown("Qwen/Qwen3-4B-Base", APACHE, 4.02, "base"),
    WellKnown("Qwen/Qwen3-8B-Base", APACHE, 8.19, "base"),
    WellKnown("Qwen/Qwen3-14B-Base", APACHE, 14.77, "base"),
    WellKnown("Qwen/Qwen2.5-1.5B-Instruct", APACHE, 1.54),
    WellKnown("Qwen/Qwen2.5-7B-Instruct", APACHE, 7.62),
    WellKnown("Qwen/Qwen2.5-14B-Instruct", APACHE, 14.77),
    WellKnown("Qwen/Qwen2.5-32B-Instruct", APACHE, 32.76),
    WellKnown("meta-llama/Llama-3.1-8B", LLAMA, 8.03, "base"),
    WellKnown("meta-llama/Llama-3.2-1B-Instruct", LLAMA, 1.24),
    WellKnown("meta-llama/Llama-3.2-3B-Instruct", LLAMA, 3.21),
    WellKnown("meta-llama/Meta-Llama-3-8B-Instruct", LLAMA, 8.03),
    WellKnown("mistralai/Mistral-7B-v0.3", APACHE, 7.25, "base"),
    WellKnown("mistralai/Mistral-Nemo-Base-2407", APACHE, 12.25, "base"),
    WellKnown("google/gemma-3-1b-it", GEMMA, 1.0),
    WellKnown("google/gemma-3-27b-it", GEMMA, 27.43),
    WellKnown("google/gemma-3-4b-pt", GEMMA, 4.3, "base"),
    WellKnown("google/gemma-3-12b-pt", GEMMA, 12.19, "base"),
    WellKnown("HuggingFaceTB/SmolLM2-360M-Instruct", APACHE, 0.36),
    WellKnown("HuggingFaceTB/SmolLM2-1.7B-Instruct", APACHE, 1.71),
    WellKnown("microsoft/Phi-4-mini-instruct", MIT, 3.84),
    WellKnown("TinyLlama/TinyLlama-1.1B-Chat-v1.0", APACHE, 1.1),
)
"""Models whose owners are hard to guess, with the sizes and licences of the publishers' pages."""

MAX_SUGGESTIONS = 3
"""Maximum number of names in a message."""
MAX_CHARACTERS = 100
"""Characters of a typed name that are compared; no model has a longer name."""
PACKED = re.compile(r"[-_. ](gguf|awq|gptq|fp8|bf16|f16|[34568]bit|i?q\d(_\w+)?|bnb.*)$")
"""Ends of the names of quantised copies; the original model is suggested for them."""
KINDS = {"instruct", "it", "chat", "base", "pt", "hf"}
"""Words that distinguish models of the same family and size."""


def without_address(name: str) -> str:
    """The id in the URL of a model's page; any other name unchanged."""
    match = re.match(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)", name)
    return match[1] if match else name


def unique_match(name: str, names: Iterable[str]) -> str | None:
    """The only name that equals `name`, ignoring owner and case; else the only one with all its words."""
    names = list(dict.fromkeys(names))
    matches = _same(name, names) or _with_words(_words(name), names)
    return matches[0] if len(matches) == 1 else None


def suggestions(name: str, names: Iterable[str]) -> list[str]:
    """Members of `names` that `name` may mean, most likely first, at most `MAX_SUGGESTIONS`.

    Those that equal it (ignoring owner and case) come first, then those with all its words. Only if there are
    none, similar spellings are returned.
    """
    names = list(dict.fromkeys(names))
    typed = name.strip().lower()[:MAX_CHARACTERS]
    while (unpacked := PACKED.sub("", typed)) != typed:
        typed = unpacked
    matches = _same(typed, names)
    words = _words(typed.rpartition("/")[2])
    matches += _with_words(words, names) or _with_words(words - KINDS, names)
    return list(dict.fromkeys(matches or _similar(typed, names)))[:MAX_SUGGESTIONS]


def is_same_name(name: str, other: str) -> bool:
    """Does `name` equal `other`, ignoring case and the owner of `other`?"""
    return name.strip().lower() in (other.lower(), other.lower().rpartition("/")[2])


def _same(name: str, names: list[str]) -> list[str]:
    return [other for other in names if is_same_name(name, other)]


def _with_words(words: set[str], names: list[str]) -> list[str]:
    """Names with all of the words, those with the fewest others first; none if no word has two letters."""
    if not any(word.isalpha() and len(word) > 1 for word in words):
        return []
    matches = [other for other in names if words <= _words(other)]
    return sorted(matches, key=lambda other: len(_words(other.rpartition("/")[2]) - words - KINDS))


def _words(name: str) -> set[str]:
    """Letters and numbers, separated: `qwen3:8b`, `Qwen3-8B` and `qwen 3 8b` have the same words."""
    return set(re.findall(r"[a-z]+|\d+(?:\.\d+)?", name.lower()))


def _similar(typed: str, names: list[str]) -> list[str]:
    """Names with a similar spelling."""
    by_spelling = {_without_separators(other.rpartition("/")[2]): other for other in reversed(names)}
    spelling = _without_separators(typed.rpartition("/")[2])
    close = difflib.get_close_matches(spelling, by_spelling, n=MAX_SUGGESTIONS, cutoff=0.8)
    return [by_spelling[match] for match in close]


def _without_separators(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())
