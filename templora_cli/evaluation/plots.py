"""Plots of evaluations, drawn with matplotlib, an optional dependency."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.errors import TemploraError
from templora_cli.evaluation.perplexity import Score, row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from templora_cli.evaluation.consistency_table import ConsistencyRow
    from templora_cli.evaluation.drift_measures import Measures
    from templora_cli.evaluation.prose_measures import ProseMeasures

FORMATS = (".png", ".svg")
MAX_POINTS = 24
"""Maximum number of points of a readable curve."""
MIN_SPAN = 0.02
"""Minimum span of a value axis, both relative to the value and absolute."""
MAX_LEGEND_NAME = 24
"""If a name has more characters, the legend has one column."""
MAX_TICKS = 6
"""Up to this number of depths, each has a tick if their labels do not touch."""
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "0.65", "linewidth": 3, "markersize": 7},
    {"color": "C0", "linewidth": 1.5, "markersize": 4},
)
"""The second curve is drawn on the first and is thinner, so that both are visible where they are equal."""


def check_plot(path: Path) -> None:
    """Raise TemploraError if `path` has an unsupported format, or matplotlib is not installed."""
    if path.suffix.lower() not in FORMATS:
        raise TemploraError(f"{path.name}: a plot is drawn as {' or '.join(FORMATS)}", "--plot plot.png")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise TemploraError(
            "plots need matplotlib, which is not installed", "pip install 'templora[plot]'"
        ) from None


def plot_perplexity(path: Path, books: Mapping[str, Sequence[Score]]) -> None:
    """Plot the perplexity of base and adapter against depth, one panel per book."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 + 3.1 * len(books)), layout="constrained")
    panels = figure.subplots(len(books), 1, squeeze=False)[:, 0]
    for panel, (name, scores) in zip(panels, books.items(), strict=True):
        size = math.ceil(len(scores) / MAX_POINTS)
        groups = [scores[i : i + size] for i in range(0, len(scores), size)]
        depths = [(group[0].depth + group[-1].depth + group[-1].tokens) / 2 for group in groups]
        rows = [row("", group) for group in groups]
        base = [(depth, r.base_ppl) for depth, r in zip(depths, rows, strict=True)]
        adapter = [(depth, r.adapter_ppl) for depth, r in zip(depths, rows, strict=True)]
        control = [(depth, r.control_ppl) for depth, r in zip(depths, rows, strict=True)]
        lines: dict[str, Sequence[tuple[float, float | None]]] = {"base": base, "base + adapter": adapter}
        if all(value is not None for _, value in control):
            lines["control"] = control
        _draw(panel, name, lines)
        panel.set_ylabel("perplexity")
        panel.legend(frameon=False)
    figure.savefig(path, dpi=150)


MEASURES = {
    "repetition_in_chunk": "4-grams repeated in the chunk",
    "repetition_in_book": "4-grams repeated in the book",
    "distinct_3": "distinct 3-grams of words",
    "compression": "compression ratio",
    "nll_base": "NLL under the base, nats/token",
    "probe_ppl": "perplexity of held-out text",
}


def plot_drift(path: Path, measured: Mapping[str, Sequence[Measures]], step: int) -> None:
    """Plot the measures of books with learning and without against depth, one panel per measure.

    A point is the mean at one depth or, if there are many depths, over a range of `step` tokens.
    """
    from matplotlib.figure import Figure

    from templora_cli.evaluation.drift_measures import by_depth

    step = _step_of_points([measures for books in measured.values() for measures in books], step)
    rows = {name: by_depth(books, step) for name, books in measured.items()}
    all_rows = [row for book_rows in rows.values() for row in book_rows]
    plotted = [name for name in MEASURES if any(getattr(r, name) is not None for r in all_rows)]
    lines = math.ceil(len(plotted) / 2)
    figure = Figure(figsize=(9, 0.3 + 2.4 * lines), layout="constrained")
    panels = figure.subplots(lines, 2, squeeze=False).flat
    for panel, measure in zip_longest(panels, plotted):
        if measure is None:
            panel.set_axis_off()
            continue
        curves = {name: [(r.depth, getattr(r, measure)) for r in rows[name]] for name in ("off", "learning")}
        _draw(panel, MEASURES[measure], curves)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_consistency(path: Path, rows: Sequence[ConsistencyRow]) -> None:
    """Plot the right answers of each arm by distance, with their intervals; a dotted line is chance."""
    from matplotlib.figure import Figure

    from templora_cli.evaluation.consistency_table import CHANCE

    overall = [row for row in rows if row.kind == "all"]
    distances = sorted({row.distance for row in overall})
    arms = list(dict.fromkeys(row.arm for row in overall))
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    for number, arm in enumerate(arms):
        of_arm = sorted((row for row in overall if row.arm == arm), key=lambda row: row.distance)
        # Side by side, so that the intervals of all arms are visible.
        at = [distances.index(row.distance) + 0.06 * (number - (len(arms) - 1) / 2) for row in of_arm]
        values = [row.right for row in of_arm]
        errors = [[row.right - row.low for row in of_arm], [row.high - row.right for row in of_arm]]
        panel.errorbar(at, values, yerr=errors, label=arm, marker="o", markersize=4)
    panel.axhline(CHANCE, color="0.6", linestyle=":", label="chance")
    panel.set_xticks(range(len(distances)), [f"{distance:,}" for distance in distances])
    panel.set_xlabel("tokens after the fact")
    panel.set_ylabel("right answers, %")
    panel.set_ylim(0, 102)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)


