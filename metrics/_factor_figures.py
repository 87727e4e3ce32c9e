"""Figures of impact factors: impact against each factor of MarS by agent, and their correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marsbench.drawing import COLOURS, MARKERS

from ._style import Tables, column, empty, figure, rows, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {
    "resiliency": "Resiliency",
    "lob_pressure": "LOB pressure (known after the trade)",
    "lob_depth": "LOB depth",
}


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name; none where nothing could be computed."""
    if "factor_bins" not in tables:
        return {}
    with style():
        found = {f"impact_by_{name}": _by_agent(tables, name) for name in _TITLES}
        found["factor_correlations"] = _correlations(tables)
    return found


def _by_agent(tables: Tables, name: str) -> Figure:
    table = rows(tables["factor_bins"], factor=name)
    fig, (ax,) = figure(1, 1, width=5.2, height=4.0)
    for i, agent in enumerate(dict.fromkeys(table["agent"])):
        part = rows(table, agent=agent)
        value = column(part, "mean_impact")
        error = np.abs(np.stack([value - column(part, "ci_low"), column(part, "ci_high") - value]))
        ax.errorbar(
            column(part, "mean_factor"), value, yerr=np.nan_to_num(error), capsize=3, markersize=4.5, label=agent,
            color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)],
        )  # fmt: skip
    ax.set(title=f"Impact by {_TITLES[name]}", xlabel=_TITLES[name], ylabel="mean impact / daily volatility")
    ax.legend(title="agent") if table["agent"] else empty(ax)
    _foot(fig, tables, "equally full bins by agent, 95% interval by cluster")
    return fig


def _correlations(tables: Tables) -> Figure:
    table = tables["factor_correlations"]
    names = list(dict.fromkeys(table["row"]))
    fig, axes = figure(1, 2, width=4.6, height=4.4)
    for ax, (name, title) in zip(axes, {"correlation": "Simulated", "paper": "MarS, Figure 25"}.items(), strict=True):
        matrix = column(table, name).reshape(len(names), len(names))
        ax.imshow(matrix, cmap="coolwarm", vmin=-1, vmax=1)
        for i, j in np.ndindex(matrix.shape):
            text = f"{matrix[i, j]:.{2 if name == 'correlation' else 1}f}" if np.isfinite(matrix[i, j]) else "-"
            ax.text(j, i, text, ha="center", va="center", fontsize=8)
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.grid(visible=False)
        ax.set_title(title)
    _foot(fig, tables, "Pearson's correlation over metaorders")
    return fig


def _foot(fig: Figure, tables: Tables, extra: str) -> None:
    about = dict(zip(tables["factor_about"]["name"], tables["factor_about"]["value"], strict=True))
    text = f"{about['metaorders']} metaorders from {about['starts']} starts in {about['clusters']} clusters\n{extra}"
    if about["single_day"] == "yes":
        text += "; single day: within-day inference only"
    fig.supxlabel(text, fontsize=7.5, color="#555555")
