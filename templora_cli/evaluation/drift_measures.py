"""Measures of drift: how the text of a book changes with depth while the model learns it.

A model that learns its own samples can drift into loops and words without spaces (arXiv 2404.02305).
Perplexity of human text does not show that. So these measures are taken of the generated text, and of the
adapter's effect on text that it has not learnt.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, Optional, Protocol

import torch

from templora_cli.config import DecodeConfig
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.ngrams import repetition

_WORD = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True)
class Measures:
    """The measures of one chunk. A measure is None if the chunk is too short for it or it was not taken."""

    depth: int
    """Tokens of the book before the chunk."""
    tokens: int
    repetition_in_chunk: float | None
    """Share of the chunk's 4-grams of tokens that occur earlier in the chunk."""
    repetition_in_book: float | None
    """Share of the chunk's 4-grams of tokens that occur earlier in the chunk or in the book."""
    distinct_3: float | None
    """Number of distinct 3-grams of words, relative to the number of all 3-grams."""
    compression: float | None
    """Compression ratio of the text with zlib; loops have a high one."""
    new_words: float | None
    """Words that are not in the book before, per 1000 tokens."""
    nll_base: float | None
    """Mean NLL under the base with the window of decoding, nats/token."""
    probe_ppl: float | None
    """Perplexity of the held-out text under the adapter after this chunk."""
    recall_base: float | None
    """Mean NLL under the base of a passage that left the window long ago, nats/token."""
    recall_adapter: float | None
    """The same under base + adapter."""


def measures_of(chunks: Iterable[Mapping[str, Any]], live: Mapping[int, Mapping[str, Any]]) -> list[Measures]:
    """The measures of a session's chunks, from their `chunk.json` values and the results of `LiveMeasures` by
    index of the chunk.
    """
    measures: list[Measures] = []
    book: list[int] = []
    book_words: set[str] = set()
    for chunk in chunks:
        tokens, text = chunk["tokens"], chunk["text"]
        words = [word.lower() for word in _WORD.findall(text)]
        trigrams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
        live_measures = live.get(chunk["index"], {})
        measures.append(
            Measures(
                depth=len(book),
                tokens=len(tokens),
                repetition_in_chunk=repetition([], tokens),
                repetition_in_book=repetition(book, tokens),
                distinct_3=len(set(trigrams)) / len(trigrams) if trigrams else None,
                compression=len(raw := text.encode("utf-8")) / len(zlib.compress(raw, 9)) if text else None,
                new_words=1000 * len(set(words) - book_words) / len(tokens),
                nll_base=chunk["nll_base"],
                probe_ppl=_exp(live_measures.get("probe")),
                recall_base=live_measures.get("recall_base"),
                recall_adapter=live_measures.get("recall_adapter"),
            )
        )
        book += tokens
        book_words.update(words)
    return measures


def by_depth(measures: Sequence[Measures], step: int) -> list[Measures]:
    """The mean of the chunks that begin in each range of `step` tokens of depth, over all runs in `measures`.

    Perplexities are averaged as NLL.
    """
    groups: dict[int, list[Measures]] = {}
    for measured in measures:
        groups.setdefault(measured.depth // step, []).append(measured)
    return [_mean(group, number * step) for number, group in sorted(groups.items())]


def _mean(group: Sequence[Measures], depth: int) -> Measures:
    means: dict[str, Any] = {"depth": depth, "tokens": sum(measured.tokens for measured in group)}
    for field in fields(Measures)[2:]:
        values = [value for measured in group if (value := getattr(measured, field.name)) is not None]
        if field.name == "probe_ppl":
            means[field.name] = _exp(fmean(map(math.log, values))) if values else None
        else:
            means[field.name] = fmean(values) if values else None
    return Measures(**means)


class BookTokens(Protocol):
    """The part of `WritingState` that is measured."""

    tokens: list[int]


LiveValues = dict[str, Optional[float]]
"""Mean NLLs in nats/token: `probe`, `recall_base` and `recall_adapter`."""


class LiveMeasures:
    """Measures that need the adapter as it is after a chunk."""

    RECALL_AFTER = 4096
    """Number of tokens after which a passage that left the window is scored again."""

    def __init__(
        self,
        model: AdaptedModel,
        header: Sequence[int],
        probe: tuple[Sequence[int], Sequence[int]],
        config: DecodeConfig,
    ) -> None:
        """`header` is that of the book. `probe` is held-out text as (header, tokens), or empty."""
        self.model, self.header = model, list(header)
        self.probe_header, self.probe = list(probe[0]), list(probe[1])
        self.chunk_tokens, self.context_tokens = config.chunk_tokens, config.context_tokens
        self._probe_nll: float | None = None

    def __call__(self, book: BookTokens) -> LiveValues:
        """Measure the model as it is now, after `book`.

        The recalled passage is the newest one, of the size of a chunk, that left the window `RECALL_AFTER`
        tokens ago. Its prompt has a quarter of the window.
        """
        values: LiveValues = {"probe": None, "recall_base": None, "recall_adapter": None}
        self.model.module.eval()
        with torch.no_grad():
            if self.probe and (self.model.adapter or self._probe_nll is None):  # the base does not change
                self._probe_nll = self._score_probe()
            values["probe"] = self._probe_nll
            end = len(book.tokens) - self.context_tokens - self.RECALL_AFTER
            if end >= self.chunk_tokens:
                start = end - self.chunk_tokens
                passage = book.tokens[start:end]
                prompt = self.header + book.tokens[max(0, start - self.context_tokens // 4) : start]
                with self.model.without_adapter():
                    values["recall_base"] = chunk_nll(self.model.module, prompt, passage).mean().item()
                values["recall_adapter"] = chunk_nll(self.model.module, prompt, passage).mean().item()
        return values

    def _score_probe(self) -> float:
        """Mean NLL of the probe in nats/token, chunk by chunk, each with the window before it."""
        total = 0.0
        for start in range(0, len(self.probe), self.chunk_tokens):
            chunk = self.probe[start : start + self.chunk_tokens]
            context = self.probe[max(0, start - self.context_tokens) : start]
            total += chunk_nll(self.model.module, self.probe_header + context, chunk).sum().item()
        return total / len(self.probe)


def _exp(nll: float | None) -> float | None:
    return None if nll is None else math.exp(nll)
