"""Figures of market impact: one metaorder in full, the law, fulfilment, paths and their decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from marsbench.drawing import COLOURS, MARKERS

from ._style import Tables, column, empty, figure, rows, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKETS = {"own": "-", "truth": "--", "overlay": ":"}
"""Line styles of the markets that are drawn beside each other."""
NAMES = {"own": "this generator", "truth": "true market", "overlay": "overlay (no reaction)"}


def draw(tables: Tables) -> dict[str, Figure]:
    """Every figure by name."""
    with style():
        found = {
            "impact_law": _law(tables),
            "impact_fulfilment": _fulfilment(tables),
            "impact_path": _path(tables),
        }
        if "impact_example" in tables:
            found["impact_example"] = _example(tables)
    return found


def _example(tables: Tables) -> Figure:
    """Figure 6a: mid prices with and without the metaorder, and what it did."""
    table, events = tables["impact_example"], tables["impact_example_events"]
    fig, (ax,) = figure(1, 1, width=6.4, height=3.6)
    minutes = column(table, "second") / 60
    for name, colour, label in (
        ("with", "#D55E00", "simulation with the metaorder"),
        ("without", "#0072B2", "simulation without it"),
        ("replay", "#888888", "replay"),
    ):
        ax.step(minutes, column(table, name), where="post", color=colour, lw=1.1, label=label)
    when, price, shares = (column(events, name) for name in ("second", "price", "shares"))
    done = shares > 0
    ax.scatter(when[done] / 60, price[done], s=14, color="#009E73", marker="^", zorder=3, label="execution")
    ax.scatter(when[~done] / 60, price[~done], s=14, color="#CC79A7", marker="x", zorder=3, label="cancel")
    ax.set(
        xlabel="minutes after the start", ylabel="mid price, ticks", title=tables["impact_example_title"]["title"][0]
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return fig


def _law(tables: Tables) -> Figure:
    """Figure 6b: mean impact by size and agent with the fitted law; the same of the true market."""
    markets = [m for m in ("own", "truth") if rows(tables["impact_points"], market=m)["size"]]
    fig, axes = figure(1, len(markets), width=4.6, height=3.6)
    for ax, market in zip(axes, markets, strict=True):
        points = rows(tables["impact_points"], market=market)
        for i, agent in enumerate(dict.fromkeys(points["agent"])):
            own = rows(points, agent=agent)
            _bars(ax, column(own, "size"), own, i, agent)
            _curve(ax, tables, market, agent, column(own, "size"), COLOURS[i % len(COLOURS)])
        law = rows(tables["impact_laws"], market=market, agent="all", normaliser="day")
        ax.set(xlabel="Q/V (day)", ylabel="impact, daily volatilities", title=_law_words(market, law))
        ax.axhline(0, color="0.6", lw=0.6)
    axes[0].legend(loc="best")
    return fig


def _law_words(market: str, law: Any) -> str:
    if law["delta"][0] is None:
        return NAMES[market]
    return f"{NAMES[market]}: exponent {law['delta'][0]:.2f} [{law['delta_low'][0]:.2f}, {law['delta_high'][0]:.2f}]"


def _bars(ax: Axes, x: Any, own: Any, i: int, label: str) -> None:
    value = column(own, "value")
    error = np.abs(np.stack([value - column(own, "ci_low"), column(own, "ci_high") - value]))
    ax.errorbar(
        x,
        value,
        error,
        fmt=MARKERS[i % len(MARKERS)],
        ms=4,
        capsize=2,
        lw=1,
        color=COLOURS[i % len(COLOURS)],
        label=label,
    )


def _curve(ax: Axes, tables: Tables, market: str, agent: str, size: Any, colour: str) -> None:
    law = rows(tables["impact_laws"], market=market, agent=agent, normaliser="day")
    if law["delta"] and law["delta"][0] is not None and np.isfinite(size).any():
        x = np.linspace(np.nanmin(size) / 2, np.nanmax(size), 100)
        ax.plot(x, law["y"][0] * x ** law["delta"][0], color=colour, lw=1, alpha=0.7)


def _fulfilment(tables: Tables) -> Figure:
    """Figure 23a: executed share of the target by size and agent."""
    table = rows(tables["impact_fulfilment"], market="own")
    fig, (ax,) = figure(1, 1, width=4.8, height=3.5)
    for i, agent in enumerate(dict.fromkeys(table["agent"])):
        own = rows(table, agent=agent)
        order = np.argsort(column(own, "size"))
        ax.plot(column(own, "size")[order], column(own, "value")[order], lw=1, color=COLOURS[i % len(COLOURS)])
        _bars(ax, column(own, "size"), own, i, agent)
    ax.set(xlabel="Q/V (day)", ylabel="fulfilment rate", title="Executed share of the target")
    ax.legend(loc="best")
    return fig


def _path(tables: Tables) -> Figure:
    """Figure 23b: mean impact while it trades and after, of each agent; and of all in each market."""
    fig, axes = figure(1, 2, width=4.8, height=3.6)
    table = tables["impact_paths"]
    for i, agent in enumerate(dict.fromkeys(table["agent"])):
        own = rows(table, market="own", agent=agent)
        _band(axes[0], own, COLOURS[i % len(COLOURS)], "-", agent)
    axes[0].set(xlabel="minutes after the start", ylabel="impact, daily volatilities", title="By agent")
    for i, (market, line) in enumerate(MARKETS.items()):
        some = rows(table, market=market)
        if some["minute"]:
            _mean_line(axes[1], some, COLOURS[i], line, NAMES[market])
    axes[1].set(xlabel="minutes after the start", title="All agents, by market")
    for ax in axes:
        ax.axhline(0, color="0.6", lw=0.6)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="best")
        else:
            empty(ax)
    return fig


def _band(ax: Axes, own: Any, colour: str, line: str, label: str) -> None:
    x = column(own, "minute")
    ax.plot(x, column(own, "value"), line, color=colour, lw=1.3, label=label)
    ax.fill_between(x, column(own, "ci_low"), column(own, "ci_high"), color=colour, alpha=0.12, lw=0)


def _mean_line(ax: Axes, some: Any, colour: str, line: str, label: str) -> None:
    minute, value = column(some, "minute"), column(some, "value")
    at = np.unique(minute)
    ax.plot(at, [np.nanmean(value[minute == m]) for m in at], line, color=colour, lw=1.5, label=label)
