"""What one day of one instrument looks like from inside the book: flow, spread, depth, signs, sizes.

Everything is taken over continuous trading with breaks removed, from one replay with snapshots. A day
gives one number or one curve per quantity; several days are averaged, and the day is the unit of
inference (``profile``), so a market and a single real day are measured by the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import minute_bars
from marsbench.market.flow import Action, Flow, order_flow
from marsbench.market.orders import Kind
from marsbench.market.replay import replay_trajectory
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import Trajectory
from marsbench.stats.autocorrelation import acf
from marsbench.stats.clustering import power_law_exponent

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]

LEVELS = 10
SLOT_MINUTES = 5
SIGN_LAGS = 100
SIGN_FIT_LAGS = tuple(int(k) for k in np.unique(np.round(np.geomspace(10, SIGN_LAGS, 20))))
"""Lags of the sign exponent: below 10, bursts of one aggressor decide and the decay is no power law yet."""
DISTANCE_EDGES = np.unique(np.round(np.geomspace(1, 10_000, 41)))
"""Ticks behind the own best at which the distribution of limit orders is recorded ..."""
SPREAD_EDGES = np.unique(np.round(np.geomspace(1, 1_000, 31)))
"""... and ticks at which that of the spread is."""


@dataclass(frozen=True)
class Microstructure:
    """One instrument-day. Shares are in [0, 1]; NaN is missing (no such event)."""

    orders_per_min: float
    """Counted messages (new orders and cancels; a replace is one) per minute."""
    sd_log_orders: float
    """Standard deviation of the logarithm of that number over the minutes that have any."""
    u_open: float
    """Orders per minute in the first 15 minutes over the middle third of the session ..."""
    u_close: float
    """... and in the last 15."""
    limit_share: float
    """New orders that do not trade at once, of all messages; a replace counts as cancel and order."""
    market_share: float
    """New orders that trade at once."""
    cancel_share: float
    spread_mean_ticks: float
    """Time-weighted over two-sided time, as its quantiles."""
    spread_q10_ticks: float
    spread_q50_ticks: float
    spread_q90_ticks: float
    spread_max_ticks: float
    depth_1_lots: float
    """Time-weighted mean lots at a level, mean of both sides ..."""
    depth_5_lots: float
    depth_10_lots: float
    imbalance_sd: float
    """Time-weighted standard deviation of (bid - ask) / (bid + ask) lots at the touch."""
    limits_inside: float
    """Share of limit orders that improve their side's best price ..."""
    limits_at_touch: float
    """... and that join it."""
    distance_q50_ticks: float
    """Distance behind the own best, of the limit orders behind it."""
    distance_q75_ticks: float
    distance_q90_ticks: float
    cancels_at_touch: float
    sign_acf_1: float
    """Autocorrelation of the signs of successive market orders."""
    sign_acf_5: float
    sign_acf_20: float
    sign_acf_100: float
    size_q50_lots: float
    """Size of new orders."""
    size_q75_lots: float
    size_q90_lots: float
    size_q99_lots: float
    one_lot_share: float
    sd_1min_bp: float
    """Standard deviation of one-minute log returns of the last price."""
    minutes_without_trade: float
    one_sided_share: float
    """Share of time with one side of the book empty ..."""
    empty_share: float
    """... with both empty ..."""
    crossed_share: float
    """... and with bid >= ask."""
    orders_by_slot: Floats
    """Orders per minute in slots of ``SLOT_MINUTES``, ``[slots]``."""
    sign_acf: Floats
    """Lags 0 to ``SIGN_LAGS``."""
    depth_lots: Floats
    """``[LEVELS]``."""
    distance_above: Floats
    """Share of limit orders at least ``DISTANCE_EDGES`` ticks behind the own best."""
    spread_above: Floats
    """Share of two-sided time with a spread of at least ``SPREAD_EDGES`` ticks."""

    def scalars(self) -> dict[str, float]:
        """The plain numbers by name."""
        return {name: float(getattr(self, name)) for name in SCALARS}


SCALARS = tuple(f.name for f in fields(Microstructure) if f.type == "float")
CURVES = tuple(f.name for f in fields(Microstructure) if f.type != "float")


