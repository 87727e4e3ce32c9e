"""Minute series of whole trading days, one row per instrument-day: what the facts of full sessions are made of.

The series of all days become ``Windows`` of one rollout, so every curve of ``marsbench.stats.facts`` applies
to them; days of different length are padded with missing minutes. The cluster is the instrument-day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import minute_bars
from marsbench.market.trajectory import Trajectory
from marsbench.stats.deseasonalise import Seasonality, choose_seasonality, normalise
from marsbench.stats.windows import Windows, codes, log_returns

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DaySeries:
    """Minute series of one instrument-day of M minutes; what ``Sessions`` are joined from."""

    instrument: str
    date: str
    last_ticks: Floats
    """``[M + 1]`` last trade price; entry 0 is the opening auction's, or the last trade before the open."""
    mean_ticks: Floats
    """``[M + 1]`` minute-mean trade price."""
    mid_ticks: Floats
    """``[M + 1]``; NaN where the book is one-sided."""
    volume_shares: Floats
    """``[M]``."""
    tick_size: float


@dataclass(frozen=True)
class Sessions:
    """D whole days of I instruments."""

    names: tuple[str, ...]
    """Instruments, in the order of ``windows.instrument``."""
    dates: tuple[str, ...]
    """``[D]``."""
    windows: Windows
    """``[D, 1, M]``: returns of the last price, of the minute mean, and volume."""
    mid_returns: Floats
    """``[D, 1, M]`` log returns of the mid price."""

    @property
    def days(self) -> int:
        return len(self.dates)

    def of(self, instrument: int) -> Sessions:
        """The days of one instrument alone."""
        keep = np.flatnonzero(self.windows.instrument == instrument)
        return Sessions(
            (self.names[instrument],),
            tuple(self.dates[i] for i in keep),
            _select(self.windows, keep),
            self.mid_returns[keep],
        )


def day_series(trajectory: Trajectory) -> DaySeries:
    """The minute series of one day.

    Raises
    ------
    ValueError
        If the trajectory holds no whole minute of continuous trading.
    """
    bars = minute_bars(trajectory)
    if not bars.minutes:
        raise ValueError(f"{trajectory}: no whole minute of continuous trading, nothing to describe")
    return DaySeries(
        trajectory.instrument,
        trajectory.date,
        bars.last_trade_ticks,
        bars.mean_trade_ticks,
        bars.mid_half_ticks / 2,
        bars.volume_shares,
        trajectory.tick_size,
    )


def sessions(days: Sequence[DaySeries]) -> Sessions:
    """Join days, in the order of their instruments' first appearance and of their dates.

    Raises
    ------
    ValueError
        If there are none, or an instrument-day comes twice.
    """
    if not days:
        raise ValueError("no days to describe; give at least one trajectory")
    names = tuple(dict.fromkeys(d.instrument for d in days))
    days = sorted(days, key=lambda d: (names.index(d.instrument), d.date))
    for a, b in pairwise(days):
        if (a.instrument, a.date) == (b.instrument, b.date):
            raise ValueError(f"{a.instrument} {a.date} comes twice; give every instrument-day once")
    minutes = max(len(d.volume_shares) for d in days)
    dates = tuple(d.date for d in days)
    windows = Windows.from_prices(
        _padded([d.last_ticks for d in days], minutes + 1),
        mean=_padded([d.mean_ticks for d in days], minutes + 1),
        volume=_padded([d.volume_shares for d in days], minutes),
        instrument=codes([d.instrument for d in days]),
        day=codes(dates),
    )
    mid = log_returns(_padded([d.mid_ticks for d in days], minutes + 1))
    return Sessions(names, dates, windows, mid[:, None, :])


def full_days(trajectories: Sequence[Trajectory]) -> Sessions:
    """``sessions`` of ``day_series`` of trajectories."""
    return sessions([day_series(t) for t in trajectories])


def _padded(series: Sequence[Floats], length: int) -> Floats:
    out = np.full((len(series), length), np.nan)
    for row, values in zip(out, series, strict=True):
        row[: len(values)] = values
    return out


def _select(w: Windows, keep: NDArray[np.int64]) -> Windows:
    return Windows(
        returns=w.returns[keep],
        mean_returns=w.mean_returns[keep],
        volume=w.volume[keep],
        instrument=codes(w.instrument[keep]),
        cluster=codes(w.cluster[keep]),
        day=codes(w.day[keep]),
        minute=w.minute[keep],
    )


def seasonality(w: Windows) -> Seasonality:
    """The buckets of the time of day behind which enough values stand, for the one-minute returns."""
    minute = w.minute[:, None] + np.arange(w.returns.shape[-1])
    day, instrument = (np.broadcast_to(label[:, None], minute.shape) for label in (w.day, w.instrument))
    return choose_seasonality(minute, day, instrument)


def deseasonalised(w: Windows) -> Windows:
    """Returns and volume over the root mean square of their time of day (from other days, where there are any).

    The unit of both is then that root mean square.
    """
    how = seasonality(w)

    def apart(values: Floats) -> Floats:
        minute = w.minute[:, None] + np.arange(values.shape[-1])
        return np.stack(
            [normalise(values[:, k], minute, w.day, w.instrument, how) for k in range(values.shape[1])], axis=1
        )

    return replace(w, returns=apart(w.returns), volume=apart(w.volume))


def sliced(w: Windows, minutes: int) -> Windows:
    """Every day cut into whole windows of that many minutes, a shorter rest left out; clusters stay the days."""
    if minutes < 1:
        raise ValueError(f"windows need at least 1 minute, got {minutes}")
    length = min(minutes, w.returns.shape[-1])
    parts = w.returns.shape[-1] // length

    def cut(values: Floats) -> Floats:
        return np.concatenate([values[..., i * length : (i + 1) * length] for i in range(parts)])

    first = w.minute[None, :] + np.arange(parts)[:, None] * length
    return Windows(
        returns=cut(w.returns),
        mean_returns=np.concatenate([w.mean_returns[..., i * length : (i + 1) * length - 1] for i in range(parts)]),
        volume=cut(w.volume),
        instrument=np.tile(w.instrument, parts),
        cluster=np.tile(w.cluster, parts),
        day=np.tile(w.day, parts),
        minute=first.ravel(),
    )


def about_an_hour(minutes: int) -> int:
    """The length nearest to an hour that cuts a day of that many minutes into equal windows."""
    return minutes // max(1, round(minutes / 60))
