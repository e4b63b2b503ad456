"""Measurements of a session are saved, and are not repeated after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.evaluation.measurement_cache import MeasurementCache


def test_a_saved_measurement_is_not_repeated(tmp_path: Path) -> None:
    calls: list[str] = []

    def measure(name: str) -> dict[str, object]:
        calls.append(name)
        return {"probe": float(len(calls)), "text": "灯"}

    file = tmp_path / "measured.json"
    MeasurementCache(file).measure_once(-1, lambda: measure("before the first"))
    reopened = MeasurementCache(file)
    reopened.measure_once(-1, lambda: measure("before the first"))
    reopened.measure_once(0, lambda: measure("after the first"))
    assert calls == ["before the first", "after the first"]
    assert reopened.values == {-1: {"probe": 1.0, "text": "灯"}, 0: {"probe": 2.0, "text": "灯"}}
    assert json.loads(file.read_text("utf-8"))["0"]["probe"] == 2.0


@pytest.mark.parametrize("content", ["{", "[]", '{"first": 1}'])
def test_a_damaged_file_is_an_error(content: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(content)
    with pytest.raises(TemploraError, match=r"measured\.json is damaged"):
        MeasurementCache(file)
