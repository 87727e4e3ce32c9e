"""Figures of the stylized facts in the layout of MarS's Figures 5 and 17 to 21."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marsbench.stats.facts import CURVES

from ._facts_table import table_6
from ._style import LABELS, PALETTE, Tables, column, curves, empty, figure, footer, rows, score_bars, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = "bands: 95% intervals by cluster"

LAYOUT = {
    "figure_17": ("autocorrelation_last", "autocorrelation_mean", "autocorrelation_within"),
    "figure_18": ("kurtosis", "kurtosis_normalised"),
    "figure_19": ("skewness", "absolute_autocorrelation", "absolute_within"),
    "figure_21": ("volume_volatility", "timescales"),
}


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name."""
    with style():
        found = {"figure_5": _figure_5(tables), "figure_20": _figure_20(tables), "facts_scores": _scores(tables)}
        if "facts_alike" in tables:  # results of version 1 have no verdicts
            found["table_6"] = table_6(tables)
        for name, panels in LAYOUT.items():
            fig, axes = figure(1, len(panels))
            for ax, panel in zip(axes, panels, strict=True):
                _curve(ax, tables, panel)
            footer(fig, tables["facts_about"], BAND)
            found[name] = fig
        fig, axes = figure(1, 1, width=5.4)
        _tails(axes[0], tables)
        footer(fig, tables["facts_about"], BAND)
        found["tail_index"] = fig
    return dict(sorted(found.items()))


def _curve(ax: Axes, tables: Tables, name: str) -> None:
    curve = CURVES[name]
    curves(ax, tables[f"facts_{name}"], title=curve.title, x_label=curve.x_label, y_label=curve.y_label)


def _figure_5(tables: Tables) -> Figure:
    fig, axes = figure(1, 3)
    _returns(axes[0], tables, "simulation")
    _curve(axes[1], tables, "autocorrelation_last")
    _curve(axes[2], tables, "absolute_autocorrelation")
    axes[1].set_title("Absence of autocorrelations")
    axes[2].set_title("Volatility clustering: autocorrelation of |returns|")
    footer(fig, tables["facts_about"], BAND)
    return fig


def _returns(ax: Axes, tables: Tables, source: str) -> None:
    drawn = False
    for period, colour, line in ((1, PALETTE["simulation"], "-"), (5, "#56B4E9", "--")):
        part = rows(tables["facts_returns"], source=source, period=period)
        x, p = column(part, "x"), column(part, "probability")
        if np.isfinite(p).any():
            drawn = True
            n = part["n"][0]
            ax.step(x, np.where(p > 0, p, np.nan), where="mid", color=colour, linestyle=line, linewidth=1.5,
                    label=f"{period} min (n = {n:,})")  # fmt: skip
    ax.set(
        title="Aggregational Gaussianity",
        xlabel=f"log return of {source} (own standard deviations)",
        ylabel="probability",
    )
    if not drawn:
        empty(ax)
        return
    x = column(rows(tables["facts_returns"], source=source, period=1), "x")
    ax.plot(
        x, np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0]), color="#777777", linestyle=":", label="Gaussian"
    )
    seen = column(rows(tables["facts_returns"], source=source), "probability")
    low = min(float(seen[seen > 0].min()), 1e-3)
    ax.set_yscale("log")
    ax.set_ylim(low / 2, 1)
    ax.legend(loc="upper right", fontsize=8)


def _figure_20(tables: Tables) -> Figure:
    fig, axes = figure(1, 2)
    _fano(axes[0], tables)
    _curve(axes[1], tables, "leverage")
    axes[1].set_title("Leverage effect: return and later |return|")
    footer(fig, tables["facts_about"], BAND)
    return fig


