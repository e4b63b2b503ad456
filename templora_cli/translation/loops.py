"""Loops in a text: words or characters that repeat many times."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_PHRASE_UNITS = 24
"""Longer phrases are not searched for repetitions in a row."""
GRAM_UNITS = 4
MIN_GRAMS = 20
"""A text with fewer 4-grams may repeat some by chance."""
MIN_REPEATED_SHARE = 0.35
"""A text in which this share of 4-grams is repeated is a loop. In human English the maximum is 0.2."""
_SAME_CHARACTER = re.compile(r"(\S)\1{23,}")


def repeats_in_a_row(units: Sequence[str]) -> tuple[int, str]:
    """The phrase that comes nearest to a loop, as (percent, phrase); from 100 % on it is a loop.

    The percentage is the number of repetitions in a row relative to the number that makes a loop: 6 for a
    single unit, 4 for a phrase of 2 to 5 units, 3 for a longer one.
    """
    max_percent, phrase = 0, ""
    for size in range(1, min(MAX_PHRASE_UNITS, len(units) // 2) + 1):
        repeats_of_loop = 6 if size == 1 else 4 if size <= 5 else 3
        run = 0
        for index in range(size, len(units)):
            run = run + 1 if units[index] == units[index - size] else 0
            percent = 100 * (run // size + 1) // repeats_of_loop
            if run >= size and percent > max_percent:
                max_percent, phrase = percent, " ".join(units[index - size + 1 : index + 1])
    return max_percent, phrase


def repeated_share(units: Sequence[str]) -> float:
    """Share of 4-grams that occur earlier in the text; 0 for a text that is too short."""
    total = len(units) - GRAM_UNITS + 1
    if total < MIN_GRAMS:
        return 0.0
    return 1 - len({tuple(units[i : i + GRAM_UNITS]) for i in range(total)}) / total


def loop_in(source: str, target: str, source_units: Sequence[str], target_units: Sequence[str]) -> str | None:
    """A message that describes the loop in `target`; None if there is none, or `source` repeats as much."""
    run = _SAME_CHARACTER.search(target)
    if run and len(run.group()) > 2 * max(
        (len(m.group()) for m in re.finditer(r"(\S)\1*", source)), default=1
    ):
        return f"{run.group(1)!r} is repeated {len(run.group())} times in a row"
    share = repeated_share(target_units)
    if share >= MIN_REPEATED_SHARE and share > repeated_share(source_units) + 0.2:
        return f"{share:.0%} of its phrases of {GRAM_UNITS} words are repetitions"
    if len(target_units) < 6:
        return None
    percent, phrase = repeats_in_a_row(target_units)
    if percent >= 100 and percent > 1.5 * repeats_in_a_row(source_units)[0]:
        return f"“{phrase[:60]}” is repeated over and over"
    return None
