"""Removal of the time-of-day pattern of volatility (fact 7), without letting a return normalise itself.

Dividing by a deviation that contains the value itself pulls the kurtosis down (6 / (n + 1) for n
values per time of day), one from n other values pushes it up (6 / (n - 4)): so the deviation comes
from the other days where there are several, and times of day are pooled into buckets until enough
values stand behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120)
ENOUGH = 200


@dataclass(frozen=True)
class Seasonality:
    """How the time of day is divided."""

    bucket_minutes: int
    leave_day_out: bool


def choose_seasonality(minute: Ints, day: Ints, instrument: Ints) -> Seasonality:
    """The finest buckets behind which ``ENOUGH`` values stand for the typical value.

    Parameters
    ----------
    minute, day, instrument
        Labels of the values, all of one shape.
    """
    several = len(np.unique(day)) > 1
    days = int(day.max(initial=0)) + 1
    last = int(minute.max(initial=0))
    for width in WIDTHS:
        bucket = (instrument * (last // width + 1) + minute // width).ravel()
        total = np.bincount(bucket)
        others = total[bucket]
        if several:
            cell = bucket * days + day.ravel()
            others = others - np.bincount(cell)[cell]
        if np.median(others) >= ENOUGH:
            break
    return Seasonality(width, several)


def normalise(values: Floats, minute: Ints, day: Ints, instrument: Ints, how: Seasonality) -> Floats:
    """Values over the root mean square of their time of day and instrument; NaN where that is unknown or 0.

    Parameters
    ----------
    values
        ``[S, T]``.
    minute
        ``[S, T]`` minute of the trading day.
    day, instrument
        ``[S]``.
    """
    bucket = minute // how.bucket_minutes
    buckets = int(bucket.max(initial=0)) + 1
    days = int(day.max(initial=0)) + 1
    cell = (instrument[:, None] * days + day[:, None]) * buckets + bucket
    ok = ~np.isnan(values)
    size = (int(instrument.max(initial=0)) + 1) * days * buckets
    square = np.bincount(cell[ok], values[ok] ** 2, minlength=size).reshape(-1, days, buckets)
    count = np.bincount(cell[ok], minlength=size).reshape(-1, days, buckets).astype(np.float64)
    total, number = square.sum(axis=1, keepdims=True), count.sum(axis=1, keepdims=True)
    if how.leave_day_out:
        total, number = total - square, number - count
    else:
        total, number = np.broadcast_to(total, square.shape), np.broadcast_to(number, count.shape)
    scale = np.sqrt(np.where((number >= 2) & (total > 1e-9 * square), total / np.maximum(number, 1), np.nan))
    scale = np.where(scale > 0, scale, np.nan)
    return np.asarray(values / scale.reshape(-1)[cell])
