"""The gate rejects generated chunks that must not be learnt. Human text always passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from statistics import median

from templora_cli.config import Config
from templora_cli.ngrams import repetition
from templora_cli.turn import Chunk, Given, Turn

MEMORY = 8
"""The gate compares the NLL of a chunk with that of this many generated chunks before it."""
NEEDS = 3
"""Generated chunks that it needs before it compares."""


def rejection_reason_of(
    turn: Turn, chunk: Chunk, nll_base: float, generated_nlls: Sequence[float], config: Config
) -> str | None:
    """Why a generated chunk must not be learnt, in words; None if it may be.

    A loop has a low NLL under the base and garbled text a high one, so the gate rejects a chunk whose NLL is
    far from the median of recent chunks (`generated_nlls`, nats/token). Rejected chunks count towards that
    median, so a lasting change of the text is accepted in the end.
    """
    gate = config.gate
    if turn.origin == "human":
        return None
    if chunk.rejection_reason or not gate.enabled or _judged(turn):
        return chunk.rejection_reason
    if not chunk.text.strip():
        return "it is empty"
    if not math.isfinite(nll_base):
        return "its NLL under the base is NaN or infinite"
    written = list(compress(chunk.tokens, chunk.loss_mask)) if chunk.loss_mask else chunk.tokens
    if (repeated := repetition([], written)) > gate.repetition:
        return f"it loops: {repeated:.0%} of its 4-grams are repeated"
    recent = [nll for nll in generated_nlls[-MEMORY:] if math.isfinite(nll)]
    if len(recent) < NEEDS or 4 * len(chunk.tokens) < config.decode.chunk_tokens:
        return None  # the mean of a few tokens is too noisy
    if abs(nll_base - (usual := median(recent))) > gate.nll_range:
        return f"its NLL under the base is {nll_base:.2f} nats/token, while recent chunks have {usual:.2f}"
    return None


def drift_reason_of(turn: Turn, score: tuple[float, float | None], config: Config) -> str | None:
    """Why the adapter is too far from the base to learn this chunk, in words; None if it is not.

    A second attempt would not help: the adapter would be the same.
    """
    base, adapter = score
    if turn.origin == "human" or not config.gate.enabled or _judged(turn) or adapter is None:
        return None
    if (gain := base - adapter) <= config.gate.drift:
        return None
    return f"the adapter has moved {gain:.2f} nats/token away from the base"


def _judged(turn: Turn) -> bool:
    return isinstance(turn, Given) and turn.judged
