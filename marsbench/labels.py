"""Trend labels: how far the mid price goes after a moment, and which of three classes that is.

Four definitions of the move are known by name (``LABELS``); all compare a mean of later mid prices with one price:

``mars``
    MarS, section 4.1: mean of the mids after each order in ``(t, t + h]`` against the mid at t; classes are terciles of
    the training period.
``mars-time``
    The same with the mean over time.
``fi-2010``
    Ntakaris et al. (2018): mean of the next k mids against the present one; flat within .2%.
``lse``
    Zhang, Zohren and Roberts (2019), for London: mean of the next k mids against the mean of the last k; terciles.

Mids are those after the market's accepted messages in continuous trading. While the book is one-sided there is none:
it counts in no mean over events, and stands for now, and in means over time, as the last one that was. Time is time of
trading, lunch left out, so that ``(t, t + h]`` is that of the minute bars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import MARKET, Flag, Reason
from marsbench.market.replay import Replay, replay_trajectory
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.stats.classes import MISSING, tercile_edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = ("down", "flat", "up")
FLAT_FI_2010 = 0.002
STEP_S = 10
"""Between the mids of a realised volatility."""


@dataclass(frozen=True)
class Mids:
    """The path of the mid price: ``[n]`` changes of the book in continuous trading, and what stood before them."""

    clock_ns: Ints
    """``[n]`` time of trading, ascending."""
    mid: Floats
    """``[n]`` mid right after each, in half ticks; NaN where the book is one-sided."""
    begin_ns: int
    """Time of trading at which the path begins ..."""
    first: float
    """... and the mid then, NaN if the book was one-sided."""
    end_ns: int
    """Nothing is known after this time of trading."""

    @classmethod
    def of(cls, trajectory: Trajectory, *, done: Replay | None = None) -> Self:
        """The path of a trajectory, agents' orders left out of the count but not of the book.

        Parameters
        ----------
        done
            Its replay with at least one level, where it is there already.
        """
        rules, orders = trajectory.rules, trajectory.orders
        replay = replay_trajectory(trajectory, levels=1) if done is None else done
        if replay.snapshots is None:
            raise ValueError("labels need a replay with snapshots; ask for levels=1")
        mid = np.where(replay.snapshots.two_sided, replay.snapshots.mid_half_ticks, np.nan)
        time = np.maximum.accumulate(orders["time_ns"]) if len(orders) else orders["time_ns"]
        inside = np.zeros(len(orders), bool)
        for phase in rules.continuous:
            inside |= (time > phase.start_ns) & (time <= phase.end_ns)
        inside &= (time > trajectory.start_ns) & (replay.reason == Reason.OK) & (orders["owner"] == MARKET)
        inside &= (orders["flags"] & int(Flag.SEEDED)) == 0
        at = np.flatnonzero(inside)
        begin, end = (int(rules.trading_ns(t)) for t in (trajectory.start_ns, trajectory.end_ns))
        clock = np.asarray(rules.trading_ns(time[at]), np.int64)
        return cls(clock, mid[at + 1], begin, float(mid[at[0]] if len(at) else mid[0]), end)

    def known(self, at_ns: Any) -> Ints:
        """How many changes have happened at times ``[m]``, those of the same moment included."""
        return np.searchsorted(self.clock_ns, np.asarray(at_ns, np.int64), side="right")

    def at(self, at_ns: Any) -> Floats:
        """The mid at times ``[m]``, the last known one where the book is one-sided; NaN before there is any."""
        return self._carried[self.known(at_ns)]

    @cached_property
    def _carried(self) -> Floats:
        """``[n + 1]``: the last known mid before the path and after each change."""
        mid = np.concatenate([[self.first], self.mid])
        seen = np.maximum.accumulate(np.where(np.isnan(mid), 0, np.arange(len(mid))))
        return np.asarray(mid[seen])

    @cached_property
    def _sums(self) -> tuple[Floats, Ints]:
        """Sum and number of the known mids after the first 0, 1, ... changes, ``[n + 1]``."""
        there = np.isfinite(self.mid)
        total = np.concatenate([[0.0], np.cumsum(np.where(there, self.mid, 0.0))])
        return total, np.concatenate([[0], np.cumsum(there)])


@dataclass(frozen=True)
class Label:
    """One definition of the move after a moment.

    Parameters
    ----------
    unit
        What the horizon counts: ``minutes`` of trading, or ``events`` (changes of the book).
    weight
        How later mids are averaged: ``event`` counts each change of the book once, ``time`` by how long it stood.
    anchor
        What they are compared with: ``now``, the present mid, or ``mean``, the mean over the same horizon up to now.
    flat
        Moves of at most this size are flat; None: classes are terciles of the training period.
    """

    name: str
    unit: Literal["minutes", "events"]
    weight: Literal["event", "time"] = "event"
    anchor: Literal["now", "mean"] = "now"
    flat: float | None = None

    def moves(self, mids: Mids, at_ns: Any, horizon: int) -> Floats:
        """Relative moves ``[m]`` from times of trading ``[m]`` over a horizon in the label's unit.

        NaN where the horizon (or, of a mean anchor, the past) reaches beyond the path, or there is no mid. Where no
        order comes within so many minutes the mid has not moved: 0.

        Raises
        ------
        ValueError
            If the horizon is not positive.
        """
        if horizon < 1:
            raise ValueError(f"label {self.name}: a horizon must be at least 1 of {self.unit}, got {horizon}")
        at = np.asarray(at_ns, np.int64)
        now = mids.at(at)
        later = self._mean(mids, at, horizon)
        past = now if self.anchor == "now" else self._mean(mids, at, -horizon)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(later / past - 1.0)

    def edges(self, training: Floats) -> Floats:
        """What separates the classes, ``[2]`` as in ``stats.classes``: frozen on moves of the training period.

        NaN where classes are terciles and there are no moves.
        """
        if self.flat is None:
            return tercile_edges(training)
        return np.array([np.nextafter(-self.flat, -1.0), self.flat])

    def _mean(self, mids: Mids, at: Ints, horizon: int) -> Floats:
        """Of the mids after ``at``, or, with a negative horizon, of those up to it."""
        here = mids.known(at)
        if self.unit == "events":
            low, high = (here, here + horizon) if horizon > 0 else (here + horizon, here)
            beyond = (low < 0) | (high > len(mids.mid))
            return np.where(beyond, np.nan, _event_mean(mids, np.maximum(low, 0), np.minimum(high, len(mids.mid)), at))
        span = abs(horizon) * MINUTE
        begin, end = (at, at + span) if horizon > 0 else (at - span, at)
        beyond = (begin < mids.begin_ns) | (end > mids.end_ns)
        if self.weight == "time":
            mean = _time_mean(mids, begin, end)
        else:
            mean = _event_mean(mids, mids.known(begin), mids.known(end), begin)
        return np.where(beyond, np.nan, mean)


def _event_mean(mids: Mids, low: Ints, high: Ints, at: Ints) -> Floats:
    """Mean of the mids after changes ``low`` to ``high - 1``; the mid at ``at`` where there are none."""
    total, count = mids._sums
    n = count[high] - count[low]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, (total[high] - total[low]) / n, mids.at(at))


def _time_mean(mids: Mids, begin: Ints, end: Ints) -> Floats:
    """Mean over time of trading; a one-sided book counts with the last mid before it."""
    carried = mids._carried
    change = np.concatenate([[mids.begin_ns], mids.clock_ns])
    held = np.where(np.isnan(carried), 0.0, carried)
    area = np.concatenate([[0.0], np.cumsum(held[:-1] * np.diff(change))])

    def until(t: Ints) -> Floats:
        k = mids.known(t)
        return np.asarray(area[k] + held[k] * (t - change[k]))

    mean = (until(end) - until(begin)) / np.maximum(end - begin, 1)
    return np.where(np.isnan(mids.at(begin)), np.nan, mean)


LABELS: Mapping[str, Label] = {
    label.name: label
    for label in (
        Label("mars", "minutes"),
        Label("mars-time", "minutes", weight="time"),
        Label("fi-2010", "events", flat=FLAT_FI_2010),
        Label("lse", "events", anchor="mean"),
    )
}


def realised_volatility(mids: Mids, at_ns: Any, minutes: int) -> Floats:
    """Root of the sum of squared log returns of the mid over steps of ``STEP_S`` in ``(t, t + minutes]``, ``[m]``.

    A one-sided book counts with the last mid before it; NaN where the minutes reach beyond the path, or before any mid.
    """
    begin = np.asarray(at_ns, np.int64)
    steps = np.arange(0, minutes * MINUTE + 1, STEP_S * SECOND)
    path = np.log(mids.at(begin[..., None] + steps))
    found = np.sqrt((np.diff(path, axis=-1) ** 2).sum(axis=-1))
    beyond = (begin < mids.begin_ns) | (begin + steps[-1] > mids.end_ns)
    return np.where(beyond, np.nan, found)


def shares(classes: Ints) -> Floats:
    """Share of each class ``[3]`` among those that are known; NaN without any."""
    known = classes[classes != MISSING]
    with np.errstate(invalid="ignore"):
        return np.bincount(known, minlength=3) / np.float64(len(known))
