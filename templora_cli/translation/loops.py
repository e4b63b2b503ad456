"""Loops in a text: the same words or characters again and again."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_PHRASE = 24
"""Units of the longest phrase whose repetition in a row is looked for."""
GRAM = 4
GRAMS_TO_JUDGE = 20
"""A text with fewer 4-grams repeats some by chance."""
REPEATED_SHARE = 0.35
"""Share of 4-grams that were there before, from which a text loops. People's English: at most 0.2."""
_SAME_CHARACTER = re.compile(r"(\S)\1{23,}")


def repeats_in_a_row(units: Sequence[str]) -> tuple[int, str]:
    """How often a phrase stands in a row, weighed: the largest share of what makes it a loop, times 100.

    A single unit is a loop from 6 times on, a phrase of 2 to 5 from 4, a longer one from 3. Returns
    (100 or more: a loop, the phrase).
    """
    worst, phrase = 0, ""
    for size in range(1, min(MAX_PHRASE, len(units) // 2) + 1):
        needed = 6 if size == 1 else 4 if size <= 5 else 3
        run = 0
        for at in range(size, len(units)):
            run = run + 1 if units[at] == units[at - size] else 0
            share = 100 * (run // size + 1) // needed
            if run >= size and share > worst:
                worst, phrase = share, " ".join(units[at - size + 1 : at + 1])
    return worst, phrase


def repeated_share(units: Sequence[str]) -> float:
    """Share of 4-grams that are repetitions; 0 in a text that is too short to tell."""
    total = len(units) - GRAM + 1
    if total < GRAMS_TO_JUDGE:
        return 0.0
    return 1 - len({tuple(units[i : i + GRAM]) for i in range(total)}) / total


def loop_in(source: str, target: str, source_units: Sequence[str], target_units: Sequence[str]) -> str | None:
    """The loop of `target` in words; None where there is none, or where `source` repeats as much."""
    run = _SAME_CHARACTER.search(target)
    if run and len(run.group()) > 2 * max(
        (len(m.group()) for m in re.finditer(r"(\S)\1*", source)), default=1
    ):
        return f"{run.group(1)!r} stands {len(run.group())} times in a row"
    share = repeated_share(target_units)
    if share >= REPEATED_SHARE and share > repeated_share(source_units) + 0.2:
        return f"{share:.0%} of its phrases of {GRAM} words are repetitions"
    if len(target_units) < 6:
        return None
    worst, phrase = repeats_in_a_row(target_units)
    if worst >= 100 and worst > 1.5 * repeats_in_a_row(source_units)[0]:
        return f"“{phrase[:60]}” stands there again and again"
    return None
