"""Metaorders as points: size, impact, duration and price path of each, measured on the days they were traded on.

``I = side ln(mid at the end / mid at the start) / sigma_D`` and ``Q / V_D``: executed shares over the volume of
the same day, in units of the same day's realised volatility (of one-minute mid returns). The mid at the
start is the one right before the first message of that time, at the end the one after the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import minute_bars
from marsbench.market.replay import Replay, replay_trajectory
from marsbench.market.rules import SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.stats.windows import codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Mapping[str, NDArray[Any]]

PATH = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Times at which the path is read, in units of the metaorder's duration."""
MIN_PATH_NS = 120 * SECOND
"""Shorter metaorders have no path: their quarters are single child orders."""
NEEDED = ("instrument", "date", "side", "start_ns", "end_ns", "executed_shares")


@dataclass(frozen=True)
class Impacts:
    """N metaorders, each a point."""

    instruments: tuple[str, ...]
    instrument: Ints
    """``[N]``."""
    day: Ints
    """``[N]``, 0, 1, ...: the instrument-day, the unit of inference."""
    size: Floats
    """``[N]`` executed shares over the day's volume."""
    impact: Floats
    """``[N]`` in units of the day's volatility."""
    duration_ns: Ints
    """``[N]`` trading time from start to end."""
    path: Floats
    """``[N, len(PATH)]`` impact at those times; NaN where short or where the day ends before."""

    @property
    def days(self) -> int:
        return int(self.day.max(initial=-1)) + 1

    def of(self, instrument: int) -> Impacts:
        """Those of one instrument alone."""
        keep = self.instrument == instrument
        return Impacts(
            (self.instruments[instrument],), np.zeros(int(keep.sum()), np.int64), codes(self.day[keep]),
            self.size[keep], self.impact[keep], self.duration_ns[keep], self.path[keep],
        )  # fmt: skip


@dataclass(frozen=True)
class DayImpacts:
    """The metaorders of one instrument-day; fields as in ``Impacts``."""

    instrument: str
    size: Floats
    impact: Floats
    duration_ns: Ints
    path: Floats


class MidPath:
    """The mid price of one day at any time, as a step function of trading time."""

    def __init__(self, trajectory: Trajectory, *, done: Replay | None = None) -> None:
        done = done or replay_trajectory(trajectory, levels=1)
        assert done.snapshots is not None
        sent = trajectory.orders["time_ns"]
        self.rules = trajectory.rules
        self.time_ns = np.ascontiguousarray(np.maximum.accumulate(sent) if len(sent) else sent)
        self.log_mid = np.log(np.where(done.snapshots.two_sided, done.snapshots.mid_half_ticks, np.nan) / 2)
        self.end_ns = trajectory.end_ns

    def before(self, time_ns: Any) -> Floats:
        """Log mid in ticks right before the messages of that time."""
        return np.asarray(self.log_mid[np.searchsorted(self.time_ns, time_ns, side="left")])

    def after(self, time_ns: Any) -> Floats:
        """Log mid in ticks after the messages of that time."""
        return np.asarray(self.log_mid[np.searchsorted(self.time_ns, time_ns, side="right")])


def checked(metaorders: Any) -> dict[str, NDArray[Any]]:
    """The columns of a table of metaorders.

    Parameters
    ----------
    metaorders
        Structured array, DataFrame or mapping with the columns ``NEEDED``, others are ignored: dates are ISO,
        ``side`` is +1 for a buy and -1 for a sale, times are nanoseconds since midnight.

    Raises
    ------
    ValueError
        If a column is missing, a side is neither +1 nor -1, or a metaorder ends before it starts.
    """
    names = metaorders.dtype.names if isinstance(metaorders, np.ndarray) else list(metaorders)
    missing = [c for c in NEEDED if c not in (names or ())]
    if missing:
        raise ValueError(f"metaorders lack the column {', '.join(missing)}; they need {', '.join(NEEDED)}")
    table = {name: np.asarray(metaorders[name]) for name in NEEDED}
    table |= {name: table[name].astype(str) for name in ("instrument", "date")}
    if wrong := sorted(set(np.unique(table["side"]).tolist()) - {1, -1}):
        raise ValueError(f"metaorders: side is {wrong[0]}; +1 is a buy, -1 a sale")
    backwards = np.flatnonzero(table["end_ns"] < table["start_ns"])
    if len(backwards):
        raise ValueError(f"metaorders: row {backwards[0]} ends before it starts; times are nanoseconds since midnight")
    return table


def day_impacts(trajectory: Trajectory, table: Columns) -> DayImpacts | None:
    """The metaorders of a ``checked`` table that were traded on that day; None where there are none."""
    mine = (table["instrument"] == trajectory.instrument) & (table["date"] == trajectory.date)
    mine &= table["executed_shares"] > 0
    if not mine.any():
        return None
    start, end, side, shares = (table[c][mine] for c in ("start_ns", "end_ns", "side", "executed_shares"))
    mids, rules = MidPath(trajectory), trajectory.rules
    sigma = float(np.sqrt(np.nansum(minute_bars(trajectory).mid_returns() ** 2))) or float("nan")
    volume = float(trajectory.fills["size_shares"].sum()) or float("nan")
    begin = rules.trading_ns(start)
    duration = rules.trading_ns(end) - begin
    first, scale = mids.before(start), side / sigma
    at = begin[:, None] + duration[:, None] * np.array(PATH)
    path = (mids.after(rules.clock_ns(at.astype(np.int64))) - first[:, None]) * scale[:, None]
    path[(duration < MIN_PATH_NS) | (at[:, -1] > rules.trading_ns(trajectory.end_ns))] = np.nan
    size, impact = shares / volume, (mids.after(end) - first) * scale
    known = np.isfinite(impact) & (size > 0)
    return DayImpacts(trajectory.instrument, size[known], impact[known], duration[known], path[known])


def join_impacts(parts: Sequence[DayImpacts]) -> Impacts:
    """All metaorders of several instrument-days."""
    parts = [p for p in parts if len(p.size)]
    names = tuple(dict.fromkeys(p.instrument for p in parts))
    lengths = [len(p.size) for p in parts]
    return Impacts(
        instruments=names,
        instrument=np.repeat(np.array([names.index(p.instrument) for p in parts], np.int64), lengths),
        day=np.repeat(np.arange(len(parts)), lengths),
        size=np.concatenate([np.zeros(0), *(p.size for p in parts)]),
        impact=np.concatenate([np.zeros(0), *(p.impact for p in parts)]),
        duration_ns=np.concatenate([np.zeros(0, np.int64), *(p.duration_ns for p in parts)]),
        path=np.concatenate([np.zeros((0, len(PATH))), *(p.path for p in parts)]),
    )


def metaorder_impacts(metaorders: Any, trajectories: Iterable[Trajectory]) -> Impacts:
    """Impacts of the metaorders (see ``checked``) on the given whole days; those on other days are left out."""
    table = checked(metaorders)
    return join_impacts([part for t in trajectories if (part := day_impacts(t, table)) is not None])