def plot_author(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Plot how far each arm changes the perplexity of the true text, against depth."""
    from matplotlib.figure import Figure

    depths = list(dict.fromkeys(each["depth"] for each in rows))
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    for arm in dict.fromkeys(each["arm"] for each in rows):
        of_arm = [each for each in rows if each["arm"] == arm]
        at = [depths.index(each["depth"]) for each in of_arm]
        panel.plot(at, [each["change"] for each in of_arm], label=arm, marker="o", markersize=4)
    panel.set_xticks(range(len(depths)), [depth.removesuffix("+") for depth in depths])
    panel.set_xlabel("tokens of the book before")
    panel.set_ylabel("change of the perplexity, %")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)


def _step_of_points(measured: Sequence[Measures], step: int) -> int:
    """1 if the depths are few and the same in all books, so that each has a point; else `step`."""
    depths = Counter(measures.depth for measures in measured)
    return 1 if len(depths) <= MAX_POINTS and len(set(depths.values())) == 1 else step


PROSE_PANELS = {
    "repetition": "4-grams repeated",
    "mattr_500": "MATTR-500",
    "sentence_words": "words in a sentence",
    "dialogue": "share of words in dialogue",
    "questions": "share of sentences that ask",
}


def plot_prose(path: Path, texts: Mapping[str, ProseMeasures]) -> None:
    """Plot measures of prose against depth, one panel per measure and one curve per text."""
    from matplotlib.figure import Figure

    names = [f" {_printable(name)}" for name in texts]  # the legend leaves out names that begin with _
    columns = 1 if max(map(len, names)) > MAX_LEGEND_NAME else min(4, len(names))
    height = 8 + 0.2 * math.ceil(len(names) / columns)
    figure = Figure(figsize=(9, height), layout="constrained")
    *panels, last_panel = figure.subplots(3, 2).flat
    styles = [
        {"color": f"C{i % 10}", "linestyle": ("-", "--", ":")[i // 10 % 3], "linewidth": 1.5, "markersize": 4}
        for i in range(len(texts))
    ]
    for panel, (measure, title) in zip(panels, PROSE_PANELS.items(), strict=True):
        curves = {
            name: [(row.depth + row.words / 2, getattr(row, measure)) for row in measures.by_depth]
            for name, measures in texts.items()
        }
        _draw(panel, title, curves, styles=styles, unit="words")
    by_chapter = {name: _repetition_by_chapter(measures) for name, measures in texts.items()}
    if any(value is not None for curve in by_chapter.values() for _, value in curve):
        _draw(last_panel, "4-grams of chapters before", by_chapter, styles=styles, unit="words")
    else:
        last_panel.set_axis_off()
    legend = figure.legend(
        panels[2].get_lines(), names, loc="outside lower center", frameon=False, ncols=columns, fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.savefig(path, dpi=150)


def _repetition_by_chapter(measures: ProseMeasures) -> list[tuple[float, float | None]]:
    """For each chapter its middle, in words of the book, and the share of its 4-grams in chapters before."""
    curve, depth = [], 0
    for chapter in measures.by_chapter:
        curve.append((depth + chapter.words / 2, chapter.repetition_across))
        depth += chapter.words
    return curve


def _draw(
    panel: Axes,
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float | None]]],
    *,
    styles: Sequence[Mapping[str, Any]] = STYLES,
    unit: str = "tokens",
) -> None:
    """Draw curves of (depth, value) by label, that of the base first. Values of None are left out.

    The value axis has a minimum span, so that noise in the last digits does not fill the panel.
    """
    from matplotlib.ticker import StrMethodFormatter

    points = []
    for (label, curve), style in zip(curves.items(), cycle(styles), strict=False):
        finite = [(depth, value) for depth, value in curve if value is not None and math.isfinite(value)]
        if finite:
            panel.plot(*zip(*finite, strict=True), label=label, marker="o", **style)
            points += finite
    panel.set_title(_printable(title), parse_math=False)
    panel.set_xlabel(f"depth, {unit}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.ticklabel_format(axis="y", style="plain", useOffset=False)
    if points:
        depths = sorted({depth for depth, _ in points})
        margin = max(1, depths[-1]) * 0.04
        panel.set_xlim(-margin, depths[-1] + margin)
        panel.set_ylim(_limits([value for _, value in points]))
        if len(depths) <= MAX_TICKS and all(b - a > 2 * margin for a, b in pairwise(depths)):
            panel.set_xticks(depths)
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _printable(name: str) -> str:
    """A name without the surrogates that stand for bytes which are not UTF-8; no font has them."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """(bottom, top) of a value axis. It extends far below 0 only for negative values."""
    lowest, highest = min(values), max(values)
    middle = (lowest + highest) / 2
    half = 0.6 * max(highest - lowest, MIN_SPAN * abs(middle), MIN_SPAN)
    bottom = middle - half if lowest < 0 else max(middle - half, -0.1 * half)
    return bottom, bottom + 2 * half
