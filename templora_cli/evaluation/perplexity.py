"""Perplexity of base and adapter against depth, with the paper's protocol on PG19 (section 4.2).

A book is read chunk by chunk. Each chunk is scored under the base and under base + adapter with the same
context, then learnt. Perplexity is exp(mean NLL of the tokens). The authors' code uses the mean of the
chunks' perplexities instead, which a few hard chunks dominate; `averaging="chunks"` does the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Averaging = Literal["tokens", "chunks"]

DEPTHS = (0, 25_000, 50_000, 100_000, 300_000, 500_000)
"""First depth of each row of a table, in tokens: the paper's segments, with a finer division of the first."""


@dataclass(frozen=True)
class Score:
    """The scores of a chunk before it is learnt."""

    depth: int
    """Tokens of the book before the chunk."""
    tokens: int
    base: float
    """Mean NLL under the base, nats/token."""
    adapter: float | None
    """The same under base + adapter; None without learning."""
    control: float | None = None
    """The same with an adapter that has learnt as much of another author; None without a control."""


@dataclass(frozen=True)
class PerplexityRow:
    """A row of a table."""

    depth: str
    tokens: int
    base_ppl: float
    adapter_ppl: float | None
    change: float | None
    """Change of the perplexity by the adapter, in per cent; negative if it helps."""
    control_ppl: float | None = None
    control_change: float | None = None


def scores_of(chunks: Iterable[Mapping[str, Any]]) -> list[Score]:
    """The scores of a session's chunks, from their `chunk.json` values."""
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
    """A row for each range of depth in which chunks begin, and one for all chunks."""
    rows = []
    for start, end in zip(depths, [*depths[1:], math.inf], strict=True):
        in_range = [score for score in scores if start <= score.depth < end]
        if in_range:
            rows.append(row(_range(start, end), in_range, averaging))
    return [*rows, row("all", scores, averaging)] if scores else []


def row(name: str, scores: Sequence[Score], averaging: Averaging = "tokens") -> PerplexityRow:
    """The perplexities of `scores`, of which there is at least one."""
    base = perplexity([(score.base, score.tokens) for score in scores], averaging)
    learnt = [(score.adapter, score.tokens) for score in scores if score.adapter is not None]
    adapter = perplexity(learnt, averaging) if len(learnt) == len(scores) else None
    compared = [(score.control, score.tokens) for score in scores if score.control is not None]
    control = perplexity(compared, averaging) if len(compared) == len(scores) else None
    change, control_change = (
        None if learnt is None else (learnt / base - 1) * 100 for learnt in (adapter, control)
    )
    tokens = sum(score.tokens for score in scores)
    return PerplexityRow(name, tokens, base, adapter, change, control, control_change)


def perplexity(nlls: Sequence[tuple[float, int]], averaging: Averaging) -> float:
    """The perplexity of chunks, given as (mean NLL in nats/token, tokens).

    exp of the mean over all tokens, or the mean over the chunks of exp.
    """
    if averaging == "chunks":
        return math.fsum(math.exp(nll) for nll, _ in nlls) / len(nlls)
    return math.exp(math.fsum(nll * tokens for nll, tokens in nlls) / sum(tokens for _, tokens in nlls))


def _range(start: int, end: float) -> str:
    return f"{start // 1000}K+" if end == math.inf else f"{start // 1000}-{int(end) // 1000}K"
