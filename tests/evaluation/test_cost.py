"""The cost of reading and writing."""

from __future__ import annotations

import time

import pytest
import torch

from templora_cli.evaluation.cost import PeakMemory, cost_of


def test_a_peak_is_measured_although_the_memory_is_freed() -> None:
    with PeakMemory(torch.device("cpu")) as before:
        time.sleep(0.05)
    with PeakMemory(torch.device("cpu")) as peak:
        large = bytearray(b"x") * 200_000_000
        time.sleep(0.1)
        del large
    assert 150e6 < peak.bytes - before.bytes < 400e6


def test_seconds_per_1000_tokens() -> None:
    chunks = [
        {"tokens": [1] * 400, "seconds": {"score": 1.0, "train": 2.0, "commit": 9.0}},
        {"tokens": [1] * 100, "seconds": {"score": 0.5}},
    ]
    cost = cost_of(chunks, (1.0, 0.1), 5_000, chunk_tokens=11)
    assert cost.peak_bytes == 5_000
    assert cost.read_seconds == pytest.approx(7.0)
    assert cost.write_seconds == pytest.approx(7.0 + (1.0 + 10 * 0.1) / 11 * 1000)
