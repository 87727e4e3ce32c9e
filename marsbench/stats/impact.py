"""The law of impact: how the price move of metaorders grows with their size, and what stays of it.

``I = Y (Q/V)^delta`` is fitted to the metaorders themselves by least squares, Y and delta free and no additive
term: logarithms would drop the negative impacts, which are near half of them at small sizes, and bins
drop small sizes. Different instruments share delta and have their own Y. Resampled are instrument-days.

Known failures: partial fills select small impacts; below some size every law looks linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.intervals import Interval, cluster_interval
from marsbench.stats.metaorders import PATH, Impacts
from marsbench.stats.windows import codes

Floats = NDArray[np.float64]

BINS = 9

GRID = np.linspace(0.0, 2.0, 401)
_CURVATURE = np.geomspace(1e-2, 1e6, 161)


@dataclass(frozen=True)
class PowerLaw:
    """``I = Y (Q/V)^delta``."""

    delta: float
    delta_low: float
    delta_high: float
    prefactor: Floats
    """Y of each instrument, ``[I]``."""
    n: int
    days: int
    decades: float
    """Between the 1% and the 99% quantile of the sizes."""
    aic_less_linear: float
    """AIC of the power law less that of the line through the origin; negative speaks for the power law."""
    aic_less_logarithm: float
    """The same against ``a ln(1 + b Q/V)``."""
    method: str | None

    @property
    def verdict(self) -> str:
        """Whether the law is like a square root: ``holds``, ``fails`` or ``inconclusive``.

        It holds if delta's interval contains 1/2, excludes 1 and is narrower than .2, on 1.5 decades of
        sizes or more; it fails if the interval excludes 1/2.
        """
        if not np.isfinite(self.delta_low + self.delta_high):
            return "inconclusive"
        if not self.delta_low <= 0.5 <= self.delta_high:
            return "fails"
        sharp = self.delta_high < 1 and self.delta_high - self.delta_low < 0.2 and self.decades >= 1.5
        return "holds" if sharp else "inconclusive"


class Sums:
    """Sums by instrument-day behind the least-squares fit of every shape of a family ``[G]`` at once."""

    def __init__(self, impacts: Impacts, shape: Any) -> None:
        self.unit_instrument = np.zeros(impacts.days, np.int64)
        self.unit_instrument[impacts.day] = impacts.instrument
        self.instruments = len(impacts.instruments)
        order = np.argsort(impacts.day, kind="stable")
        starts = np.searchsorted(impacts.day[order], np.arange(impacts.days))
        q, y = impacts.size[order], impacts.impact[order]
        both = [shape(g, q) for g in range(shape.count)]
        self.xy = np.stack([np.add.reduceat(f * y, starts) for f in both], axis=1)  # [D, G]
        self.xx = np.stack([np.add.reduceat(f * f, starts) for f in both], axis=1)
        self.yy = np.add.reduceat(y * y, starts)

    def amplitudes(self, weights: Floats) -> Floats:
        """Best amplitude of each instrument and shape, ``[B, I, G]``; and what it explains, ``[B, G]``."""
        mine = np.arange(self.instruments)[:, None] == self.unit_instrument[None, :]  # [I, D]
        xy, xx = (np.einsum("bd,id,dg->big", weights, mine, part, optimize=True) for part in (self.xy, self.xx))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([np.where(xx > 0, xy / xx, 0.0), np.where(xx > 0, xy * np.abs(xy) / xx, 0.0)])

    def gains(self, weights: Floats) -> Floats:
        return np.asarray(self.amplitudes(weights)[1].sum(axis=1))

    def rest(self) -> Floats:
        """Sum of squared residuals of each shape, ``[G]``."""
        return np.asarray(self.yy.sum() - self.gains(np.ones((1, len(self.yy))))[0])


class Power:
    count = len(GRID)

    def __call__(self, g: int, q: Floats) -> Floats:
        return np.asarray(q ** GRID[g])


class Logarithm:
    count = len(_CURVATURE)

    def __call__(self, g: int, q: Floats) -> Floats:
        return np.asarray(np.log1p(_CURVATURE[g] * q))


def peak(gain: Floats) -> Floats:
    """Where on the grid the gain is largest, refined by a parabola, ``[B]``; NaN where nothing is explained."""
    best = gain.argmax(axis=-1)
    inner = np.clip(best, 1, gain.shape[-1] - 2)
    left, middle, right = (np.take_along_axis(gain, (inner + i)[:, None], -1)[:, 0] for i in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(best == inner, 0.5 * (left - right) / (left - 2 * middle + right), 0.0)
    found = GRID[best] + np.where(np.isfinite(shift), shift, 0.0) * (GRID[1] - GRID[0])
    return np.where(gain.max(axis=-1) > 0, found, np.nan)


def fit_power_law(impacts: Impacts) -> PowerLaw | None:
    """Fit delta (common) and Y (of each instrument); None with fewer than 10 metaorders.

    The search of delta ends at 0 and 2.
    """
    n = len(impacts.size)
    if n < 10:
        return None
    sums = Sums(impacts, Power())

    def statistic(weights: Floats) -> Floats:
        return peak(sums.gains(weights))

    interval = cluster_interval(statistic, impacts.days, what="instrument-days")
    delta = float(statistic(np.ones((1, impacts.days)))[0])
    exact = np.stack([np.bincount(impacts.instrument, impacts.impact * impacts.size**delta),
                      np.bincount(impacts.instrument, impacts.size ** (2 * delta))])  # fmt: skip
    rest = float(sums.rest().min())
    linear = float(sums.rest()[np.argmin(np.abs(GRID - 1))])
    logarithm = float(Sums(impacts, Logarithm()).rest().min())
    low, high = np.quantile(impacts.size, (0.01, 0.99))
    return PowerLaw(
        delta, float(interval.low), float(interval.high), exact[0] / exact[1], n, impacts.days,
        float(np.log10(high / low)), n * float(np.log(rest / linear)) + 2, n * float(np.log(rest / logarithm)),
        interval.method,
    )  # fmt: skip


def binned(impacts: Impacts, bins: int = BINS) -> dict[str, Floats]:
    """Mean impact in bins of equal width of ``log(Q/V)``: ``size``, ``impact``, ``error`` (over days), ``n``; ``[K]``.

    Bins with fewer than 5 metaorders or 2 days are left out.
    """
    low, high = np.quantile(impacts.size, (0.005, 0.995)) if len(impacts.size) else (1.0, 1.0)
    edges = np.geomspace(low, max(high, low * 1.001), bins + 1)
    label = np.clip(np.searchsorted(edges, impacts.size, side="right") - 1, 0, bins - 1)
    rows = []
    for k in range(bins):
        of_it = label == k
        days = np.unique(impacts.day[of_it])
        if of_it.sum() < 5 or len(days) < 2:
            continue
        mean = impacts.impact[of_it].mean()
        apart = np.bincount(impacts.day[of_it], impacts.impact[of_it] - mean)[days]
        error = np.sqrt((apart**2).sum() * len(days) / (len(days) - 1)) / of_it.sum()
        rows.append((np.exp(np.log(impacts.size[of_it]).mean()), mean, error, of_it.sum()))
    table = np.array(rows, np.float64).reshape(-1, 4)
    return dict(zip(("size", "impact", "error", "n"), table.T, strict=True))


def decay(impacts: Impacts) -> tuple[Floats, Interval, int]:
    """Mean path over its value at the end of the metaorder, ``[len(PATH)]``; its interval; metaorders behind it.

    A ratio of means over those metaorders that last ``MIN_PATH_NS`` and whose whole path lies in the day.
    """
    ok = np.isfinite(impacts.path).all(axis=1)
    day = codes(impacts.day[ok])
    days = int(day.max(initial=-1)) + 1
    sums = np.zeros((days, len(PATH)))
    np.add.at(sums, day, impacts.path[ok])

    def statistic(weights: Floats) -> Floats:
        total = weights @ sums
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total / total[:, [PATH.index(1.0)]])

    interval = cluster_interval(statistic, days, what="instrument-days")
    value = statistic(np.ones((1, days)))[0] if days else np.full(len(PATH), np.nan)
    return value, interval, int(ok.sum())
