"""What is known before a metaorder begins: the last half hour, the book, what impacts and sizes are measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.fitting import latest_days
from marsbench.impact_runs import Before, Normalisers
from marsbench.market.bars import minute_bars
from marsbench.market.orders import ORDER, Kind
from marsbench.market.replay import cut, replay
from marsbench.market.rules import MINUTE, MatchingRules
from marsbench.simulation.contracts import Start

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

Floats = NDArray[np.float64]
MINUTES_BEFORE = 30
TRAINING_DAYS = 20
"""So many of an instrument's latest training days say what a day's volatility and volume are."""
LEVELS = 10


def before(starts: Sequence[Start]) -> Before:
    """The half hour before each start, by minutes, and the book at the start."""
    rows = [_minutes(start) for start in starts]
    sizes = [_levels(start) for start in starts]
    spreads = [s[2] for s in sizes]
    return Before(
        mids_ticks=np.stack([r["mids"] for r in rows]),
        traded_shares=np.stack([r["traded"] for r in rows]),
        signed_shares=np.stack([r["signed"] for r in rows]),
        orders=np.stack([r["orders"] for r in rows]),
        ask_shares=np.stack([s[0] for s in sizes]),
        bid_shares=np.stack([s[1] for s in sizes]),
        spread_ticks=np.array(spreads, np.float64),
    )


def _minutes(start: Start) -> dict[str, Floats]:
    rules, history = start.rules, start.history
    now = int(rules.trading_ns(start.clock_ns))
    whole = (now - int(rules.trading_ns(history.start_ns))) // MINUTE
    minutes = int(min(whole, MINUTES_BEFORE))
    stretch = cut(history, int(rules.clock_ns(now - minutes * MINUTE)), start.clock_ns)
    bars = minute_bars(stretch)
    at = np.asarray(rules.trading_ns(stretch.fills["time_ns"]), np.int64) - (now - minutes * MINUTE)
    sign = np.where(stretch.fills["side"] == Kind.BID, 1.0, np.where(stretch.fills["side"] == Kind.ASK, -1.0, 0.0))
    which = np.clip(-(-at // MINUTE) - 1, 0, max(minutes - 1, 0))
    signed = np.bincount(which, sign * stretch.fills["size_shares"], minlength=minutes)[:minutes]
    return {
        "mids": _padded(bars.mid_half_ticks / 2, MINUTES_BEFORE + 1),
        "traded": _padded(bars.volume_shares, MINUTES_BEFORE),
        "signed": _padded(signed, MINUTES_BEFORE),
        "orders": _padded(bars.n_orders, MINUTES_BEFORE),
    }


def _padded(values: Any, length: int) -> Floats:
    """The last so many values, NaN before the first of them."""
    out = np.full(length, np.nan)
    kept = np.asarray(values, np.float64)[-length:]
    if len(kept):
        out[-len(kept) :] = kept
    return out


def _levels(start: Start) -> tuple[Floats, Floats, float]:
    """Shares at the best ten asks and bids, and the spread in ticks."""
    found = replay(start.rules.without_auctions(), start.book, np.zeros(0, ORDER), levels=LEVELS).snapshots
    assert found is not None
    ask, bid = found.size_shares[0].astype(np.float64)
    spread = float(found.price_ticks[0, 0, 0] - found.price_ticks[0, 1, 0]) if found.two_sided[0] else float("nan")
    return ask, bid, spread


def daily(dataset: Dataset, starts: Sequence[Start]) -> Normalisers:
    """Of a whole day of trading, from the minutes of each instrument's latest training days.

    Raises
    ------
    ValueError
        If an instrument has no training minutes.
    """
    found: dict[str, tuple[float, float]] = {}
    for name in dict.fromkeys(s.instrument for s in starts):
        own = latest_days([p for p in dataset.split("train") if p.instrument == name], TRAINING_DAYS)
        if not own:
            raise ValueError(f"market-impact: {dataset.name} has no training period of {name} to measure a day by")
        bars = [dataset.bars(p) for p in own]
        squares = np.concatenate([b.mid_returns() ** 2 for b in bars])
        volumes = np.concatenate([b.volume_shares for b in bars])
        found[name] = (float(np.nanmean(squares)), float(np.nanmean(volumes)))
    minutes = np.array([day_minutes(s.rules) for s in starts])
    squares, volumes = np.array([found[s.instrument] for s in starts]).T
    return Normalisers(np.sqrt(squares * minutes), volumes * minutes)


def day_minutes(rules: MatchingRules) -> float:
    """Minutes of continuous trading in a day."""
    return sum(p.end_ns - p.start_ns for p in rules.continuous) / MINUTE


def window(known: Before, minutes: int) -> Normalisers:
    """Of so many minutes, from the half hour before each start; NaN where nothing traded or moved then."""
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.nanmean(np.diff(np.log(known.mids_ticks), axis=1) ** 2, axis=1)
        volumes = np.nanmean(known.traded_shares, axis=1)
    return Normalisers(
        np.where(squares > 0, np.sqrt(squares * minutes), np.nan), np.where(volumes > 0, volumes * minutes, np.nan)
    )
