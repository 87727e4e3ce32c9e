"""Figures of LOB-Bench's scores: distances, divergence by horizon, event responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._lob_bench_response import TITLES
from ._style import PALETTE, Tables, column, empty, figure, rows, score_bars, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name."""
    with style():
        return {
            "lob_bench_distances": _distances(tables),
            "lob_bench_divergence": _divergence(tables),
            "lob_bench_responses": _responses(tables),
        }


def _distances(tables: Tables) -> Figure:
    table = tables["lob_bench_summary"]
    fig, axes = figure(1, 2, width=6.2, height=1.2 + 0.27 * len(table["title"]))
    panels = (
        ("halves_", "L1 (0 = same distribution, 1 = disjoint)", "L1, halves of equal size"),
        ("w1_", "Wasserstein-1, pooled standard deviations", "W1, all observations"),
    )
    for ax, (prefix, label, title) in zip(axes, panels, strict=True):
        score_bars(ax, table["title"], table, prefix=prefix, x_label=label, title=title)
        ax.set_xlim(left=0)
    axes[0].set_xlim(0, 1)
    axes[1].set_yticklabels([])
    axes[0].legend(loc="upper right")
    fig.supxlabel("floor: zero intelligence; ceiling: replay against replay", fontsize=7.5, color="#555555")
    return fig


def _divergence(tables: Tables) -> Figure:
    """Mean over the quantities, one thin line for each of them."""
    table = tables["lob_bench_divergence"]
    fig, axes = figure(1, 1, width=5.6, height=3.6)
    ax = axes[0]
    ax.set(title="Divergence by horizon", xlabel="messages since the start", ylabel="L1 of 100 messages to all real")
    if not table["l1"]:
        empty(ax)
        return fig
    messages = np.unique(column(table, "messages"))
    generated = [column(rows(table, messages=m), "l1") for m in messages.astype(int)]
    real = [column(rows(table, messages=m), "real_l1") for m in messages.astype(int)]
    for line in np.array(generated).T:
        ax.plot(messages, line, color=PALETTE["simulation"], alpha=0.15, linewidth=0.8)
    for source, label, found in (
        ("simulation", "generated, mean of the quantities", generated),
        ("replay", "real, one half against the other", real),
    ):
        mean = np.array([np.mean(each[np.isfinite(each)]) if np.isfinite(each).any() else np.nan for each in found])
        ax.plot(messages, mean, color=PALETTE[source], marker="o", markersize=4, label=label,
                linestyle="--" if source == "simulation" else "-")  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_xticks(messages)
    ax.legend(loc="best")
    return fig


def _responses(tables: Tables) -> Figure:
    table = tables["lob_bench_response"]
    events = list(dict.fromkeys(table["event"]))
    fig, axes = figure(2, 3, width=3.6, height=2.7)
    for i, (ax, event, title) in enumerate(zip(axes, events, TITLES, strict=True)):
        part = rows(table, event=event)
        ax.set(title=title, xscale="log", xlabel="events at the touch" if i > 2 else "")
        if i % 3 == 0:
            ax.set_ylabel("response, ticks")
        known = False
        for source, name, label in (("replay", "real", "Real"), ("simulation", "generated", "Generated")):
            y = column(part, name)
            if np.isfinite(y).any():
                known = True
                ax.plot(column(part, "lag"), y, color=PALETTE[source], label=label, marker="o", markersize=3,
                        linestyle="--" if source == "simulation" else "-")  # fmt: skip
        if not known:
            empty(ax, "no such event")
            continue
        ax.axhline(0, color="#999999", linewidth=0.8, zorder=0)
        if i == 0:
            ax.legend(loc="best")
    return fig
