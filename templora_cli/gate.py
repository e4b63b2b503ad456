"""The gate rejects generated chunks that must not be learnt. Human text always passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from statistics import median

from templora_cli.config import Config
from templora_cli.ngrams import repetition
from templora_cli.turn import Chunk, Fault, Generate, Given, Predictions, Turn

RECENT_CHUNKS = 8
"""The gate compares the NLL of a chunk with that of this many generated chunks before it."""
MIN_RECENT_CHUNKS = 3
"""Generated chunks that it needs before it compares."""
MIN_COMPLETION = 0.01
"""A base that completes 4-grams with a lower probability counts as this one: a few tokens would decide."""


def fault_of(
    turn: Turn, chunk: Chunk, nll_base: float, generated_nlls: Sequence[float], config: Config
) -> Fault | None:
    """Why a chunk must not be learnt, and prose must not be in the book; None if it may be.

    A loop has a low NLL under the base and garbled text a high one, so the gate rejects a chunk whose NLL is
    far from the median of recent chunks (`generated_nlls`, nats/token). Rejected chunks count towards that
    median, so a lasting change of the text is accepted in the end.
    """
    gate = config.gate
    if turn.origin == "human":
        return None
    if chunk.rejection_reason or not gate.enabled or _judged(turn):
        return None if chunk.rejection_reason is None else Fault(chunk.rejection_reason)
    if not chunk.text.strip():
        return Fault("it is empty")
    if not math.isfinite(nll_base):
        return Fault("the model cannot tell how likely it is (its NLL is NaN or infinite)")
    written = list(compress(chunk.tokens, chunk.loss_mask)) if chunk.loss_mask else chunk.tokens
    if isinstance(turn, Generate) and gate.prose and (fault := turn.fault(chunk.tokens[len(turn.opening) :])):
        return fault
    if (repeated := repetition([], written)) > gate.repetition:
        return Fault(f"it loops: it repeats {repeated:.0%} of its own phrases")
    usual = usual_nll(generated_nlls)
    if usual is None or 4 * len(chunk.tokens) < config.decode.chunk_tokens:
        return None  # the mean of a few tokens is too noisy
    if abs(nll_base - usual) > gate.nll_range:
        return Fault(_unusual(nll_base, usual))
    return None


def usual_nll(generated_nlls: Sequence[float]) -> float | None:
    """The median NLL of recent chunks, nats/token; None if they are too few."""
    recent = [nll for nll in generated_nlls[-RECENT_CHUNKS:] if math.isfinite(nll)]
    return median(recent) if len(recent) >= MIN_RECENT_CHUNKS else None


def _unusual(nll: float, usual: float) -> str:
    far, may = ("more", "be repeating itself") if nll < usual else ("less", "be garbled")
    figures = f"{nll:.2f} against {usual:.2f} nats a token"
    return f"the model expects this chunk far {far} than recent ones ({figures}): it may {may}"


def harm_reason_of(
    turn: Turn, base: Predictions | None, adapter: Predictions | None, config: Config
) -> str | None:
    """Why the adapter has come too far from the base to learn this chunk, in words; None if it has not.

    Both predict the same tokens, so the comparison does not depend on what the chunk is about. A second
    attempt would not help: the adapter would be the same. While nothing is learnt the adapter does not change
    either, so its harm stays within about the limits.
    """
    gate = config.gate
    if turn.origin == "human" or not gate.enabled or _judged(turn) or base is None or adapter is None:
        return None
    if not isinstance(turn, Generate):  # a translation should have the same words for the same things
        if (gain := base.nll - adapter.nll) <= gate.drift:
            return None
        return f"learning has moved the model too far from where it began ({gain:.2f} nats a token)"
    # In this form a NaN is refused too.
    if not adapter.completion <= gate.completion * max(base.completion, MIN_COMPLETION):
        figures = f"{adapter.completion:.1%} of its words in place of {base.completion:.1%}"
        return f"learning makes the model repeat the book ({figures})"
    if not adapter.entropy >= (1 - gate.entropy) * base.entropy:
        figures = f"an entropy of {adapter.entropy:.2f} in place of {base.entropy:.2f} nats"
        return f"learning narrows the model's choice of words too far ({figures})"
    return None


def _judged(turn: Turn) -> bool:
    return isinstance(turn, Given) and turn.judged
