"""Curves as pictures, with matplotlib where it is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from templora_cli.errors import TemploraError
from templora_cli.evaluation.perplexity import Score, row

if TYPE_CHECKING:
    from templora_cli.evaluation.drift_measures import Measures

FORMATS = (".png", ".svg")


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


def plot_perplexity(path: Path, books: Mapping[str, Sequence[Score]], points: int = 24) -> None:
    """Perplexity of base and adapter against depth, one panel a book, at most `points` points a curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 + 3.1 * len(books)), layout="constrained")
    panels = figure.subplots(len(books), 1, squeeze=False)[:, 0]
    for panel, (name, scores) in zip(panels, books.items(), strict=True):
        size = math.ceil(len(scores) / points)
        groups = [scores[i : i + size] for i in range(0, len(scores), size)]
        depth = [(group[0].depth + group[-1].depth + group[-1].tokens) / 2000 for group in groups]
        rows = [row("", group) for group in groups]
        panel.plot(depth, [r.base_ppl for r in rows], color="0.55", label="base")
        if all(r.adapter_ppl is not None for r in rows):
            panel.plot(depth, [r.adapter_ppl for r in rows], color="C0", label="base + adapter")
        panel.set(title=name, xlabel="depth, thousand tokens", ylabel="perplexity")
        panel.legend(frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


PANELS = {
    "repetition_in_chunk": "4-grams repeated in the chunk",
    "repetition_in_book": "4-grams repeated in the book",
    "distinct_3": "distinct 3-grams of words",
    "compression": "compression ratio",
    "nll_base": "NLL under the base, nats/token",
    "probe_ppl": "perplexity of held-out text",
}


def plot_drift(path: Path, measured: Mapping[str, Sequence[Measures]], step: int) -> None:
    """The measures of books written with learning and without, against depth; a panel for each."""
    from matplotlib.figure import Figure

    from templora_cli.evaluation.drift_measures import by_depth

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    styles = {"learning": "C0", "off": "0.55"}
    for panel, (name, title) in zip(figure.subplots(3, 2).flat, PANELS.items(), strict=True):
        for books, all_of_it in measured.items():
            rows = [row for row in by_depth(all_of_it, step) if getattr(row, name) is not None]
            depth = [(row.depth + step / 2) / 1000 for row in rows]
            panel.plot(
                depth, [getattr(row, name) for row in rows], color=styles[books], label=books, marker="."
            )
        panel.set(title=title, xlabel="depth, thousand tokens")
        panel.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
