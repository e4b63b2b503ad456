"""Curves as pictures, with matplotlib where it is installed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.errors import TemploraError
from templora_cli.evaluation.perplexity import Score, row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from templora_cli.evaluation.drift_measures import Measures

FORMATS = (".png", ".svg")
POINTS = 24
"""At most so many are a curve that can be read."""
LEAST_SPAN = 0.02
"""What an axis of values shows at least: of the value, and in all."""
FEW = 6
"""Each of so many depths is named on the axis, where their names do not touch."""
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "0.65", "linewidth": 3, "markersize": 7},
    {"color": "C0", "linewidth": 1.5, "markersize": 4},
)
"""The second curve lies on the first and leaves it to be seen where both are equal."""


def check_plot(path: Path) -> None:
    """Raise TemploraError unless `path` has a format that can be drawn and matplotlib is there."""
    if path.suffix.lower() not in FORMATS:
        raise TemploraError(f"{path.name}: a plot is drawn as {' or '.join(FORMATS)}", "--plot ppl.png")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise TemploraError(
            "plots are drawn by matplotlib, which is not installed", "pip install 'templora[plot]'"
        ) from None


def plot_perplexity(path: Path, books: Mapping[str, Sequence[Score]]) -> None:
    """Perplexity of base and adapter against depth, one panel a book."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 + 3.1 * len(books)), layout="constrained")
    panels = figure.subplots(len(books), 1, squeeze=False)[:, 0]
    for panel, (name, scores) in zip(panels, books.items(), strict=True):
        size = math.ceil(len(scores) / POINTS)
        groups = [scores[i : i + size] for i in range(0, len(scores), size)]
        depths = [(group[0].depth + group[-1].depth + group[-1].tokens) / 2 for group in groups]
        rows = [row("", group) for group in groups]
        base = [(depth, r.base_ppl) for depth, r in zip(depths, rows, strict=True)]
        adapter = [(depth, r.adapter_ppl) for depth, r in zip(depths, rows, strict=True)]
        _draw(panel, name, {"base": base, "base + adapter": adapter})
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
    """The measures of books written with learning and without, against depth; a panel for each measure.

    A point is the mean at one depth, or over `step` tokens of it where there are many.
    """
    from matplotlib.figure import Figure

    from templora_cli.evaluation.drift_measures import by_depth

    step = _step([one for books in measured.values() for one in books], step)
    rows = {name: by_depth(books, step) for name, books in measured.items()}
    shown = [
        name for name in MEASURES if any(getattr(r, name) is not None for of in rows.values() for r in of)
    ]
    lines = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(9, 0.3 + 2.4 * lines), layout="constrained")
    panels = figure.subplots(lines, 2, squeeze=False).flat
    for panel, measure in zip_longest(panels, shown):
        if measure is None:
            panel.set_axis_off()
            continue
        curves = {name: [(r.depth, getattr(r, measure)) for r in rows[name]] for name in ("off", "learning")}
        _draw(panel, MEASURES[measure], curves)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def _step(measured: Sequence[Measures], step: int) -> int:
    """1, which leaves every depth a point of its own, where these are few and the same in all books."""
    at = Counter(one.depth for one in measured)
    return 1 if len(at) <= POINTS and len(set(at.values())) == 1 else step


def _draw(panel: Axes, title: str, curves: Mapping[str, Sequence[tuple[float, float | None]]]) -> None:
    """Curves of (depth, value) by their labels, those of the base first; without what was not measured.

    Noise in the last digits of a measure does not fill the panel.
    """
    from matplotlib.ticker import StrMethodFormatter

    points = []
    for (label, curve), style in zip(curves.items(), STYLES, strict=False):
        known = [(depth, value) for depth, value in curve if value is not None and math.isfinite(value)]
        if known:
            panel.plot(*zip(*known, strict=True), label=label, marker="o", **style)
            points += known
    panel.set_title(title, parse_math=False)
    panel.set_xlabel("depth, tokens")
    panel.spines[["top", "right"]].set_visible(False)
    panel.ticklabel_format(axis="y", style="plain", useOffset=False)
    if points:
        depths = sorted({depth for depth, _ in points})
        edge = max(1, depths[-1]) * 0.04
        panel.set_xlim(-edge, depths[-1] + edge)
        panel.set_ylim(_limits([value for _, value in points]))
        if len(depths) <= FEW and all(b - a > 2 * edge for a, b in pairwise(depths)):
            panel.set_xticks(depths)
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis; below 0 only where values are."""
    lowest, highest = min(values), max(values)
    middle = (lowest + highest) / 2
    half = 0.6 * max(highest - lowest, LEAST_SPAN * abs(middle), LEAST_SPAN)
    bottom = middle - half if lowest < 0 else max(middle - half, -0.1 * half)
    return bottom, bottom + 2 * half
