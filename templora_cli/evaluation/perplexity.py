"""Perplexity of base and adapter against depth, after the paper's protocol on PG19 (section 4.2).

A book is read chunk by chunk: each is scored under the base and under the adapter with the same
context, then learnt. Perplexity is exp(mean NLL of the tokens). The authors' code takes the mean of the
chunks' perplexities in its place, which single hard chunks dominate; `averaging="chunks"` does as it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Averaging = Literal["tokens", "chunks"]

DEPTHS = (0, 25_000, 50_000, 100_000, 300_000, 500_000)
"""Where the rows of a table begin, in tokens; the paper's segments and two finer ones before them."""


@dataclass(frozen=True)
class Score:
    """A chunk as it was scored, before it was learnt."""

    depth: int
    """Tokens of the book before it."""
    tokens: int
    base: float
    """Mean NLL under the base, nats/token."""
    adapter: float | None
    """The same under base and adapter; None where nothing was learnt."""


@dataclass(frozen=True)
class PerplexityRow:
    """One line of a table."""

    depth: str
    tokens: int
    base_ppl: float
    adapter_ppl: float | None
    change: float | None
    """Of the perplexity, in per cent; below 0 the adapter helps."""


def scores_of(chunks: Iterable[Mapping[str, Any]]) -> list[Score]:
    """The scores in a session's `chunk.json` values, in order."""
    scores: list[Score] = []
    depth = 0
    for chunk in chunks:
        tokens = len(chunk["tokens"])
        scores.append(Score(depth, tokens, chunk["nll_base"], chunk["nll_adapter"]))
        depth += tokens
    return scores


def table(
    scores: Sequence[Score], averaging: Averaging = "tokens", depths: Sequence[int] = DEPTHS
) -> list[PerplexityRow]:
    """A row for each depth that `scores` reach, and one for all of them.

    A chunk belongs to the depth at which it begins.
    """
    rows = []
    for start, end in zip(depths, [*depths[1:], math.inf], strict=True):
        inside = [score for score in scores if start <= score.depth < end]
        if inside:
            rows.append(row(_range(start, end), inside, averaging))
    return [*rows, row("all", scores, averaging)] if scores else []


def row(name: str, scores: Sequence[Score], averaging: Averaging = "tokens") -> PerplexityRow:
    """The perplexities of `scores`, which must hold at least one."""
    base = perplexity([(score.base, score.tokens) for score in scores], averaging)
    learnt = [(score.adapter, score.tokens) for score in scores if score.adapter is not None]
    adapter = perplexity(learnt, averaging) if len(learnt) == len(scores) else None
    change = None if adapter is None else (adapter / base - 1) * 100
    return PerplexityRow(name, sum(score.tokens for score in scores), base, adapter, change)


def perplexity(nlls: Sequence[tuple[float, int]], averaging: Averaging) -> float:
    """Of (mean NLL in nats, tokens) pairs: exp of the mean over tokens, or the mean over chunks of exp."""
    if averaging == "chunks":
        return math.fsum(math.exp(nll) for nll, _ in nlls) / len(nlls)
    return math.exp(math.fsum(nll * tokens for nll, tokens in nlls) / sum(tokens for _, tokens in nlls))


def _range(start: int, end: float) -> str:
    return f"{start // 1000}K+" if end == math.inf else f"{start // 1000}-{int(end) // 1000}K"
