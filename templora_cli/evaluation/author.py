"""Does the adapter learn its author? A real book plays the author; the model drafts it chunk by chunk.

Each arm has learnt something else when the next chunk of the book comes: nothing, the first part of the book,
that and each true chunk since, or as much of another author. All are scored behind the true text, and write a
draft there.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.evaluation.burrows import Reference
from templora_cli.prompt import window
from templora_cli.state import seeded_generator

MIN_USES = 2
"""A word belongs to the author if the text that primes has it so often, and the control has not."""
MIN_LETTERS = 4
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Author:
    """The book, in tokens."""

    header: tuple[int, ...]
    tokens: tuple[int, ...]
    seen: int
    """How many of them come before the first draft."""
    chunk: int
    draft_every: int
    """A draft is written for one of so many chunks."""

    def place(self, index: int) -> int | None:
        """Where chunk number `index` after the beginning is in the tokens; None after the end."""
        place = self.seen + index * self.chunk
        return place if place + self.chunk <= len(self.tokens) else None

    def chunk_at(self, index: int) -> tuple[int, ...]:
        """The true tokens of a chunk."""
        place = self.place(index)
        assert place is not None
        return self.tokens[place : place + self.chunk]


class AuthorMeasure:
    """Measures of an adapter at the next chunk of the book."""

    def __init__(
        self,
        author: Author,
        model: LanguageModel,
        backend: Callable[[], Backend],
        config: DecodeConfig,
        probe: tuple[tuple[int, ...], tuple[int, ...]],
        seed: int,
    ) -> None:
        """`probe` is header and tokens of prose of another time."""
        self.author, self.model, self.config, self.probe = author, model, config, probe
        self._backend, self._seed = backend, seed
        self._made: Backend | None = None

    def __call__(self, index: int) -> dict[str, Any] | None:
        """The measures at chunk `index`; None after the end of the book."""
        author, model = self.author, self.model
        place = author.place(index)
        if place is None:
            return None
        prompt = (*author.header, *window(author.tokens[:place], self.config.context_tokens))
        model.module.eval()
        values: dict[str, Any] = {"nll": _nll(model, prompt, author.chunk_at(index))}
        if author.place(index + 1) is None and self.probe[1]:
            values["probe"] = _nll(model, *self.probe)
        if index % author.draft_every == 0:
            values["draft"] = self._draft(prompt, index)
        return values

    def _draft(self, prompt: tuple[int, ...], index: int) -> list[int]:
        if self._made is None:
            self._made = self._backend()
        backend = self._made
        backend.reset()
        backend.adapter_changed()
        generator = seeded_generator(self.model.device, self._seed, "draft", index)
        sampler = sampler_for(self.config, generator, self.model.banned_tokens)
        decoded = backend.decode(
            prompt, sampler=sampler, max_tokens=self.author.chunk, stop=lambda ids: False
        )
        tokens = [token.id for token in decoded]
        backend.free_cache()
        return tokens


@torch.no_grad()
def _nll(model: LanguageModel, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> float:
    """Mean NLL in nats/token."""
    return float(chunk_nll(model.module, prompt, tokens).mean())


@dataclass(frozen=True)
class DepthRow:
    """Perplexity of the true text under one arm, over a range of depth."""

    arm: str
    depth: str
    tokens: int
    ppl: float
    change: float
    """In per cent of that of the first arm."""


@dataclass(frozen=True)
class StyleRow:
    """How near the drafts of one arm are to the author."""

    arm: str
    words: int
    """Words of all drafts."""
    delta: float | None
    """Burrows's Delta to the author's unseen text; None without frequencies to compare with."""
    closed: float | None
    """Share in per cent of the gap between the first arm and the author's own pages that is closed."""
    rank: int | None
    """The place of the author among all authors, by their Delta to the drafts."""
    own_words: float
    """Words of the author in the drafts, per 1,000 words."""
    edited: float
    """Share in per cent of the words of a draft that would have to be changed."""
    probe: float | None
    """Change of the perplexity of prose of another time, in per cent of that of the first arm."""


Values = Mapping[int, Mapping[str, Any]]


def depth_rows(author: Author, arms: Mapping[str, Values], step: int) -> list[DepthRow]:
    """Rows for each range of `step` tokens and each arm, which is compared with the first."""
    first = next(iter(arms.values()))
    common = [index for index in sorted(first) if all(index in values for values in arms.values())]
    ranges: dict[int, list[int]] = {}
    for index in common:
        ranges.setdefault(index * author.chunk // step, []).append(index)
    rows = []
    for number, indexes in ranges.items():
        base = math.exp(fmean(first[index]["nll"] for index in indexes))
        for arm, values in arms.items():
            ppl = math.exp(fmean(values[index]["nll"] for index in indexes))
            depth = f"{author.seen + number * step:,}+"
            tokens = len(indexes) * author.chunk
            rows.append(DepthRow(arm, depth, tokens, ppl, (ppl / base - 1) * 100))
    return rows


def style_rows(
    author: Author,
    arms: Mapping[str, Values],
    text_of: Callable[[Sequence[int]], str],
    unseen: str,
    own_words: frozenset[str],
    reference: Reference | None,
) -> list[StyleRow]:
    """A row for each arm. `unseen` is text of the author that no arm has seen."""
    rows: list[StyleRow] = []
    theirs = own = None
    if reference:
        theirs = reference.frequencies(unseen)
        indexes = [index for index, value in next(iter(arms.values())).items() if value.get("draft")]
        pages = "\n".join(text_of(author.chunk_at(index)) for index in indexes)  # as long as the drafts
        own = reference.delta(reference.frequencies(pages), theirs)
    probes = {
        arm: value["probe"] for arm, values in arms.items() for value in values.values() if "probe" in value
    }
    for arm, values in arms.items():
        drafts = {index: text_of(value["draft"]) for index, value in values.items() if value.get("draft")}
        text = "\n".join(drafts.values())
        words = _WORD.findall(text)
        if not words:
            continue
        delta = rank = closed = None
        if reference and theirs and own is not None:
            frequencies = reference.frequencies(text)
            delta, rank = reference.delta(frequencies, theirs), reference.rank(frequencies, theirs)
            before = rows[0].delta if rows and rows[0].delta is not None else delta
            closed = (before - delta) / (before - own) * 100 if before > own else None
        edited = [_edited(draft, text_of(author.chunk_at(index))) for index, draft in drafts.items()]
        probe = None
        if arm in probes and rows and rows[0].arm in probes:
            probe = (math.exp(probes[arm] - probes[rows[0].arm]) - 1) * 100
        used = sum(word.lower() in own_words for word in words)
        rows.append(
            StyleRow(arm, len(words), delta, closed, rank, used / len(words) * 1000, fmean(edited), probe)
        )
    return rows


def own_words_of(text: str, control: str) -> frozenset[str]:
    """Names and rarer words of the author: they stand in the text several times, and not in the control."""
    others = {word.lower() for word in _WORD.findall(control)}
    counts = Counter(word.lower() for word in _WORD.findall(text) if len(word) >= MIN_LETTERS)
    return frozenset(word for word, uses in counts.items() if uses >= MIN_USES and word not in others)


def _edited(draft: str, true: str) -> float:
    """Edit distance in words, in per cent of the longer text."""
    one, other = _WORD.findall(draft), _WORD.findall(true)
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, theirs in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != theirs))
    return row[-1] / max(len(one), len(other), 1) * 100
