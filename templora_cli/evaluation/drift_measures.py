"""Does a book that learns from itself hold together? Measures of its text against depth.

A model that learns its own samples can drift into loops and glued words (arXiv 2404.02305), and the
perplexity of given text does not show it. So what is measured is the text itself, and what the adapter
does to text that it has not written.
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
from templora_cli.gate import repetition

_WORD = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True)
class Measures:
    """What is measured of one chunk; None where there is nothing to measure it on."""

    depth: int
    """Tokens of the book before it."""
    tokens: int
    repetition_in_chunk: float | None
    """Share of its 4-grams of tokens that stood earlier in the chunk."""
    repetition_in_book: float | None
    """Share of its 4-grams of tokens that stood anywhere before."""
    distinct_3: float | None
    """Different 3-grams of words over all of them."""
    compression: float | None
    """Bytes of its text over those of the text compressed by zlib; loops compress well."""
    new_words: float | None
    """Words that the book did not have before, for 1000 tokens."""
    nll_base: float | None
    """Mean NLL under the base with the window that it was written with, nats/token."""
    probe_ppl: float | None
    """Perplexity of the held-out text under the adapter after this chunk."""
    recall_base: float | None
    """Mean NLL under the base of a passage that left the window long ago, nats/token."""
    recall_adapter: float | None
    """The same under base and adapter."""


def measures_of(chunks: Iterable[Mapping[str, Any]], live: Mapping[int, Mapping[str, Any]]) -> list[Measures]:
    """Measure each of a session's `chunk.json` values; `live` has what `LiveMeasures` said, by index."""
    measured: list[Measures] = []
    book: list[int] = []
    known: set[str] = set()
    for chunk in chunks:
        tokens, text = chunk["tokens"], chunk["text"]
        words = [word.lower() for word in _WORD.findall(text)]
        trigrams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
        then = live.get(chunk["index"], {})
        measured.append(
            Measures(
                depth=len(book),
                tokens=len(tokens),
                repetition_in_chunk=repetition([], tokens),
                repetition_in_book=repetition(book, tokens),
                distinct_3=len(set(trigrams)) / len(trigrams) if trigrams else None,
                compression=len(raw := text.encode("utf-8")) / len(zlib.compress(raw, 9)) if text else None,
                new_words=1000 * len(set(words) - known) / len(tokens),
                nll_base=chunk["nll_base"],
                probe_ppl=_exp(then.get("probe")),
                recall_base=then.get("recall_base"),
                recall_adapter=then.get("recall_adapter"),
            )
        )
        book += tokens
        known.update(words)
    return measured


def by_depth(measured: Sequence[Measures], step: int) -> list[Measures]:
    """The means over every `step` tokens of depth, of the chunks that begin there; for several runs, of all.

    Perplexities are averaged as NLL.
    """
    groups: dict[int, list[Measures]] = {}
    for one in measured:
        groups.setdefault(one.depth // step, []).append(one)
    return [_mean(group, number * step) for number, group in sorted(groups.items())]


def _mean(group: Sequence[Measures], depth: int) -> Measures:
    values: dict[str, Any] = {"depth": depth, "tokens": sum(one.tokens for one in group)}
    for field in fields(Measures)[2:]:
        known = [value for one in group if (value := getattr(one, field.name)) is not None]
        if field.name == "probe_ppl":
            values[field.name] = _exp(fmean(map(math.log, known))) if known else None
        else:
            values[field.name] = fmean(known) if known else None
    return Measures(**values)


class BookTokens(Protocol):
    """The part of `WritingState` that is looked at."""

    tokens: list[int]


Live = dict[str, Optional[float]]
"""What is measured after a chunk: `probe`, `recall_base`, `recall_adapter`, mean NLLs in nats/token."""


class LiveMeasures:
    """What can be measured only while the adapter of that moment is there."""

    RECALL_AFTER = 4096
    """Tokens since a passage left the window."""

    def __init__(
        self,
        model: AdaptedModel,
        header: Sequence[int],
        probe: tuple[Sequence[int], Sequence[int]],
        config: DecodeConfig,
    ) -> None:
        """`header` is that of the book; `probe` is held-out text as its own header and tokens, or empty."""
        self.model, self.header = model, list(header)
        self.probe_header, self.probe = list(probe[0]), list(probe[1])
        self.chunk, self.window = config.chunk_tokens, config.context_tokens
        self._probe_nll: float | None = None

    def __call__(self, book: BookTokens) -> Live:
        """Measure the adapter as it is, after `book`.

        The passage asked for again is the newest chunk-sized one that left the window `RECALL_AFTER`
        tokens ago; it is shown after a quarter of the window.
        """
        values: Live = {"probe": None, "recall_base": None, "recall_adapter": None}
        self.model.module.eval()
        with torch.no_grad():
            if self.probe and (self.model.adapter or self._probe_nll is None):  # the base stays as it is
                self._probe_nll = self._probe()
            values["probe"] = self._probe_nll
            end = len(book.tokens) - self.window - self.RECALL_AFTER
            if end >= self.chunk:
                passage = book.tokens[end - self.chunk : end]
                before = book.tokens[: end - self.chunk]
                prompt = self.header + before[max(0, len(before) - self.window // 4) :]
                with self.model.without_adapter():
                    values["recall_base"] = chunk_nll(self.model.module, prompt, passage).mean().item()
                values["recall_adapter"] = chunk_nll(self.model.module, prompt, passage).mean().item()
        return values

    def _probe(self) -> float:
        """In pieces of a chunk, each after a window of what stands before it."""
        total = 0.0
        for start in range(0, len(self.probe), self.chunk):
            piece = self.probe[start : start + self.chunk]
            before = self.probe[max(0, start - self.window) : start]
            total += chunk_nll(self.model.module, self.probe_header + before, piece).sum().item()
        return total / len(self.probe)


def _exp(nll: float | None) -> float | None:
    return None if nll is None else math.exp(nll)
