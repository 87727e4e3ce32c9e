"""Minute series of many windows (one per start and rollout), and what is made of them by sliding sums."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """S starts, R rollouts (1 for replay), M minutes. NaN is missing; labels belong to starts."""

    returns: Floats
    """``[S, R, M]`` one-minute log returns of the last trade price."""
    mean_returns: Floats
    """``[S, R, M - 1]`` one-minute log returns of the minute-mean trade price."""
    volume: Floats
    """``[S, R, M]`` shares traded."""
    instrument: Ints
    """``[S]``, 0, 1, ..."""
    cluster: Ints
    """``[S]``, 0, 1, ...: the unit of inference."""
    day: Ints
    """``[S]``, 0, 1, ...: the trading date."""
    minute: Ints
    """``[S]`` minute of the trading day (breaks cut out) at which the window starts."""

    @property
    def starts(self) -> int:
        return len(self.returns)

    @property
    def rollouts(self) -> int:
        return int(self.returns.shape[1])

    def by_start(self) -> Windows:
        """The same windows with every start as its own cluster."""
        return replace(self, cluster=np.arange(self.starts))

    @classmethod
    def from_prices(
        cls,
        last: Floats,
        *,
        mean: Floats | None = None,
        volume: Floats | None = None,
        instrument: Ints | None = None,
        cluster: Ints | None = None,
        day: Ints | None = None,
        minute: Ints | None = None,
    ) -> Windows:
        """Windows of prices ``[S, M + 1]`` or ``[S, R, M + 1]``; entry 0 is the price at the start.

        Omitted labels: one instrument, every start its own cluster and day, all starting at minute 0.
        The first mean price (that of the start) is not a mean and is left out, as in MarS.
        """
        last = _rollout_axis(last)
        mean = last if mean is None else _rollout_axis(mean)
        volume = np.full((*last.shape[:-1], last.shape[-1] - 1), np.nan) if volume is None else _rollout_axis(volume)
        starts = len(last)
        zeros, own = np.zeros(starts, np.int64), np.arange(starts)
        return cls(
            returns=log_returns(last),
            mean_returns=log_returns(mean[..., 1:]),
            volume=volume,
            instrument=zeros if instrument is None else codes(instrument),
            cluster=own if cluster is None else codes(cluster),
            day=own if day is None else codes(day),
            minute=zeros if minute is None else np.asarray(minute, np.int64),
        )


def _rollout_axis(values: Floats) -> Floats:
    values = np.asarray(values, np.float64)
    return values[:, None, :] if values.ndim == 2 else values


def codes(labels: object) -> Ints:
    """0, 1, ... in order of first appearance."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(x, len(seen)) for x in np.asarray(labels).tolist()], np.int64)


def log_returns(prices: Floats) -> Floats:
    """``log(p[t + 1] / p[t])`` along the last axis; NaN where a price is missing or not positive."""
    prices = np.where(np.asarray(prices) > 0, prices, np.nan)
    return np.diff(np.log(prices), axis=-1) if prices.shape[-1] else prices


def sliding_sum(values: Floats, width: int) -> Floats:
    """Sums over all ``width`` consecutive entries of the last axis, ``[..., max(T - width + 1, 0)]``; overlapping.

    A sum with a missing entry is missing.
    """
    length = values.shape[-1]
    if length < width:
        return np.empty((*values.shape[:-1], 0))
    missing = np.isnan(values)
    holes = missing.any()
    clean = np.where(missing, 0.0, values) if holes else values
    total = clean[..., : length - width + 1].copy()
    for i in range(1, width):
        total += clean[..., i : length - width + 1 + i]
    if holes:
        count = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(missing, axis=-1)], axis=-1)
        total[count[..., width:] > count[..., : length - width + 1]] = np.nan
    return total
