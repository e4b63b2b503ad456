"""The summary of a session in lists, cached in its folder so that a list does not read whole books."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from templora_cli.files import bytes_below, write_atomically
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.steps import is_step, read_chunks
from templora_cli.text import count_words

FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """Totals of the committed chunks of a session."""

    chunks: int
    tokens: int
    words: int
    gain: float | None
    """The mean gain of the chunks, nats/token; None if nothing was learnt."""
    done: dict[str, int]
    """The progress towards a goal, by unit."""
    complete: bool
    """Whether the book can end here, see `TaskKind.complete`."""
    disk: int | None = field(default=None, compare=False)
    """Bytes of the session when the summary was cached; None if it is not cached."""


def summary_of(chunks: Sequence[Values], kind: TaskKind) -> Summary:
    """The summary of these chunks."""
    gains = [c["nll_base"] - c["nll_adapter"] for c in chunks if c["nll_adapter"] is not None]
    gain = math.fsum(gains) / len(gains) if gains else None
    return Summary(
        chunks=len(chunks),
        tokens=sum(len(chunk["tokens"]) for chunk in chunks),
        words=count_words("".join(chunk["text"] for chunk in chunks)),
        gain=gain if gain is not None and math.isfinite(gain) else None,
        done={unit: kind.done(chunks, unit) for unit in kind.units},
        complete=kind.complete(chunks),
    )


def read_summary(session: Path, kind: TaskKind) -> Summary:
    """The cached summary if it is valid, else a new one, which is not cached.

    Raises StepDamagedError if the chunks cannot be read.
    """
    cached = cached_summary(session, kind)
    return summary_of(read_chunks(session / "steps"), kind) if cached is None else cached


def cache_summary(session: Path, chunks: Sequence[Values], kind: TaskKind) -> None:
    """Save the summary of `chunks`, all chunks of the session, in its folder."""
    values = asdict(summary_of(chunks, kind))
    with suppress(OSError):  # a list can do without it, and the next commit reports a full disk
        values |= {"bytes": _bytes_of_chunks(session), "disk": bytes_below(session)}
        write_atomically(session / FILE, json.dumps(values))


def refresh_summary(session: Path, chunks: Sequence[Values], kind: TaskKind) -> None:
    """Cache the summary again if it does not match the steps: a kill may have come between the two writes."""
    if cached_summary(session, kind) is None:
        cache_summary(session, chunks, kind)


def cached_summary(session: Path, kind: TaskKind | None = None) -> Summary | None:
    """The summary in the folder of the session; None if it is damaged or does not match the steps.

    Also None if it lacks units of `kind`; lists pass None, so that they need not import the kind.
    """
    try:
        values = json.loads((session / FILE).read_text("utf-8"))
        size = values.pop("bytes")
        cached = Summary(**values)
        counts = [size, cached.chunks, cached.tokens, cached.words, *cached.done.values()]
        if cached.disk is not None:
            counts.append(cached.disk)
        is_valid = all(type(count) is int for count in counts) and isinstance(cached.gain, float | None)
        is_valid = is_valid and type(cached.complete) is bool
        has_units = kind is None or cached.done.keys() == set(kind.units)
        if is_valid and has_units and size == _bytes_of_chunks(session):
            return cached
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        pass
    return None


def _bytes_of_chunks(session: Path) -> int:
    """The total size of all `chunk.json`: it shows whether the chunks have changed, without reading them."""
    steps = session / "steps"
    if not steps.is_dir():
        return 0
    with os.scandir(steps) as entries:
        chunks = [f"{entry.path}/chunk.json" for entry in entries if is_step(entry.name)]
    return sum(os.stat(chunk).st_size for chunk in chunks)  # noqa: PTH116  (a thousand sessions, many steps)
