"""Measures of a book's text on texts whose figures are known, and of the adapter on the tiny model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from templora_cli.config import DecodeConfig, ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.evaluation.drift_measures import LiveMeasures, Measures, by_depth, measures_of
from templora_cli.evaluation.plots import plot_drift


def chunk(index: int, tokens: list[int], text: str, nll: float = 2.0) -> dict[str, Any]:
    return {"index": index, "tokens": tokens, "text": text, "nll_base": nll}


def test_repetition_in_the_chunk_and_in_the_book() -> None:
    get_or_compute, again, loop = list(range(20)), list(range(20)), [1, 2, 3, 4] * 5
    first, second, third = measures_of(
        [chunk(0, get_or_compute, "a"), chunk(1, again, "a"), chunk(2, loop, "a")], {}
    )
    assert (first.repetition_in_chunk, first.repetition_in_book) == (0, 0)
    assert second.repetition_in_chunk == 0 and second.repetition_in_book == pytest.approx(17 / 20)
    assert third.repetition_in_chunk == pytest.approx(13 / 17)
    assert [m.depth for m in (first, second, third)] == [0, 20, 40]


def test_variety_of_words() -> None:
    first, second = measures_of(
        [chunk(0, [1] * 10, "The sea, the SEA. The sea, the sea."), chunk(1, [1] * 10, "The sea is wide")], {}
    )
    assert first.distinct_3 == pytest.approx(2 / 6)
    assert first.new_words == 200 and second.new_words == 200
    assert second.distinct_3 == 1


def test_loops_compress_better() -> None:
    prose = "A keeper climbed one hundred and nine steps before night fell over his quiet island."
    plain, loop = measures_of([chunk(0, [1], prose), chunk(1, [1], "and then " * 10)], {})
    assert plain.compression is not None and loop.compression is not None
    assert loop.compression > 3 > plain.compression


def test_empty_and_short_chunks_have_no_figures_that_mean_nothing() -> None:
    (only,) = measures_of([chunk(0, [1, 2], "")], {})
    assert only.distinct_3 is None and only.compression is None and only.repetition_in_chunk == 0


def test_rows_are_means_over_depth_and_runs() -> None:
    one = measures_of([chunk(i, [1] * 10, "x", float(i)) for i in range(4)], {0: {"probe": math.log(4)}})
    other = [replace(m, nll_base=3.0) for m in one]
    rows = by_depth([*one, *other], 20)
    assert [row.depth for row in rows] == [0, 20] and [row.tokens for row in rows] == [40, 40]
    assert rows[0].nll_base == pytest.approx((0 + 1 + 3 + 3) / 4)
    assert rows[0].probe_ppl == pytest.approx(4) and rows[1].probe_ppl is None


def test_what_is_measured_while_the_adapter_is_there(tiny_model: Path) -> None:
    train = TrainConfig(rank=4, alpha=4)
    model = loading.load(tiny_model, ModelConfig(device="cpu"), train, seed=0)
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            if "lora_B" in name:
                parameter += 0.05
    config = DecodeConfig(chunk_tokens=8, context_tokens=16)
    look = LiveMeasures(model, [1, 2], ([3], list(range(20, 40))), config)
    book = list(range(50, 90)) * 110
    state = SimpleNamespace(tokens=book[:4000])
    early = look(state)
    assert early["recall_base"] is None and early["recall_adapter"] is None
    with torch.no_grad():
        pieces = [([3], range(20, 28)), ([3, *range(20, 28)], range(28, 36))]
        pieces.append(([3, *range(20, 36)], range(36, 40)))
        nll = sum(chunk_nll(model.module, before, list(piece)).sum().item() for before, piece in pieces)
    assert early["probe"] == pytest.approx(nll / 20, rel=1e-5)
    state.tokens = book
    late = look(state)
    end = len(book) - 16 - LiveMeasures.RECALL_AFTER
    with torch.no_grad():
        prompt, passage = [1, 2, *book[end - 12 : end - 8]], book[end - 8 : end]
        adapter = chunk_nll(model.module, prompt, passage).mean().item()
        with model.without_adapter():
            base = chunk_nll(model.module, prompt, passage).mean().item()
    assert (late["recall_base"], late["recall_adapter"]) == (pytest.approx(base), pytest.approx(adapter))
    assert base != pytest.approx(adapter)


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    measured: dict[str, list[Measures]] = {
        name: measures_of([chunk(i, [1] * 10, "some words to count") for i in range(9)], {})
        for name in ("learning", "off")
    }
    plot_drift(tmp_path / "drift.svg", measured, 20)
    assert "4-grams repeated in the book" in (tmp_path / "drift.svg").read_text("utf-8")
