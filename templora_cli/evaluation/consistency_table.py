"""Tables of consistency: the share of right answers by arm and distance, and what one arm adds to another."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from templora_cli.evaluation.consistency import FACT, RECALL, RECALL_ADAPTER

Scoring = Literal["empty", "token", "sum"]
SCORING: Scoring = "empty"
"""The default; docs/lab/consistency.md has the comparison."""
SCORINGS: dict[Scoring, Callable[[float, float, int], float]] = {
    "empty": lambda question, empty, tokens: question - empty,
    "token": lambda question, empty, tokens: question / tokens,
    "sum": lambda question, empty, tokens: question,
}
"""The score of an option from its log-likelihoods after the question and after the empty cue, and its tokens.

`empty` is the domain-conditional PMI of Holtzman et al. (arXiv 2104.08315): a name that is likely anywhere
has no advantage.
"""
CHANCE = 25.0
"""Per cent of right answers of a model that does not read the questions."""
Z = 1.959963984540054
"""Standard deviations of a 95 % interval."""
SAMPLES = 2000
"""Bootstrap samples."""

Line = Mapping[str, Any]
"""A question with its answers; see `consistency.full_answers`. "book" names its book."""


@dataclass(frozen=True)
class ConsistencyRow:
    """The right answers of one arm at one distance, in per cent, with a 95 % interval (Wilson)."""

    arm: str
    distance: int
    kind: str
    """A kind of fact, or "all"."""
    questions: int
    right: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A figure about two arms at one distance, or about recall, with a 95 % interval.

    The interval of two arms is a bootstrap over groups of questions, that of a share is Wilson's.
    """

    comparison: str
    distance: int
    questions: int
    value: float
    low: float
    high: float


ADDED, SHARE = "adapter added to recall, points", "recall, % of fact in window"
FOUND = "facts found by recall, %"


def is_right(line: Line, arm: str, scoring: Scoring = SCORING) -> bool:
    """Does the right option of a question have the highest score?"""
    of_arm, score = line["arms"][arm], SCORINGS[scoring]
    values = zip(of_arm["question"], of_arm["empty"], line["tokens"], strict=True)
    scores = [score(*each) for each in values]
    return bool(scores.index(max(scores)) == line["right"])


def rows_of(lines: Sequence[Line], scoring: Scoring = SCORING) -> list[ConsistencyRow]:
    """A row for each arm and distance: of all questions, and of those about each kind of fact."""
    arms = list(lines[0]["arms"])
    distances = sorted({line["distance"] for line in lines})
    kinds = ["all", *sorted({line["kind"] for line in lines})]
    rows = []
    for kind in kinds:
        for arm in arms:
            for distance in distances:
                asked = [
                    line for line in lines if line["distance"] == distance and kind in ("all", line["kind"])
                ]
                if asked:
                    right = sum(is_right(line, arm, scoring) for line in asked)
                    low, high = wilson(right, len(asked))
                    share = 100 * right / len(asked)
                    rows.append(ConsistencyRow(arm, distance, kind, len(asked), share, low, high))
    return rows


def comparisons_of(lines: Sequence[Line], scoring: Scoring = SCORING) -> list[Comparison]:
    """What the adapter adds to recall, how near recall comes to the fact in the window, and what it found."""
    distances = sorted({line["distance"] for line in lines})
    rows = []
    for name, (one, other), compare in (
        (ADDED, (RECALL_ADAPTER, RECALL), _difference),
        (SHARE, (RECALL, FACT), _ratio),
    ):
        if not {one, other} <= lines[0]["arms"].keys():
            continue
        for distance in distances:
            asked = [line for line in lines if line["distance"] == distance]
            groups: dict[tuple[str, int], list[tuple[bool, bool]]] = {}
            for line in asked:
                pair = is_right(line, one, scoring), is_right(line, other, scoring)
                groups.setdefault((line["book"], line["group"]), []).append(pair)
            value, low, high = _bootstrap(list(groups.values()), compare)
            rows.append(Comparison(name, distance, len(asked), value, low, high))
    for distance in distances:
        found = [bool(line["found"]) for line in lines if line["distance"] == distance]
        if RECALL in lines[0]["arms"]:
            share = 100 * sum(found) / len(found)
            rows.append(Comparison(FOUND, distance, len(found), share, *wilson(sum(found), len(found))))
    return rows


def wilson(right: int, asked: int) -> tuple[float, float]:
    """The 95 % interval of a share, in per cent (Wilson 1927)."""
    share, square = right / asked, Z * Z / asked
    middle = share + square / 2
    half = Z * math.sqrt(share * (1 - share) / asked + square / asked / 4)
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return 100 * min(low, share), 100 * max(high, share)  # rounding may leave out a share of 0 or 1


Pairs = Sequence[tuple[bool, bool]]
Compare = Callable[[int, int, int], float]
"""A comparison from the right answers of both arms, and the number of questions."""


def _difference(one: int, other: int, asked: int) -> float:
    return 100 * (one - other) / asked


def _ratio(one: int, other: int, asked: int) -> float:
    return 100 * one / other if other else math.inf


def _bootstrap(groups: Sequence[Pairs], compare: Compare) -> tuple[float, float, float]:
    """The value of a comparison and its 95 % interval. Questions of a group have one place and one text."""
    counts = [
        (sum(one for one, _ in group), sum(other for _, other in group), len(group)) for group in groups
    ]
    rng = random.Random(0)

    def value(sample: Sequence[tuple[int, int, int]]) -> float:
        return compare(*(sum(column) for column in zip(*sample, strict=True)))

    values = sorted(value(rng.choices(counts, k=len(counts))) for _ in range(SAMPLES))
    return value(counts), values[int(0.025 * SAMPLES)], values[int(0.975 * SAMPLES) - 1]
