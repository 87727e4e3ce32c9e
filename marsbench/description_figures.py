"""A description as figures: the data set in colour, real days in black and grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.description import ALL, PRICE_MINUTES, TAIL_EDGES, Description
from marsbench.drawing import column, empty, figure, style
from marsbench.stats.microstructure import DISTANCE_EDGES, SLOT_MINUTES, SPREAD_EDGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

OWN = "#D55E00"
INSTRUMENTS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D3B", "#7F3C8D")
"""Okabe and Ito's colours and two more."""
REAL = ("#000000", "#555555", "#999999")
_DASHES = ("--", "-.", ":")
_MARKERS = ("o", "s", "^")


def draw(found: Description, besides: Sequence[Description]) -> dict[str, Figure]:
    """Every figure by title."""
    panels = {
        "Autocorrelation of returns and of their size": (_acf, _absolute, _absolute_log),
        "Heavy tails and long periods": (_tails, _kurtosis, _signature),
        "Leverage, volume and volatility, timescales": (_leverage, _volume, _timescales),
        "Activity, order signs, limit distance": (_activity, _signs, _distance),
        "Spread and depth": (_spread, _depth),
        "Impact of metaorders": (_impact, _decay, _exponents),
        "Prices over all days": (_prices,),
    }
    out = {}
    with style():
        for title, parts in panels.items():
            if parts[0] is _impact and found.impact is None:
                continue
            fig, axes = figure(1, len(parts), width=13.2 / len(parts))
            for ax, part in zip(axes, parts, strict=True):
                part(ax, found, besides)
            out[title] = fig
    return out


def _line(ax: Axes, found: Description, besides: Sequence[Description], name: str, *, first: int = 0) -> None:
    """A curve of the facts with its band, and those of the real days."""
    table = found.lines[name]
    x, y, low, high = (column(table, c)[first:] for c in ("x", "value", "low", "high"))
    ax.fill_between(x, low, high, color=OWN, alpha=0.2, linewidth=0)
    ax.plot(x, y, color=OWN, label=found.name, linewidth=1.8)
    for i, beside in enumerate(besides):
        ax.plot(
            column(beside.lines[name], "x")[first:], column(beside.lines[name], "value")[first:], **_real(i, beside)
        )


def _real(i: int, beside: Description) -> dict[str, Any]:
    return {"color": REAL[i % 3], "linestyle": _DASHES[i % 3], "linewidth": 1.0, "label": beside.name}


def _own(found: Description, i: int, name: str) -> dict[str, Any]:
    return {"color": INSTRUMENTS[i % len(INSTRUMENTS)], "linewidth": 1.6, "label": name}


def _finish(ax: Axes, title: str, x: str, y: str, *, zero: float | None = None, legend: bool = False) -> None:
    ax.set(title=title, xlabel=x, ylabel=y)
    if zero is not None:
        ax.axhline(zero, color="#999999", linewidth=0.8, zorder=0)
    if legend:
        ax.legend(loc="best", fontsize=7.5)


