"""Figures of the 3-class accuracy: MarS's Figure 22 for each per-minute quantity, and accuracies beside baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._similarity_figures import panel
from ._style import PALETTE, Tables, column, empty, figure, footer, rows, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_VARIANTS = {"one_rollout": "one rollout", "mean_of_rollouts": "mean of rollouts", "majority_vote": "majority vote"}
_BASELINES = {"majority_class": ("commonest class", "v", "#666666"), "time_of_day": ("time of day", "^", "#009E73"),
              "persistence": ("persistence", "D", "#CC79A7")}  # fmt: skip
_CLASSES = ("low", "middle", "high")


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name."""
    summary = tables["accuracy_summary"]
    with style():
        found = {"three_class_accuracy": _accuracies(tables)}
        for i, variant in enumerate(summary["variant"]):
            if variant == "one_rollout":
                found[f"figure_22_{summary['quantity'][i]}"] = _figure_22(tables, i)
    return found


def _figure_22(tables: Tables, row: int) -> Figure:
    summary = tables["accuracy_summary"]
    quantity, title = summary["quantity"][row], summary["title"][row]
    fig, axes = figure(1, 2, width=4.6, height=3.9)
    panel(axes[0], tables["accuracy_density"], quantity, summary["unit"][row])
    axes[0].set_title(f"{title}: distribution over minutes")
    value, low, high, kappa = (summary[name][row] for name in ("value", "ci_low", "ci_high", "kappa"))
    part = rows(tables["accuracy_confusion"], quantity=quantity, variant="one_rollout")
    _confusion(axes[1], column(part, "count").reshape(3, 3).T)
    shown = "accuracy missing" if value is None else f"accuracy {value:.3f}"
    if low is not None and high is not None:
        shown += f" [{low:.3f}, {high:.3f}]"
    if kappa is not None:
        shown += f", kappa {kappa:.3f}"
    axes[1].set_title(f"Three classes by replay's terciles\n{shown}")
    footer(
        fig,
        tables["accuracy_about"],
        f"n = {summary['n'][row]:,} minutes; 95% interval by cluster; counts are means over rollouts",
    )
    return fig


def _confusion(ax: Axes, counts: np.ndarray) -> None:
    """Simulated class up, replayed class to the right, as in the paper; share and count in each cell."""
    import seaborn as sns

    total = counts.sum()
    if not total:
        empty(ax)
        return
    text = np.array([[f"{c / total:.1%}\n({c:,.0f})" for c in row] for row in counts])
    sns.heatmap(counts / total, annot=text, fmt="", cmap="Blues", vmin=0, vmax=max(1 / 3, counts.max() / total), ax=ax,
                square=True, linewidths=1.5, xticklabels=_CLASSES, yticklabels=_CLASSES,
                cbar_kws={"label": "share of minutes", "shrink": 0.85})  # fmt: skip
    ax.invert_yaxis()
    ax.set(xlabel="replay", ylabel="simulation")


def _accuracies(tables: Tables) -> Figure:
    table = tables["accuracy_summary"]
    labels = [f"{t}, {_VARIANTS[v]}" for t, v in zip(table["title"], table["variant"], strict=True)]
    value, low, high = (column(table, name) for name in ("value", "ci_low", "ci_high"))
    at = np.arange(len(labels))
    fig, axes = figure(1, 1, width=8.6, height=1.3 + 0.26 * len(labels))
    ax = axes[0]
    ax.errorbar(value, at, xerr=np.abs(np.stack([value - low, high - value])), fmt="o", color=PALETTE["simulation"],
                capsize=3, markersize=6, label="simulation, 95% interval", zorder=4)  # fmt: skip
    for name, (label, marker, colour) in _BASELINES.items():
        shown = column(table, f"{name}_accuracy")
        if np.isfinite(shown).any():
            ax.scatter(shown, at, marker=marker, s=30, color=colour, label=label, zorder=3)
    ceiling = column(table, "ceiling")
    if np.isfinite(ceiling).any():
        ax.scatter(ceiling, at, marker="*", s=60, color="#000000", edgecolor="white", linewidth=0.5,
                   label="ceiling: the oracle", zorder=3)  # fmt: skip
    ax.axvline(1 / 3, color="#999999", linestyle=":", label="chance")
    ax.set_yticks(at, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.set(xlabel="share of pairs in the same class", title="Three-class accuracy and what it has to beat")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    footer(
        fig,
        tables["accuracy_about"],
        "returns: from the start, once per start; floor: the better of commonest class and time of day",
    )
    return fig
