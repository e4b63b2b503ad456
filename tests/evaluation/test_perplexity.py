"""Perplexities and their tables, with values that can be calculated by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.evaluation.perplexity import Score, perplexity, row, scores_of, table
from templora_cli.evaluation.plots import check_plot, plot_perplexity


def test_perplexity_is_exp_of_the_mean_over_tokens() -> None:
    nlls = [(math.log(2), 300), (math.log(32), 100)]
    assert perplexity(nlls, "tokens") == pytest.approx(4)
    assert perplexity(nlls, "chunks") == pytest.approx(17), "the reference code's mean over chunks"


def test_depth_is_the_number_of_tokens_before_a_chunk() -> None:
    chunks = [{"tokens": [1] * n, "nll_base": 1.0, "nll_adapter": None} for n in (10, 10, 5)]
    assert [score.depth for score in scores_of(chunks)] == [0, 10, 20]


def test_a_table_has_a_row_for_each_range_and_one_for_all() -> None:
    scores = [Score(depth, 10, math.log(4), math.log(3)) for depth in (0, 10, 20, 30)]
    rows = table(scores, depths=(0, 20, 1000))
    assert [r.depth for r in rows] == ["0-0K", "0-1K", "all"]
    assert [r.tokens for r in rows] == [20, 20, 40]
    for r in rows:
        assert (r.base_ppl, r.adapter_ppl, r.change) == pytest.approx((4, 3, -25))


def test_names_of_depths() -> None:
    depths = [r.depth for r in table([Score(d, 1, 1.0, 1.0) for d in (0, 30_000, 600_000)])]
    assert depths == ["0-25K", "25-50K", "500K+", "all"]


def test_without_learning_there_is_no_perplexity_of_the_adapter() -> None:
    assert row("all", [Score(0, 10, 1.0, None)]).adapter_ppl is None
    assert table([]) == []


nats = st.floats(0, 20)


@given(st.lists(st.tuples(nats, nats, st.integers(1, 2000)), min_size=1))
def test_every_chunk_is_in_one_row_and_the_total_is_between_the_rows(
    chunks: list[tuple[float, float, int]],
) -> None:
    scores, depth = [], 0
    for base, adapter, tokens in chunks:
        scores.append(Score(depth, tokens, base, adapter))
        depth += tokens
    *rows, total = table(scores, depths=(0, 1000, 5000))
    assert sum(row.tokens for row in rows) == total.tokens == depth
    low, high = min(row.base_ppl for row in rows), max(row.base_ppl for row in rows)
    assert low * (1 - 1e-9) <= total.base_ppl <= high * (1 + 1e-9)


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    learnt = [Score(d, 10, 3.0, 2.9) for d in range(0, 1000, 10)]
    plain = [Score(d, 10, 3.0, None) for d in range(0, 30, 10)]
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        plot_perplexity(tmp_path / f"a{suffix}", {"one": learnt, "two": plain})
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(magic)
    with pytest.raises(TemploraError, match=r"drawn as \.png or \.svg"):
        check_plot(tmp_path / "a.pdf")
