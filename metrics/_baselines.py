"""What a forecast has to beat: the commonest class, the time of day, and the minute before the start.

The time of day learns from other days than the one it predicts (from other clusters where there is one
day only); where it has too little to learn from, the commonest class stands in.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.rules import MINUTE
from marsbench.stats.classes import MISSING

from ._quantities import Quantity, days, start_minutes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BUCKET_MINUTES = 30
LEAST = 10
"""Observations that a time of day needs before it is trusted; else the commonest class stands in."""


def left_out_groups(evidence: TrajectoryPairs) -> Ints:
    """``[S]``: what is left out to predict a start: its day, or its cluster where there is one day only."""
    day = days(evidence)
    return day if len(np.unique(day)) > 1 else evidence.clusters


def _other_counts(classes: Ints, cell: Ints, group: Ints) -> Floats:
    """For every value the class counts of its cell in other groups, ``[S, T, 3]``."""
    groups, cells = int(group.max()) + 1, int(cell.max()) + 1
    ok = classes != MISSING
    where = np.broadcast_to(group[:, None], classes.shape)
    flat = (where * cells + cell)[ok] * 3 + classes[ok]
    counts = np.bincount(flat, minlength=groups * cells * 3).reshape(groups, cells, 3).astype(np.float64)
    return np.asarray(counts.sum(axis=0)[cell] - counts[where, cell])


def majority_class(classes: Ints) -> Ints:
    """The commonest class of all, ``[S, T]``: the best constant forecast, never worse than 1/3.

    Learned on what it predicts: with equal classes, the commonest class of the *other* days is the
    rarest of the day left out, and such a forecast falls well below chance.
    """
    counts = np.bincount(classes[classes != MISSING], minlength=3)
    return np.full_like(classes, counts.argmax() if counts.sum() else MISSING)


def time_of_day_class(classes: Ints, minute: Ints, group: Ints) -> Ints:
    """The commonest class at that half hour of the day in other groups, ``[S, T]``."""
    counts = _other_counts(classes, minute // BUCKET_MINUTES, group)
    return np.where(counts.sum(axis=-1) >= LEAST, counts.argmax(axis=-1), majority_class(classes))


def history_bars(evidence: TrajectoryPairs) -> list[tuple[MinuteBars, int] | None]:
    """For every start the bars before it and the number of those that end by it; None without a whole minute.

    Starts of one instrument and day share one replay, that of the longest history.
    """
    longest: dict[tuple[str, str], int] = {}
    for i, start in enumerate(evidence.starts):
        key = (start.instrument, start.date)
        if key not in longest or len(start.history.orders) > len(evidence.starts[longest[key]].history.orders):
            longest[key] = i
    bars: dict[tuple[str, str], tuple[MinuteBars, int]] = {}
    for key, i in longest.items():
        history = evidence.starts[i].history
        # a recording may begin within a minute: bars lie on clock minutes, as starts do
        begin = history.start_ns // MINUTE * MINUTE
        bars[key] = (minute_bars(replace(history, start_ns=begin)), int(history.rules.trading_ns(begin)) // MINUTE)
    found: list[tuple[MinuteBars, int] | None] = []
    for start, minute in zip(evidence.starts, start_minutes(evidence), strict=True):
        of_day, first = bars[(start.instrument, start.date)]
        before = int(minute) - first
        found.append((of_day, before) if 1 <= before <= of_day.minutes else None)
    return found


def value_before_start(quantity: Quantity, before: list[tuple[MinuteBars, int] | None]) -> Floats:
    """The quantity in the minute (the k minutes) before each start, ``[S]``; NaN where it is unknown."""
    out = np.full(len(before), np.nan)
    for i, found in enumerate(before):
        if found is None:
            continue
        bars, minutes = found
        at = minutes - max(quantity.horizon, 1)
        if at >= 0:
            out[i] = quantity.of(bars)[at]
    return out
