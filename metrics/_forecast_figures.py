"""Figures of forecasts: accuracy by horizon, by number of rollouts, and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._style import MARKS, Tables, column, empty, figure, rows, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS = {"trend": ("Trend", "#0072B2", "o"), "volatility": ("Realised volatility", "#D55E00", "s")}
_TITLES = {"accuracy": "Accuracy of three classes", "log_loss": "Log-loss, nats"}


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name."""
    with style():
        found = {
            "forecast_accuracy": _by_horizon(tables),
            "forecast_calibration": _calibration(tables),
        }
        if tables["forecast_rollouts"]["target"]:
            found["forecast_rollouts"] = _by_rollouts(tables)
    return found


def _by_horizon(tables: Tables) -> Figure:
    fig, axes = figure(1, 2, width=4.8, height=3.7)
    for ax, (statistic, title) in zip(axes, _TITLES.items(), strict=True):
        for (kind, (label, colour, marker)), aside in zip(_KINDS.items(), (-0.03, 0.03), strict=True):
            part = rows(tables["forecast_summary"], kind=kind, statistic=statistic)
            x, value = column(part, "minutes"), column(part, "value")
            if not len(x):
                continue
            error = np.abs(np.stack([value - column(part, "ci_low"), column(part, "ci_high") - value]))
            ax.errorbar(x + aside, value, yerr=error, color=colour, marker=marker, capsize=3, label=label)
            for name, line in (("floor", ":"), ("ceiling", "--")):
                mark = column(part, name)
                if np.isfinite(mark).any():
                    ax.plot(x, mark, line, color=colour, alpha=0.7, label=f"{label}, {name}")
        ax.set(title=title, xlabel="minutes ahead")
        _whole_numbers(ax)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    _foot(fig, tables, "95% interval by cluster")
    return fig


def _by_rollouts(tables: Tables) -> Figure:
    table = tables["forecast_rollouts"]
    fig, axes = figure(1, 2, width=4.8, height=3.7)
    for ax, (kind, (label, _, _)) in zip(axes, _KINDS.items(), strict=True):
        targets = [t for t in dict.fromkeys(table["target"]) if t.startswith(kind)]
        for i, target in enumerate(targets):
            part = rows(table, target=target)
            value = column(part, "accuracy")
            error = np.abs(np.stack([value - column(part, "ci_low"), column(part, "ci_high") - value]))
            colour = f"C{i}"
            ax.errorbar(column(part, "rollouts"), value, yerr=error, marker="o", markersize=4, capsize=3, color=colour,
                        label=f"{target.split('.')[1].rstrip('m')} min")  # fmt: skip
        ax.set(title=f"{label}: accuracy of the vote", xlabel="rollouts", xscale="log")
        ticks = sorted({int(r) for r in table["rollouts"]})
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        ax.axhline(1 / 3, color=MARKS["floor"], linewidth=0.8, linestyle=":")
        ax.legend(title="horizon") if targets else empty(ax)
    _foot(fig, tables, "mean over all groups of so many rollouts")
    return fig


def _calibration(tables: Tables) -> Figure:
    table = tables["forecast_calibration"]
    fig, axes = figure(1, 2, width=4.4, height=4.1)
    for ax, (kind, (label, _, _)) in zip(axes, _KINDS.items(), strict=True):
        targets = [t for t in dict.fromkeys(table["target"]) if t.startswith(kind)]
        ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        for i, target in enumerate(targets):
            part = rows(table, target=target)
            came = column(part, "came")
            error = np.abs(np.stack([came - column(part, "ci_low"), column(part, "ci_high") - came]))
            ax.errorbar(
                column(part, "probability"), came, yerr=np.nan_to_num(error), marker="o", markersize=4, capsize=3,
                color=f"C{i}", label=f"{target.split('.')[1].rstrip('m')} min",
            )  # fmt: skip
        ax.set(title=label, xlabel="foretold probability of a class", ylabel="share of times that it came")
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.legend(title="horizon") if targets else empty(ax)
    _foot(fig, tables, "all three classes together, in tenths of probability")
    return fig


def _whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _foot(fig: Figure, tables: Tables, extra: str) -> None:
    about = dict(zip(tables["forecast_about"]["name"], tables["forecast_about"]["value"], strict=True))
    text = f"{about['starts']} starts in {about['clusters']} clusters, {about['forecast']}; {extra}"
    if about["single_day"] == "yes":
        text += "; single day: within-day inference only"
    fig.supxlabel(text, fontsize=7.5, color="#555555")
