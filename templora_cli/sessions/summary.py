"""What a list of sessions shows of one, kept beside its steps so that a list need not read the books."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from templora_cli.files import write_atomically
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.steps import is_step, read_chunks
from templora_cli.text import count_words

FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """Of the committed chunks of a session."""

    chunks: int
    tokens: int
    words: int
    gain: float | None
    """The mean of the chunks, nats a token; None where nothing was learnt."""
    done: dict[str, int]
    """How much of the goal is there, by unit."""


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
    )


def read_summary(session: Path, kind: TaskKind) -> Summary:
    """The one that is kept where it is that of the steps, else a new one, which is not kept.

    Raises StepDamaged where the chunks cannot be read.
    """
    kept = cached_summary(session, kind)
    return summary_of(read_chunks(session / "steps"), kind) if kept is None else kept


def cache_summary(session: Path, chunks: Sequence[Values], kind: TaskKind) -> None:
    """Keep the summary of `chunks`, all that the session has, in its folder."""
    values = asdict(summary_of(chunks, kind))
    with suppress(OSError):  # without it a list reads the chunks; a full disk is told of the next one
        values["bytes"] = _bytes_of_chunks(session)
        write_atomically(session / FILE, json.dumps(values))


def refresh_summary(session: Path, chunks: Sequence[Values], kind: TaskKind) -> None:
    """Keep it anew where it is not that of the steps: a kill may have come between the two."""
    if cached_summary(session, kind) is None:
        cache_summary(session, chunks, kind)


def cached_summary(session: Path, kind: TaskKind | None = None) -> Summary | None:
    """The one in the folder of the session; None where it is damaged, or that of other steps.

    Also where it lacks units of `kind`: a list asks without, and spares itself the room of a kind.
    """
    try:
        values = json.loads((session / FILE).read_text("utf-8"))
        size = values.pop("bytes")
        kept = Summary(**values)
        counts = [size, kept.chunks, kept.tokens, kept.words, *kept.done.values()]
        whole = all(type(count) is int for count in counts) and isinstance(kept.gain, float | None)
        known = kind is None or kept.done.keys() == set(kind.units)
        if whole and known and size == _bytes_of_chunks(session):
            return kept
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        pass
    return None


def _bytes_of_chunks(session: Path) -> int:
    """Bytes of all `chunk.json`: they tell other chunks from those of a summary, and are not read for it."""
    steps = session / "steps"
    if not steps.is_dir():
        return 0
    with os.scandir(steps) as entries:
        chunks = [f"{entry.path}/chunk.json" for entry in entries if is_step(entry.name)]
    return sum(os.stat(chunk).st_size for chunk in chunks)  # noqa: PTH116  (a thousand sessions, many steps)
