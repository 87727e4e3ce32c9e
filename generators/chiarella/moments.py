"""Moments of a market that a fit compares: how it moves, how wide and deep it is, how much trades."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import MARKET, Flag, Kind
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAMPLE_S = 10
"""Spread, depth and short returns are taken every so many seconds."""
BACK = 5
"""Minutes of the longer return."""
SUMS = (
    "returns", "squares", "absolutes", "product", "pairs", "long_squares", "longs", "absolute_product", "spread",
    "depth", "quotes", "traded_orders", "new_orders", "volume", "minutes", "step_squares", "steps", "half_spreads",
)  # fmt: skip
MOMENTS = (
    "log_volatility",
    "log_mean_absolute_ratio",
    "return_autocorrelation",
    "absolute_return_autocorrelation",
    "log_variance_ratio",
    "log_spread",
    "log_depth",
    "log_traded_share",
    "log_volume",
)
"""Of one-minute returns of the mid: their standard deviation; mean absolute return over it (low for fat tails);
autocorrelation at one minute, of returns and of absolute ones; variance over five minutes over five times that over
one. Then spread in ticks, depth at the touch in shares, share of new orders that trade at once, shares traded a
minute."""


def window_sums(market: Trajectory, minutes: int) -> Floats:
    """Sums of consecutive windows of so many minutes of trading time, ``[W, len(SUMS)]``; an incomplete one is not one.

    Returns in which either mid is missing, and samples of a one-sided book, count nowhere.
    """
    done, rules = replay_trajectory(market, levels=1), market.rules
    assert done.snapshots is not None
    begin, end = int(rules.trading_ns(market.start_ns)), int(rules.trading_ns(market.end_ns))
    windows = (end - begin) // (minutes * MINUTE)
    if windows == 0:
        return np.zeros((0, len(SUMS)))
    per = minutes * 60 // SAMPLE_S
    edges = begin + np.arange(windows * per + 1) * SAMPLE_S * SECOND
    time = rules.trading_ns(market.orders["time_ns"])
    at = np.searchsorted(time, edges, side="right")
    two, snap = done.snapshots.two_sided[at], done.snapshots
    mid = np.where(two, np.log(np.maximum(0.5 * snap.mid_half_ticks[at], 0.5)), np.nan)
    spread = np.where(two, snap.price_ticks[at, 0, 0].astype(np.float64) - snap.price_ticks[at, 1, 0], np.nan)
    depth = np.where(two, 0.5 * snap.size_shares[at, :, 0].sum(axis=1), np.nan)
    own = (done.reason == 0) & (market.orders["owner"] == MARKET) & ((market.orders["flags"] & Flag.SEEDED) == 0)
    new = own & (market.orders["kind"] != Kind.CANCEL)
    window = np.clip(np.searchsorted(edges[::per], time, side="left") - 1, 0, windows - 1)
    window = np.where(time > edges[-1], -1, window)

    def count(which: NDArray[np.bool_], weights: Ints | None = None) -> Floats:
        weight = None if weights is None else weights[which & (window >= 0)]
        return np.bincount(window[which & (window >= 0)], weight, minlength=windows).astype(np.float64)

    path = np.lib.stride_tricks.sliding_window_view(mid, per + 1)[::per]  # [W, per + 1]
    minute = path[:, :: 60 // SAMPLE_S]
    r, far, short = np.diff(minute, axis=1), minute[:, BACK:] - minute[:, :-BACK], np.diff(path, axis=1)
    both = r[:, 1:] * r[:, :-1]
    inside = np.stack([spread[1:], depth[1:], 0.5 * spread[1:] / np.exp(mid[1:])]).reshape(3, windows, per)
    columns = [
        np.isfinite(r).sum(axis=1), np.nansum(r**2, axis=1), np.nansum(np.abs(r), axis=1), np.nansum(both, axis=1),
        np.isfinite(both).sum(axis=1), np.nansum(far**2, axis=1), np.isfinite(far).sum(axis=1),
        np.nansum(np.abs(both), axis=1), np.nansum(inside[0], axis=1), np.nansum(inside[1], axis=1),
        np.isfinite(inside[0]).sum(axis=1), count(new & (done.traded_shares > 0)), count(new),
        count(own, done.traded_shares), np.full(windows, float(minutes)), np.nansum(short**2, axis=1),
        np.isfinite(short).sum(axis=1), np.nansum(inside[2], axis=1),
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float64)


def moments(sums: Floats) -> Floats:
    """The moments of pooled sums, ``[..., len(SUMS)]`` to ``[..., len(MOMENTS)]``; NaN where one does not exist."""
    s = {name: sums[..., i] for i, name in enumerate(SUMS)}
    with np.errstate(divide="ignore", invalid="ignore"):
        variance, absolute = s["squares"] / s["returns"], s["absolutes"] / s["returns"]
        out = [
            0.5 * np.log(variance),
            np.log(absolute / np.sqrt(variance)),
            s["product"] / s["pairs"] / variance,
            (s["absolute_product"] / s["pairs"] - absolute**2) / (variance - absolute**2),
            np.log(s["long_squares"] / s["longs"] / (BACK * variance)),
            np.log(s["spread"] / s["quotes"]),
            np.log(s["depth"] / s["quotes"]),
            np.log(s["traded_orders"] / s["new_orders"]),
            np.log(s["volume"] / s["minutes"]),
        ]
    table = np.stack(out, axis=-1)
    return np.where(np.isfinite(table), table, np.nan)


def standard_errors(blocks: Floats) -> Floats:
    """Delete-one jackknife over blocks ``[B, len(SUMS)]``, ``[len(MOMENTS)]``."""
    total, count = blocks.sum(axis=0), len(blocks)
    without = moments(total - blocks)
    return np.asarray(np.sqrt((count - 1) * np.nanmean((without - np.nanmean(without, axis=0)) ** 2, axis=0)))


def by_day(periods: Iterable[Trajectory], minutes: int, least_days: int) -> tuple[Floats, Floats]:
    """All windows ``[W, len(SUMS)]``, and sums of blocks: days, or windows where there are fewer days than given."""
    days: dict[str, list[Floats]] = {}
    for period in periods:
        days.setdefault(period.date, []).append(window_sums(period, minutes))
    windows = np.concatenate([part for parts in days.values() for part in parts])
    blocks = np.stack([np.concatenate(parts).sum(axis=0) for parts in days.values()])
    return windows, blocks if len(days) >= least_days else windows
