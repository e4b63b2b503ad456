"""What a list of sessions shows of one, kept beside its steps so that a list need not read the books."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from templora_cli.files import write_atomically
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.steps import committed_steps, read_chunks
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

    def save(self, session: Path) -> None:
        """Keep it in the folder of the session."""
        write_atomically(session / FILE, json.dumps(asdict(self)))


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
    try:
        kept = Summary(**json.loads((session / FILE).read_text("utf-8")))
        if kept.chunks == len(committed_steps(session / "steps")) and kept.done.keys() == set(kind.units):
            return kept
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # a kill may have come between a step and its summary
    return summary_of(read_chunks(session / "steps"), kind)
