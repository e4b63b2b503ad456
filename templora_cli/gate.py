"""The gate: which chunks of the model's own are too bad to be learnt from. What a person wrote passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from statistics import median

from templora_cli.config import Config
from templora_cli.turn import Chunk, Given, Turn

MEMORY = 8
"""Own chunks whose NLL the gate compares a new one with."""
NEEDS = 3
"""Own chunks before it compares at all."""


def rejection_reason_of(
    turn: Turn, chunk: Chunk, nll_base: float, generated_nlls: Sequence[float], config: Config
) -> str | None:
    """What makes an own chunk unfit to be learnt from, in words; None where nothing does.

    A loop is cheap for the base and glued words are dear, so an NLL that leaves the range of the
    chunks before it (`generated_nlls`, nats/token) either way is a sign of both. They count whether they
    passed or not, so that a lasting change of the text is accepted in the end.
    """
    gate = config.gate
    if turn.origin == "human":
        return None
    if chunk.rejection_reason or not gate.enabled or _judged(turn):
        return chunk.rejection_reason
    if not chunk.text.strip():
        return "it is empty"
    if not math.isfinite(nll_base):
        return "its NLL under the base is not finite"
    written = list(compress(chunk.tokens, chunk.loss_mask)) if chunk.loss_mask else chunk.tokens
    if (repeated := repetition([], written)) > gate.repetition:
        return f"it loops: {repeated:.0%} of it stood there before"
    recent = [nll for nll in generated_nlls[-MEMORY:] if math.isfinite(nll)]
    if len(recent) < NEEDS or 4 * len(chunk.tokens) < config.decode.chunk_tokens:
        return None  # the mean of a few tokens says little
    if abs(nll_base - (usual := median(recent))) > gate.nll_range:
        return f"its NLL under the base is {nll_base:.2f} nats/token, that of those before it {usual:.2f}"
    return None


def drift_reason_of(turn: Turn, score: tuple[float, float | None], config: Config) -> str | None:
    """The gate, where it is the adapter that has gone too far: in words; None where it has not.

    Nothing else would come out of a second attempt.
    """
    base, adapter = score
    if turn.origin == "human" or not config.gate.enabled or _judged(turn) or adapter is None:
        return None
    if (gain := base - adapter) <= config.gate.drift:
        return None
    return f"the adapter has moved {gain:.2f} nats/token away from the base"


def _judged(turn: Turn) -> bool:
    return isinstance(turn, Given) and turn.judged


def repetition(window: Sequence[int], chunk: Sequence[int], n: int = 4) -> float:
    """Share of the chunk's n-grams that stood before, in the window or earlier in the chunk; 0 to 1."""
    text = [*window, *chunk]
    grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    ending_in_chunk = grams[max(0, len(window) - n + 1) :]
    seen = set(grams[: len(grams) - len(ending_in_chunk)])
    repeated = 0
    for gram in ending_in_chunk:
        repeated += gram in seen
        seen.add(gram)
    return repeated / len(ending_in_chunk) if ending_in_chunk else 0.0
