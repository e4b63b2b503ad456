"""Which model a name means that is not quite one: `Qwen3-8B`, `llama-3.1-8b`, `mistral 7b instruct`.

What may be meant is proposed, and nothing of it is fetched for that: whoever downloads types the whole name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["chat", "base", ""]
"""Does it follow a premise, or only go on with a text? Empty where nobody has said."""


@dataclass(frozen=True)
class WellKnown:
    """A model that people ask for by a part of its name."""

    name: str
    """Its Hugging Face id."""
    licence: str
    billions: float
    """Parameters."""
    kind: Kind = "chat"

    @property
    def download_bytes(self) -> int:
        """About what `pull` fetches: all of these are published in 16 bits."""
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
"""What `templora models list` shows of the Hub, smaller ones first."""
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
"""Models of families whose owners one has to know, with the sizes and licences of the publishers' pages."""

PROPOSED = 3
"""Names in a message at most."""
LONGEST = 100
"""Characters of a name that is looked at: what is longer is none."""
PACKED = re.compile(r"[-_. ](gguf|awq|gptq|fp8|bf16|f16|[34568]bit|i?q\d(_\w+)?|bnb.*)$")
"""What the names of packed copies end in, whose plain model is meant."""
KINDS = {"instruct", "it", "chat", "base", "pt", "hf"}
"""Words that say which of two models of one size it is."""


def without_address(name: str) -> str:
    """The id in the address of a model's page; any other name as it is."""
    found = re.match(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)", name)
    return found[1] if found else name


def the_one(name: str, known: Iterable[str]) -> str | None:
    """The only one among `known` that is `name` but for owner and capitals; where none is, the only one that
    has all its words.
    """
    known = list(dict.fromkeys(known))
    found = _same(name, known) or _with_words(_words(name), known)
    return found[0] if len(found) == 1 else None


def meant(name: str, known: Iterable[str]) -> list[str]:
    """Names among `known` that `name` may stand for, the likeliest first, at most `PROPOSED`.

    First those that it is but for owner and capitals, then those that have all its words, then those that
    are spelt nearly so.
    """
    known = list(dict.fromkeys(known))
    typed = name.strip().lower()[:LONGEST]
    while (plain := PACKED.sub("", typed)) != typed:
        typed = plain
    found = _same(typed, known)
    without_owner = _words(typed.rpartition("/")[2])
    found += _with_words(without_owner, known) or _with_words(without_owner - KINDS, known)
    return list(dict.fromkeys(found or _near(typed, known)))[:PROPOSED]


def is_same_name(name: str, other: str) -> bool:
    """Is `other` what was typed, but for its owner and for capitals?"""
    return name.strip().lower() in (other.lower(), other.lower().rpartition("/")[2])


def _same(name: str, known: list[str]) -> list[str]:
    return [other for other in known if is_same_name(name, other)]


def _with_words(words: set[str], known: list[str]) -> list[str]:
    """Those with all of the words, and fewest others first; words without a letter mean nothing."""
    if not any(word.isalpha() and len(word) > 1 for word in words):
        return []
    having = [other for other in known if words <= _words(other)]
    return sorted(having, key=lambda other: len(_words(other.rpartition("/")[2]) - words - KINDS))


def _words(name: str) -> set[str]:
    """Letters and numbers apart: `qwen3:8b`, `Qwen3-8B` and `qwen 3 8b` have the same."""
    return set(re.findall(r"[a-z]+|\d+(?:\.\d+)?", name.lower()))


def _near(typed: str, known: list[str]) -> list[str]:
    """Those that are spelt nearly so."""
    squeezed = {_squeezed(other.rpartition("/")[2]): other for other in reversed(known)}
    near = difflib.get_close_matches(_squeezed(typed.rpartition("/")[2]), squeezed, n=PROPOSED, cutoff=0.8)
    return [squeezed[one] for one in near]


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())
