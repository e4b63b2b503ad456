"""Measurements beside a session: taken once, there after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.evaluation.measurement_cache import MeasurementCache


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(name: str) -> dict[str, object]:
        asked.append(name)
        return {"probe": float(len(asked)), "text": "灯"}

    file = tmp_path / "measured.json"
    MeasurementCache(file).get_or_compute(-1, lambda: measure("before the first"))
    again = MeasurementCache(file)
    again.get_or_compute(-1, lambda: measure("before the first"))
    again.get_or_compute(0, lambda: measure("after the first"))
    assert asked == ["before the first", "after the first"]
    assert again.values == {-1: {"probe": 1.0, "text": "灯"}, 0: {"probe": 2.0, "text": "灯"}}
    assert json.loads(file.read_text("utf-8"))["0"]["probe"] == 2.0


@pytest.mark.parametrize("content", ["{", "[]", '{"first": 1}'])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(content)
    with pytest.raises(TemploraError, match=r"measured\.json is damaged"):
        MeasurementCache(file)