def _acf(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _line(ax, found, besides, "acf")
    ax.axhspan(-0.05, 0.05, color="#009E73", alpha=0.10, linewidth=0)
    _finish(ax, "Returns", "lag (minutes)", "correlation", zero=0, legend=True)


def _absolute(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _line(ax, found, besides, "absolute")
    ax.set_xlim(0, 60)
    _finish(ax, "|Returns|, raw", "lag (minutes)", "correlation", zero=0)


def _absolute_log(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _positive(ax, column(found.lines["absolute_d"], "x"), column(found.lines["absolute_d"], "value"), color=OWN, s=9)
    x = np.arange(1, 101.0)
    beta = found.facts[ALL]["beta"][0]
    y = column(found.lines["absolute_d"], "value")
    if beta is not None and np.isfinite(y).all():
        shape = x**-beta
        ax.plot(x, shape * (y @ shape) / (shape @ shape), color="#333333", linewidth=1, label=f"lag^-{beta:.2f}")
        ax.legend(loc="lower left", fontsize=7.5)
    ax.set(xscale="log", yscale="log")
    _finish(ax, "|Returns|, time of day taken off", "lag (minutes)", "correlation")


def _positive(ax: Axes, x: Floats, y: Floats, **options: Any) -> None:
    ok = y > 0
    ax.scatter(x[ok], y[ok], **options)


def _tails(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    from scipy.stats import norm

    for i, beside in enumerate(besides):
        ax.plot(TAIL_EDGES, _above(beside.tails[ALL]), **_real(i, beside))
    ax.plot(TAIL_EDGES, _above(found.tails[ALL]), color=OWN, linewidth=1.8, label=found.name)
    ax.plot(TAIL_EDGES, 2 * norm.sf(TAIL_EDGES), color="#009E73", linewidth=1, label="Gaussian")
    seen = _above(found.tails[ALL])
    ax.set(xscale="log", yscale="log", ylim=(max(np.nanmin(seen[seen > 0], initial=1e-3) / 2, 1e-7), 1.2))
    _finish(ax, "Tails of 1-minute returns", "|return| / standard deviation", "share beyond", legend=True)


def _above(values: Sequence[float | None]) -> Floats:
    shares = np.array([np.nan if v is None else v for v in values], np.float64)
    return np.where(shares > 0, shares, np.nan)


def _kurtosis(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _line(ax, found, besides, "kurtosis")
    table = found.lines["kurtosis_d"]
    ax.plot(column(table, "x"), column(table, "value"), color=OWN, linestyle="--", linewidth=1, label="time of day off")
    _finish(ax, "Aggregational Gaussianity", "period (minutes)", "excess kurtosis", zero=0)


def _signature(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _line(ax, found, besides, "signature_mid")
    table = found.lines["signature_last"]
    ax.plot(column(table, "x"), column(table, "value"), color=OWN, linestyle="--", linewidth=1, label="last price")
    ax.axhspan(0.8, 1.1, color="#009E73", alpha=0.10, linewidth=0)
    _finish(ax, "Signature plot, mid (last price dashed)", "period (minutes)", "variance ratio", zero=1)


def _leverage(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _line(ax, found, besides, "leverage")
    _finish(ax, "Leverage: return, later |return|", "lag (minutes)", "correlation", zero=0, legend=True)


def _volume(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    _line(ax, found, besides, "volume_d")
    _finish(ax, "Volume and later |return|, d", "lag (minutes)", "correlation", zero=0)


def _timescales(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for i, source in enumerate([found, *besides]):
        table = source.lines["timescales_d"]
        rho = dict(zip(table["x"], column(table, "value"), strict=True))
        delta = [rho[float(k)] - rho[-float(k)] for k in range(1, 11)]
        look = {"color": OWN, "linewidth": 1.8} if not i else _real(i - 1, source)
        ax.plot(range(1, 11), delta, **look)
    ax.axvspan(5, 10, color="#009E73", alpha=0.10, linewidth=0)
    _finish(ax, "Asymmetry in timescales, d", "lag (minutes)", "rho(lag) - rho(-lag)", zero=0)


def _each(found: Description, besides: Sequence[Description], name: str) -> list[tuple[Floats, dict[str, Any]]]:
    """A curve of the microstructure for every instrument and real day, with its look."""
    rows = [(found.curves[n][name], _own(found, i, n)) for i, n in enumerate(found.instruments)]
    rows += [(b.curves[ALL][name], _real(i, b)) for i, b in enumerate(besides)]
    return [(np.array([np.nan if v is None else v for v in values], np.float64), look) for values, look in rows]


def _activity(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for values, look in _each(found, besides, "orders_by_slot"):
        share = (np.arange(len(values)) + 0.5) / len(values)
        ax.plot(share, values / np.nanmean(values), **look)
    title = f"Orders per minute, {SLOT_MINUTES}-minute slots"
    _finish(ax, title, "share of the session", "relative to the mean", zero=1, legend=True)


def _signs(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for values, look in _each(found, besides, "sign_acf"):
        lags = np.arange(len(values))
        ok = (lags > 0) & (values > 0)
        ax.plot(lags[ok], values[ok], **{**look, "linewidth": 1.0})
    ax.set(xscale="log", yscale="log", ylim=(3e-3, 1))
    _finish(ax, "Signs of market orders", "lag (market orders)", "autocorrelation")


def _distance(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for values, look in _each(found, besides, "distance_above"):
        ax.plot(DISTANCE_EDGES, _above(values.tolist()), **look)
    ax.set(xscale="log", yscale="log", ylim=(1e-4, 1))
    _finish(ax, "Limit orders behind the touch", "ticks behind the own best, at least", "share")


def _spread(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for values, look in _each(found, besides, "spread_above"):
        ax.plot(SPREAD_EDGES, _above(values.tolist()), **look)
    ax.set(xscale="log", yscale="log", ylim=(1e-4, 1.2))
    _finish(ax, "Spread", "ticks, at least", "share of time", legend=True)


def _depth(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for values, look in _each(found, besides, "depth_lots"):
        ax.plot(np.arange(1, len(values) + 1), _above(values.tolist()), **look)
    ax.set(yscale="log")
    _finish(ax, "Depth", "level", "mean lots")


def _impact(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    parts = found.impact or {}
    names = [n for n in parts if n != ALL] or [ALL]
    for i, name in enumerate(names):
        table = parts[name]["bins"]
        look = _own(found, i, name)
        size, impact, error = (column(table, c) for c in ("size", "impact", "error"))
        ok = impact > 0
        if not ok.any():
            continue
        ax.errorbar(
            size[ok], impact[ok], yerr=error[ok], fmt="o", markersize=3, capsize=2, **{**look, "linewidth": 0.8}
        )
        delta, prefactor = parts[name]["delta"][0], parts[name]["prefactor"]
        if delta is not None and prefactor:
            ax.plot(size[ok], prefactor[0] * size[ok] ** delta, color=look["color"], linewidth=1)
    ax.set(xscale="log", yscale="log")
    _finish(ax, "Impact against size, fitted to the points", "Q / V", "I / sigma", legend=bool(parts))


def _decay(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for i, (name, part) in enumerate((found.impact or {}).items()):
        path: Mapping[str, Any] = part["path"]
        x, y = (np.concatenate([[0.0], column(path, c)]) for c in ("x", "value"))
        if name == ALL:
            ax.fill_between(x[1:], column(path, "low"), column(path, "high"), color="#333333", alpha=0.2, linewidth=0)
        look = {"color": "#000000", "linewidth": 1.8} if name == ALL else {**_own(found, i - 1, name), "linewidth": 0.8}
        ax.plot(x, y, marker="o", markersize=3, **look)
    ax.axhline(2 / 3, color="#009E73", linestyle=":", label="two thirds")
    _finish(ax, "Impact while and after (all: black)", "time / duration", "relative to the end", zero=1, legend=False)


def _exponents(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    parts = {n: p["delta"] for n, p in (found.impact or {}).items() if p["delta"][0] is not None}
    if not parts:
        empty(ax)
        return
    for at, (name, (value, low, high)) in enumerate(parts.items()):
        bars = None if low is None or high is None else [[max(value - low, 0)], [max(high - value, 0)]]
        ax.errorbar(value, at, xerr=bars, fmt="o", color="#000000" if name == ALL else OWN, capsize=3)
    ax.axvline(0.5, color="#009E73", linestyle=":")
    ax.axvline(1.0, color="#999999", linestyle=":")
    ax.set_yticks(range(len(parts)), list(parts))
    ax.invert_yaxis()
    _finish(ax, "Exponent, 95% interval", "delta", "")


def _prices(ax: Axes, found: Description, besides: Sequence[Description]) -> None:
    for i, name in enumerate(found.instruments):
        values = np.array([np.nan if v is None else v for v in found.prices[name]], np.float64)
        per_day = len(range(0, found.minutes + 1, PRICE_MINUTES))
        ax.plot(np.arange(len(values)) / per_day, values, **{**_own(found, i, name), "linewidth": 1.0})
    _finish(ax, f"Last price every {PRICE_MINUTES} minutes", "day", "relative to the first", zero=1, legend=True)
