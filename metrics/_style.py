"""How the metrics' figures look: one palette that colour-blind readers can tell apart, one footer, one band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from marsbench.drawing import column, empty, figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "LABELS",
    "PALETTE",
    "Tables",
    "column",
    "curves",
    "empty",
    "figure",
    "footer",
    "rows",
    "score_bars",
    "style",
]

Tables = Mapping[str, Mapping[str, Sequence[Any]]]

PALETTE = {"replay": "#0072B2", "simulation": "#D55E00"}
"""Okabe and Ito's blue and vermilion; replay is also drawn solid, simulation dashed."""
MARKS = {"floor": "#666666", "ceiling": "#009E73"}
LABELS = {"replay": "Replay", "simulation": "Simulation"}
_DASHES = {"replay": "-", "simulation": "--"}
_MARKERS = {"replay": "o", "simulation": "s"}


def footer(fig: Figure, table: Mapping[str, Sequence[Any]], extra: str = "") -> None:
    """What stands behind the figure: starts, rollouts, instruments, clusters."""
    about = dict(zip(table["name"], table["value"], strict=True))

    def many(name: str) -> str:
        return f"{about[name]} {name if about[name] != '1' else name[:-1]}"

    text = f"{many('starts')} of {about['minutes']} minutes, {many('rollouts')} each, "
    text += f"{many('instruments')}, {many('clusters')}"
    if about.get("single_day") == "yes":
        text += "; single day: within-day inference only"
    fig.supxlabel("\n".join(filter(None, [text, extra])), fontsize=7.5, color="#555555")


def rows(table: Mapping[str, Sequence[Any]], **where: Any) -> dict[str, list[Any]]:
    """The rows in which the columns have these values."""
    length = len(next(iter(table.values()), []))
    keep = [i for i in range(length) if all(table[name][i] == value for name, value in where.items())]
    return {name: [values[i] for i in keep] for name, values in table.items()}


def curves(ax: Axes, table: Mapping[str, Sequence[Any]], *, title: str, x_label: str, y_label: str) -> None:
    """Replay against simulation with 95% bands."""
    import seaborn as sns

    drawn = False
    for source, colour in PALETTE.items():
        part = rows(table, source=source)
        x, y = column(part, "x"), column(part, "value")
        low, high = column(part, "ci_low"), column(part, "ci_high")
        if not np.isfinite(y).any():
            continue
        drawn = True
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        sns.lineplot(
            x=x, y=y, ax=ax, color=colour, linestyle=_DASHES[source], marker=_MARKERS[source], markersize=4,
            label=LABELS[source], errorbar=None,
        )  # fmt: skip
    ax.set(title=title, xlabel=x_label, ylabel=y_label)
    if not drawn:
        empty(ax)
        return
    ax.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11))
    ax.legend(loc="best")


def score_bars(
    ax: Axes, labels: Sequence[str], table: Mapping[str, Sequence[Any]], *, prefix: str = "", x_label: str, title: str
) -> None:
    """Horizontal bars with interval, and marks for floor and ceiling."""
    value, low, high = (column(table, prefix + name) for name in ("value", "ci_low", "ci_high"))
    at = np.arange(len(labels))
    ax.barh(at, value, height=0.62, color=PALETTE["simulation"], alpha=0.75, label="simulation")
    width = np.abs(np.stack([value - low, high - value]))
    ax.errorbar(value, at, xerr=width, fmt="none", ecolor="#222222", elinewidth=1, capsize=2.5, label="95% interval")
    for name, marker in (("floor", "X"), ("ceiling", "D")):
        marks = column(table, prefix + name)
        if np.isfinite(marks).any():
            ax.scatter(
                marks,
                at,
                marker=marker,
                s=34,
                color=MARKS[name],
                edgecolor="white",
                linewidth=0.6,
                zorder=3,
                label=name,
            )
    for i in at[~np.isfinite(value)]:
        word = "" if "not applicable" in labels[i] else "missing"
        ax.text(0.01, i, word, va="center", fontsize=8, color="#555555", transform=ax.get_yaxis_transform())
    ax.set_yticks(at, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)  # whatever is missing at either end
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=x_label, title=title)
