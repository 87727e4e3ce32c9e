"""Figures of the distribution similarity: scores between floor and ceiling, and the ten distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._style import LABELS, PALETTE, Tables, column, empty, figure, footer, rows, score_bars, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLUMNS = 5


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name."""
    with style():
        return {"distribution_similarity": _bars(tables), "distributions": _distributions(tables)}


def _bars(tables: Tables) -> Figure:
    table = tables["similarity_summary"]
    fig, axes = figure(1, 1, width=7.6, height=1.2 + 0.32 * len(table["title"]))
    score_bars(axes[0], table["title"], table, x_label="overlap coefficient (1 = same distribution)",
               title="Distribution similarity of simulated and replayed minutes")  # fmt: skip
    axes[0].set_xlim(0, 1)
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    known = [n for n in table["n"] if n]
    size = f"{min(known):,} to {max(known):,} minutes a side" if known else "no minutes"
    footer(
        fig,
        tables["similarity_about"],
        f"halves of equal size, {size}; ceiling: replay against replay; floor: zero intelligence",
    )
    return fig


def _distributions(tables: Tables) -> Figure:
    summary, density = tables["similarity_summary"], tables["similarity_density"]
    count = len(summary["quantity"])
    columns = min(count, COLUMNS)
    fig, axes = figure(-(-count // columns), columns, width=max(3.1, 6.0 / columns), height=2.9)
    for i, ax in enumerate(axes):
        if i >= count:
            ax.set_axis_off()
            continue
        value, ceiling = summary["value"][i], summary["ceiling"][i]
        panel(ax, density, summary["quantity"][i], summary["unit"][i])
        shown = "" if value is None or ceiling is None else f"\noverlap {value:.3f}, ceiling {ceiling:.3f}"
        p, verdict = summary["p"][i], summary["verdict"][i]
        if p is not None and verdict is not None:
            shown += f"\n{verdict}, p {p:.3f}"
        ax.set_title(summary["title"][i] + shown, fontsize=9)
        if i % columns:
            ax.set_ylabel("")
        if i:
            legend = ax.get_legend()
            if legend is not None:
                legend.remove()
    footer(
        fig,
        tables["similarity_about"],
        "outer 1% of the values are drawn in the outer bins; p: replay and simulation exchanged by cluster",
    )
    return fig


def panel(ax: Axes, density: Mapping[str, Sequence[Any]], quantity: str, unit: str) -> None:
    """Histogram of one quantity, replay filled and simulation as a line."""
    drawn = False
    for source, colour in PALETTE.items():
        part = rows(density, quantity=quantity, source=source)
        x, p, width = (column(part, name) for name in ("x", "probability", "width"))
        if not len(x):
            continue
        drawn = True
        edges = np.append(x - width / 2, x[-1] + width[-1] / 2)
        ax.stairs(p, edges, fill=source == "replay", color=colour, alpha=0.35 if source == "replay" else 1.0,
                  linewidth=1.4, label=LABELS[source])  # fmt: skip
    ax.set(xlabel=unit, ylabel="probability")
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4), useMathText=True)
    if drawn:
        ax.legend(fontsize=8)
    else:
        empty(ax)
