"""Right answers, intervals and comparisons of known lines."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.evaluation.consistency import FACT, RECALL, RECALL_ADAPTER
from templora_cli.evaluation.consistency_table import (
    ADDED,
    FOUND,
    SHARE,
    comparisons_of,
    is_right,
    rows_of,
    wilson,
)


def line(
    right: int, *, group: int = 0, distance: int = 2048, kind: str = "kin", **arms: list[float]
) -> dict[str, Any]:
    """A question; `arms` are the log-likelihoods of the options after it."""
    scored = {name: {"question": values, "empty": [0.0] * 4} for name, values in arms.items()}
    return {
        "book": "a.txt",
        "group": group,
        "distance": distance,
        "kind": kind,
        "right": right,
        "tokens": [2, 2, 2, 2],
        "found": right < 3,
        "arms": scored,
    }


def chosen(option: int) -> list[float]:
    return [0.0 if index == option else -5.0 for index in range(4)]


def test_scores() -> None:
    values = {"question": [-4.0, -6.0, -3.0, -9.0], "empty": [-3.0, -8.0, -3.0, -9.0]}
    asked = {"tokens": [2, 1, 1, 9], "arms": {"window": values}}
    picks = {"sum": 2, "empty": 1, "token": 3}
    for scoring, pick in picks.items():
        for right in range(4):
            assert is_right({**asked, "right": right}, "window", scoring) == (right == pick)  # type: ignore[arg-type]


@given(st.lists(st.floats(-50, 0), min_size=4, max_size=4))
def test_an_arm_that_does_not_read_the_question_is_right_in_one_of_four(values: list[float]) -> None:
    lines = [line(right, window=values) for right in range(4)]
    assert rows_of(lines)[0].right == 25


def test_rows_of_arms_distances_and_kinds() -> None:
    lines = [
        line(0, kind="kin", window=chosen(0), recall=chosen(0)),
        line(1, kind="place", window=chosen(0), recall=chosen(1)),
        line(2, kind="kin", distance=8192, window=chosen(0), recall=chosen(2)),
    ]
    rows = {(row.arm, row.distance, row.kind): (row.right, row.questions) for row in rows_of(lines)}
    assert rows == {
        ("window", 2048, "all"): (50, 2),
        ("window", 8192, "all"): (0, 1),
        ("recall", 2048, "all"): (100, 2),
        ("recall", 8192, "all"): (100, 1),
        ("window", 2048, "kin"): (100, 1),
        ("window", 8192, "kin"): (0, 1),
        ("recall", 2048, "kin"): (100, 1),
        ("recall", 8192, "kin"): (100, 1),
        ("window", 2048, "place"): (0, 1),
        ("recall", 2048, "place"): (100, 1),
    }


def test_intervals() -> None:
    low, high = wilson(81, 263)
    assert (low, high) == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01)), "Newcombe 1998"
    assert wilson(0, 40)[0] == pytest.approx(0, abs=1e-9) and wilson(40, 40)[1] == pytest.approx(100)


@given(st.integers(0, 30), st.integers(1, 30))
def test_an_interval_holds_the_share(right: int, more: int) -> None:
    low, high = wilson(right, right + more)
    assert -1e-9 <= low <= 100 * (right / (right + more)) <= high <= 100 + 1e-9


def test_comparisons() -> None:
    rng, lines = random.Random(1), []
    for group in range(30):
        for right in range(4):
            arms = {
                FACT: chosen(right if rng.random() < 0.9 else 3 - right),
                RECALL: chosen(right if rng.random() < 0.8 else 3 - right),
                RECALL_ADAPTER: chosen(right if rng.random() < 0.9 else 3 - right),
            }
            lines.append(line(right, group=group, **arms))
    shares = {row.arm: row.right for row in rows_of(lines) if row.kind == "all"}
    added, share, found = comparisons_of(lines)
    assert (added.comparison, share.comparison) == (ADDED, SHARE)
    assert added.value == pytest.approx(shares[RECALL_ADAPTER] - shares[RECALL])
    assert share.value == pytest.approx(100 * shares[RECALL] / shares[FACT])
    for comparison in (added, share):
        assert comparison.questions == 120 and comparison.low < comparison.value < comparison.high
    assert 4 < share.high - share.low < 40
    assert comparisons_of(lines) == [added, share, found], "the intervals do not change"
    assert found.comparison == FOUND and found.low < found.value == 75 < found.high


def test_without_learning_the_adapter_is_not_compared() -> None:
    lines = [line(right, **{FACT: chosen(right), RECALL: chosen(0)}) for right in range(4)]
    share, _ = comparisons_of(lines)
    assert share.comparison == SHARE and share.value == 25