def _fano(ax: Axes, tables: Tables) -> None:
    """Box over instruments with every instrument as a point; the interval where there are few."""
    import seaborn as sns

    table = tables["facts_fano_instruments"]
    keep = [i for i, v in enumerate(table["fano"]) if v is not None]
    ax.set(
        title="Intermittency: extreme returns per window, or hour of a session",
        xlabel="Fano factor (variance / mean)",
        ylabel="",
    )
    if not keep:
        empty(ax)
        return
    sources = [LABELS[table["source"][i]] for i in keep]
    values = [table["fano"][i] for i in keep]
    palette, order = {LABELS[s]: c for s, c in PALETTE.items()}, list(LABELS.values())
    many = len(keep) >= 10
    if many:
        sns.boxplot(x=values, y=sources, hue=sources, palette=palette, order=order, ax=ax, width=0.5, fliersize=0,
                    legend=False, boxprops={"alpha": 0.5})  # fmt: skip
    jitter = 0.12 if many else 0
    sns.stripplot(
        x=values, y=sources, hue=sources, palette=palette, order=order, ax=ax, size=5, jitter=jitter, legend=False
    )
    if not many:
        whole = tables["facts_fano"]
        for at, source in enumerate(LABELS):
            part = rows(whole, source=source)
            mean, low, high = (column(part, name)[0] for name in ("value", "ci_low", "ci_high"))
            ax.errorbar(mean, at + 0.18, xerr=[[mean - low], [high - mean]], color=PALETTE[source], capsize=3, fmt="|",
                        label="mean over instruments, 95% interval" if at == 0 else None)  # fmt: skip
        ax.set_ylim(1.5, -0.5)
    ax.axvline(1, color="#777777", linestyle=":", label="Poisson")
    ax.set_ylabel("")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.99), fontsize=8)


def _tails(ax: Axes, tables: Tables) -> None:
    table = tables["facts_tail_xi"]
    for shift, (source, colour) in zip((-0.08, 0.08), PALETTE.items(), strict=True):
        part = rows(table, source=source)
        x, y = column(part, "x") + shift, column(part, "value")
        bars = np.abs(np.stack([y - column(part, "ci_low"), column(part, "ci_high") - y]))
        ax.errorbar(
            x, y, yerr=bars, fmt="o" if source == "replay" else "s", color=colour, capsize=3, label=LABELS[source]
        )
    labels = rows(table, source="replay")["label"]
    ax.set_xticks(range(1, len(labels) + 1), labels)
    ax.set_xlim(0.5, len(labels) + 0.5)
    ax.set_ylim(bottom=0)
    ax.axvline(3.5, color="#bbbbbb", linewidth=0.8)
    ax.set(title=CURVES["tail_xi"].title, xlabel="tail and share of returns in it", ylabel="xi = 1 / alpha")
    ax.legend(loc="best")


def _scores(tables: Tables) -> Figure:
    table = tables["facts_summary"]
    labels = [f"{fact[:2]} {title}" for fact, title in zip(table["fact"], table["title"], strict=True)]
    marked = zip(labels, table["informative"], strict=True)
    labels = [label if informative else f"{label} *" for label, informative in marked]
    # curves differ in unit: in units of the floor (of the ceiling where there is none) they fit one axis
    floor, ceiling = column(table, "distance_floor"), column(table, "distance_ceiling")
    unit = np.where(floor > 0, floor, np.where(ceiling > 0, ceiling, np.nan))
    names = ("value", "ci_low", "ci_high", "floor", "ceiling")
    scaled = {name: (column(table, f"distance_{name}") / unit).tolist() for name in names}
    fig, axes = figure(1, 1, width=9.4, height=4.6)
    score_bars(
        axes[0],
        labels,
        scaled,
        x_label="distance / floor (lower is better)",
        title="Stylized facts: distance of simulation from replay",
    )
    axes[0].set_xlim(left=0)
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    footer(
        fig,
        tables["facts_about"],
        "split-half comparison at equal n; * no informative floor (without any floor: in units of the ceiling)\n"
        "floor: replay shuffled within windows, zero intelligence for 02, 03, 07",
    )
    return fig
