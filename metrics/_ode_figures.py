"""Figures of the learned ODE: weights as in MarS's Figure 9b, autocorrelation as in its Figure 26, mean paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._style import MARKS, Tables, column, empty, figure, rows, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MODELS = {
    "learned": ("Learned ODE, held out", "#D55E00", "s", "--"),
    "base_inverse_sqrt": ("Base ODE, 1/sqrt(t)", "#009E73", "^", ":"),
    "base_inverse": ("Base ODE, 1/t", "#CC79A7", "v", ":"),
}
_TRUTH = ("Ground truth", "#0072B2", "o", "-")


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name; none where there was too little to fit."""
    if "ode_weights" not in tables:
        return {}
    with style():
        return {
            "figure_9b": _weights(tables),
            "figure_26": _autocorrelation(tables),
            "impact_ode_paths": _paths(tables),
        }


def _weights(tables: Tables) -> Figure:
    """Ours above, the paper's below; a cell whose interval excludes 0 is bold."""
    table = tables["ode_weights"]
    factors, decays = (list(dict.fromkeys(table[name])) for name in ("factor", "decay"))
    fig, axes = figure(2, 1, width=8.4, height=2.5)
    for ax, name, title in zip(axes, ("weight", "paper"), ("Weights on standardised factors", "MarS"), strict=True):
        values = np.array([column(rows(table, decay=d), name) for d in decays])
        clear = np.zeros(values.shape, bool)
        if name == "weight":
            ends = [np.array([column(rows(table, decay=d), end) for d in decays]) for end in ("ci_low", "ci_high")]
            clear = (ends[0] > 0) | (ends[1] < 0)
        _heat(ax, values, clear, factors, decays)
        ax.set_title(title)
    _foot(fig, tables, "bold: 95% interval of the penalised weight excludes 0; MarS: labels of rows not certain")
    return fig


def _heat(ax: Axes, values: np.ndarray, clear: np.ndarray, factors: list[str], decays: list[str]) -> None:
    import seaborn as sns

    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    sns.heatmap(
        values, ax=ax, cmap="vlag", vmin=-(most or 1.0), vmax=most or 1.0, annot=True, fmt=".3g", linewidths=0.5,
        xticklabels=factors, yticklabels=decays, cbar=False,
    )  # fmt: skip
    for text, bold in zip(ax.texts, clear[np.isfinite(values)], strict=True):
        text.set_fontweight("bold" if bold else "normal")
    ax.grid(visible=False)
    ax.tick_params(axis="x", rotation=20)
    ax.tick_params(axis="y", rotation=0)


def _autocorrelation(tables: Tables) -> Figure:
    table = tables["ode_autocorrelation"]
    fig, (ax,) = figure(1, 1, width=5.6, height=3.9)
    lag, truth = column(table, "lag"), column(table, "truth")
    error = np.abs(np.stack([truth - column(table, "ci_low"), column(table, "ci_high") - truth]))
    label, colour, marker, dash = _TRUTH
    ax.errorbar(lag, truth, yerr=error, color=colour, marker=marker, linestyle=dash, capsize=3, label=label)
    for name, (label, colour, marker, dash) in _MODELS.items():
        ax.plot(lag, column(table, name), color=colour, marker=marker, linestyle=dash, label=label)
    ax.set(title="Correlation over trajectories of Y(t) and Y(t + lag)", xlabel="lag, minutes", xticks=lag)
    ax.legend() if np.isfinite(truth).any() else empty(ax)
    _foot(fig, tables, "mean over t; 95% interval by cluster")
    return fig


def _paths(tables: Tables) -> Figure:
    table = tables["ode_paths"]
    fig, (ax,) = figure(1, 1, width=5.6, height=3.9)
    minute = column(table, "minute")
    for name, (label, colour, marker, dash) in {"truth": _TRUTH, **_MODELS}.items():
        ax.plot(minute, column(table, name), color=colour, marker=marker, markersize=4, linestyle=dash, label=label)
    about = dict(zip(tables["ode_about"]["name"], tables["ode_about"]["value"], strict=True))
    ax.axvline(float(about["trading_minutes"]), color=MARKS["floor"], linewidth=0.8, linestyle=":")
    ax.set(title="Mean impact", xlabel="minutes after the start", ylabel="daily volatility", xticks=minute[::2])
    ax.legend()
    _foot(fig, tables, "dotted line: end of trading")
    return fig


def _foot(fig: Figure, tables: Tables, extra: str) -> None:
    about = dict(zip(tables["ode_about"]["name"], tables["ode_about"]["value"], strict=True))
    text = f"{about['trajectories']} metaorders of {about['agent']} in {about['clusters']} clusters; {extra}"
    if about["single_day"] == "yes":
        text += "; single day: within-day inference only"
    fig.supxlabel(text, fontsize=7.5, color="#555555")