def microstructure(trajectory: Trajectory) -> Microstructure:
    """Measure one day (or any stretch of one).

    Raises
    ------
    ValueError
        If the trajectory holds no whole minute of continuous trading.
    """
    bars = minute_bars(trajectory)
    if not bars.minutes:
        raise ValueError(f"{trajectory}: no whole minute of continuous trading, nothing to describe")
    replay = replay_trajectory(trajectory, levels=LEVELS)
    assert replay.snapshots is not None
    flow = order_flow(trajectory)
    returns = np.diff(np.log(bars.last_trade_ticks))
    return Microstructure(
        **_activity(bars.n_orders),
        **_flow(flow, _continuous(trajectory, flow.time_ns), trajectory.rules.lot_shares),
        **_book(replay.snapshots, _time_weights(trajectory), trajectory.rules.lot_shares),
        sd_1min_bp=_sd(returns[np.isfinite(returns)]) * 1e4,
        minutes_without_trade=float((bars.n_trades == 0).mean()),
    )


def _sd(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _mean(values: Floats | Masks) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _quantiles(values: Floats, at: Sequence[float]) -> list[float]:
    return [float(q) for q in np.quantile(values, at)] if len(values) else [float("nan")] * len(at)


def _continuous(trajectory: Trajectory, time_ns: NDArray[np.int64]) -> Masks:
    inside = np.zeros(len(time_ns), bool)
    for phase in trajectory.rules.continuous:
        inside |= (time_ns >= phase.start_ns) & (time_ns < phase.end_ns)
    return inside


def _time_weights(trajectory: Trajectory) -> Floats:
    """Nanoseconds of continuous trading for which each of the n + 1 books stood."""
    sent = trajectory.orders["time_ns"]
    sent = np.clip(np.maximum.accumulate(sent) if len(sent) else sent, trajectory.start_ns, trajectory.end_ns)
    times = np.concatenate([[trajectory.start_ns], sent, [trajectory.end_ns]])
    return np.asarray(np.diff(trajectory.rules.trading_ns(times)), np.float64)


def _activity(orders: Floats) -> dict[str, Any]:
    minutes = len(orders)
    edge = min(15, minutes)
    middle = _mean(orders[minutes // 3 : max(2 * minutes // 3, minutes // 3 + 1)]) or float("nan")
    slots = -(-minutes // SLOT_MINUTES)
    padded = np.concatenate([orders, np.full(slots * SLOT_MINUTES - minutes, np.nan)])
    return {
        "orders_per_min": _mean(orders),
        "sd_log_orders": _sd(np.log(orders[orders > 0])),
        "u_open": _mean(orders[:edge]) / middle,
        "u_close": _mean(orders[-edge:]) / middle,
        "orders_by_slot": np.nanmean(padded.reshape(slots, SLOT_MINUTES), axis=1),
    }


def _flow(flow: Flow, inside: Masks, lot_shares: int) -> dict[str, Any]:
    kinds = (Action.LIMIT, Action.AGGRESSIVE, Action.CANCEL)
    limit, market, cancel = (inside & (flow.action == kind) for kind in kinds)
    total = int(inside.sum()) or float("nan")
    placed = flow.from_own[limit & flow.quoted].astype(np.float64)
    behind = placed[placed > 0]
    lots = flow.size_shares[limit | market] / lot_shares
    signs = np.where(flow.side[market] == Kind.BID, 1.0, -1.0)
    sign_acf = acf(signs, SIGN_LAGS) if len(signs) > SIGN_LAGS else np.full(SIGN_LAGS + 1, np.nan)
    q50, q75, q90 = _quantiles(behind, (0.5, 0.75, 0.9))
    size = _quantiles(lots, (0.5, 0.75, 0.9, 0.99))
    return {
        "limit_share": float(limit.sum() / total),
        "market_share": float(market.sum() / total),
        "cancel_share": float(cancel.sum() / total),
        "limits_inside": _mean(placed < 0),
        "limits_at_touch": _mean(placed == 0),
        "distance_q50_ticks": q50,
        "distance_q75_ticks": q75,
        "distance_q90_ticks": q90,
        "cancels_at_touch": _mean(flow.from_own[cancel & flow.quoted] == 0),
        **{f"sign_acf_{k}": float(sign_acf[k]) for k in (1, 5, 20, 100)},
        **dict(zip(("size_q50_lots", "size_q75_lots", "size_q90_lots", "size_q99_lots"), size, strict=True)),
        "one_lot_share": _mean(lots <= 1),
        "sign_acf": sign_acf,
        "distance_above": _share_above(placed, np.ones(len(placed)), DISTANCE_EDGES),
    }


def _share_above(values: Floats, weights: Floats, edges: Floats) -> Floats:
    """Weighted share of the values at or above each edge."""
    order = np.argsort(values, kind="stable")
    tail = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(tail[np.searchsorted(values[order], edges, side="left")] / tail[0])


def _book(books: Snapshots, weight: Floats, lot_shares: int) -> dict[str, Any]:
    missing = books.size_shares[:, :, 0] == 0
    total = weight.sum() or float("nan")
    ok = books.two_sided & (weight > 0)
    w = weight[ok]
    ask, bid = (quote[ok].astype(np.float64) for quote in books.best())
    spread = ask - bid
    lots = books.size_shares[ok].astype(np.float64) / lot_shares
    share = w / (w.sum() or float("nan"))
    depth = np.full(LEVELS, np.nan) if not len(w) else np.tensordot(share, lots, 1).mean(axis=0)
    touch = lots[:, :, 0]
    imbalance = (touch[:, Kind.BID] - touch[:, Kind.ASK]) / touch.sum(axis=1)
    centred = imbalance - share @ imbalance
    q10, q50, q90 = _weighted_quantiles(spread, share, (0.1, 0.5, 0.9))
    return {
        "spread_mean_ticks": float(share @ spread) if len(w) else float("nan"),
        "spread_q10_ticks": q10,
        "spread_q50_ticks": q50,
        "spread_q90_ticks": q90,
        "spread_max_ticks": float(spread.max()) if len(w) else float("nan"),
        "depth_1_lots": float(depth[0]),
        "depth_5_lots": float(depth[4]),
        "depth_10_lots": float(depth[9]),
        "imbalance_sd": float(np.sqrt(share @ (centred * centred))) if len(w) else float("nan"),
        "one_sided_share": float(weight @ (missing.sum(axis=1) == 1) / total),
        "empty_share": float(weight @ missing.all(axis=1) / total),
        "crossed_share": float(w @ (spread <= 0) / total),
        "depth_lots": depth,
        "spread_above": _share_above(spread, w, SPREAD_EDGES),
    }


def _weighted_quantiles(values: Floats, share: Floats, at: Sequence[float]) -> list[float]:
    """Smallest value at which the cumulated share reaches each quantile."""
    if not len(values):
        return [float("nan")] * len(at)
    order = np.argsort(values, kind="stable")
    places = np.minimum(np.searchsorted(np.cumsum(share[order]), at), len(order) - 1)
    return [float(v) for v in values[order][places]]


def sign_exponent(curve: Floats) -> Floats:
    """Exponent gamma of ``A lag^-gamma`` for the sign autocorrelation ``[..., SIGN_LAGS + 1]``; ``[...]``."""
    return power_law_exponent(curve[..., list(SIGN_FIT_LAGS)], SIGN_FIT_LAGS)


def mean_profile(days: Sequence[Microstructure]) -> dict[str, float]:
    """Every number averaged over days (missing days left out), and the sign exponent of the mean curve."""
    if not days:
        raise ValueError("no days to average; give at least one")
    out = {}
    for name in SCALARS:
        found = [v for d in days if np.isfinite(v := getattr(d, name))]
        out[name] = float(np.mean(found)) if found else float("nan")
    curves = np.array([d.sign_acf for d in days])
    curves = curves[np.isfinite(curves).all(axis=1)]
    out["sign_exponent"] = float(sign_exponent(curves.mean(axis=0))) if len(curves) else float("nan")
    return out
