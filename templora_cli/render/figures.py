"""Figures as text: gains, counts, speed, time and memory."""

from __future__ import annotations

import math

import psutil


def in_nats(gain: float) -> str:
    """A gain with its sign and unit."""
    return f"{round(gain, 3) + 0.0:+.3f} nats/token"  # the sum turns -0.0 into 0.0


def count_of(number: int, noun: str) -> str:
    """A count with its noun: "1 chunk", "2,000 chunks"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seen_before(share: float) -> str:
    """The share of a chunk's 4-grams that occur before: "44.3% of phrases seen before".

    The gate has a measure of its own, which looks at the chunk alone.
    """
    return f"{share:.1%} of phrases seen before"


def speed_of(tokens_per_second: float) -> str:
    """The speed of decoding: "12.3 tokens/s"."""
    return f"{tokens_per_second:.1f} tokens/s"


def time_left(seconds: float) -> str:
    """An estimate of the remaining time: "about 1 h 28 min left"."""
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min left" if minutes > 1 else "about a minute left"
    return f"about {minutes // 60} h {minutes % 60:02} min left"


def duration(seconds: float) -> str:
    """How long something took: "40 seconds", "12 min", "1 h 28 min"."""
    if seconds < 90:
        return count_of(round(seconds), "second")
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def memory_in_use() -> str:
    """The resident memory of this process: "memory 1.2 GB"."""
    return f"memory {psutil.Process().memory_info().rss / 1e9:.1f} GB"
