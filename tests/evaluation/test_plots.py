"""Plots are readable, also of short runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templora_cli.evaluation.drift_measures import Measures
from templora_cli.evaluation.perplexity import Score
from templora_cli.evaluation.plots import plot_drift, plot_perplexity, plot_prose
from templora_cli.evaluation.prose_measures import measure
from templora_cli.evaluation.prose_text import ProseChapter

pytest.importorskip("matplotlib")


def measures(depth: int, compression: float, tokens: int = 512) -> Measures:
    return Measures(depth, tokens, 0.0, 0.0, 1.0, compression, 100.0, 3.0, None, None, None)


def words_of(path: Path) -> list[str]:
    """The texts in an SVG file."""
    return re.findall("<!-- (.*?) -->", path.read_text("utf-8"))


@pytest.mark.parametrize("chunks", [1, 2, 3, 12])
def test_every_chunk_of_a_short_drift_is_a_point(chunks: int, tmp_path: Path) -> None:
    books = [measures(512 * index, 1.07 + index * 1e-5) for index in range(chunks)]
    plot_drift(tmp_path / "a.svg", {"learning": books * 3, "off": books * 3}, 2048)
    words = words_of(tmp_path / "a.svg")
    assert "1.070" in words and not any("e-" in word or "+" in word for word in words)
    if chunks < 6:
        assert words.count(f"{512 * (chunks - 1):,}") == 5, "one per panel"
    assert "perplexity of held-out text" not in words, "it was not measured"


def test_the_points_of_a_long_drift_are_means_of_a_step(tmp_path: Path) -> None:
    books = [measures(512 * index, 1.5) for index in range(30)]
    plot_drift(tmp_path / "a.svg", {"learning": books, "off": books}, 8192)
    words = words_of(tmp_path / "a.svg")
    assert words.count("0") == words.count("8,192") == 5 and "15,000" not in words


@pytest.mark.parametrize("chunks", [1, 2, 3, 12])
def test_every_chunk_of_a_short_reading_is_a_point(chunks: int, tmp_path: Path) -> None:
    scores = [Score(128 * index, 128, 0.0676586 + index * 1e-6, 0.0676586) for index in range(chunks)]
    plot_perplexity(tmp_path / "a.svg", {"a $book$": scores})
    words = words_of(tmp_path / "a.svg")
    assert "a $book$" in words and "1.070" in words
    assert not any("e-" in word for word in words)
    if chunks < 6:
        assert "64" in words and f"{128 * chunks - 64}" in words


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(st.just(float("nan")), st.floats(-1e9, 1e9)), min_size=1, max_size=5))
def test_any_values_can_be_drawn(values: list[float], tmp_path: Path) -> None:
    books = [measures(512 * index, value) for index, value in enumerate(values)]
    plot_drift(tmp_path / "a.svg", {"learning": books, "off": books[:1]}, 2048)


@pytest.mark.filterwarnings("error")
def test_names_of_files_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["_$book$.txt", "b\udcffad.txt", *(f"{number}.txt" for number in range(12))]
    measures = measure([ProseChapter("", ("The wind came. It rained.",) * 300)])
    plot_prose(tmp_path / "a.svg", dict.fromkeys(names, measures))
    words = [word.strip() for word in words_of(tmp_path / "a.svg")]
    assert {"_$book$.txt", "b?ad.txt", "0.txt", "11.txt", "MATTR-500"} <= set(words)
    plot_perplexity(tmp_path / "a.png", {"b\udcffad.txt": [Score(0, 128, 1.0, 1.0)]})
