"""What a forecast has to beat: the commonest class, the time of day, and the minute before the start.

The time of day learns from other days than the one it predicts (from other clusters where there is one
day only); where it has too little to learn from, the commonest class stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.quantities import Quantity
from marsbench.stats.classes import MISSING

from ._quantities import days, of_history, start_minutes

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


@dataclass(frozen=True)
class History:
    """What happened before a start, on its day."""

    key: tuple[str, str]
    """Instrument and date."""
    trajectory: Trajectory
    bars: MinuteBars
    before: int
    """How many of the bars end by the start."""


def histories(evidence: TrajectoryPairs) -> list[History | None]:
    """For every start what was before it; None without a whole minute.

    Starts of one instrument and day share one replay, that of the longest history.
    """
    longest: dict[tuple[str, str], int] = {}
    for i, start in enumerate(evidence.starts):
        key = (start.instrument, start.date)
        if key not in longest or len(start.history.orders) > len(evidence.starts[longest[key]].history.orders):
            longest[key] = i
    days: dict[tuple[str, str], tuple[Trajectory, MinuteBars, int]] = {}
    for key, i in longest.items():
        history = evidence.starts[i].history
        # a recording may begin within a minute: bars lie on clock minutes, as starts do
        begin = history.start_ns // MINUTE * MINUTE
        whole = replace(history, start_ns=begin)
        days[key] = whole, minute_bars(whole), int(history.rules.trading_ns(begin)) // MINUTE
    found: list[History | None] = []
    for start, minute in zip(evidence.starts, start_minutes(evidence), strict=True):
        key = (start.instrument, start.date)
        whole, bars, first = days[key]
        before = int(minute) - first
        found.append(History(key, whole, bars, before) if 1 <= before <= bars.minutes else None)
    return found


def value_before_start(quantity: Quantity, before: Sequence[History | None]) -> Floats:
    """The quantity in the minute (the k minutes) before each start, ``[S]``; NaN where it is unknown."""
    out = np.full(len(before), np.nan)
    series: dict[tuple[str, str], Floats] = {}
    for i, found in enumerate(before):
        if found is None:
            continue
        at = found.before - max(quantity.horizon, 1)
        if at < 0:
            continue
        if found.key not in series:
            series[found.key] = of_history(quantity, found.trajectory, found.bars)
        out[i] = series[found.key][at]
    return out
