"""``I = Y (Q/V)^delta`` fitted to metaorders that come in clusters: those of one start share what happened before it.

Nonlinear least squares on the metaorders themselves, Y and delta free, no additive term, negative impacts included: the
best Y for each delta is a ratio of sums, so a grid of delta is searched at once, with any weights of clusters.
Intervals are Student t over a delete-group jackknife of clusters, where percentile bootstraps cover too little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.stats.impact import GRID, Logarithm, Power, Sums, peak
from marsbench.stats.intervals import LEVEL, deletion_weights, jackknife_error
from marsbench.stats.metaorders import Impacts
from marsbench.stats.windows import codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FEWEST = 10


@dataclass(frozen=True)
class Law:
    """``I = Y (Q/V)^delta``, one Y for all."""

    delta: float
    delta_low: float
    delta_high: float
    prefactor: float
    """Y."""
    prefactor_low: float
    prefactor_high: float
    n: int
    clusters: int
    r2: float
    """1 - squared residuals / squared impacts about their mean."""
    decades: float
    """Between the 1% and the 99% quantile of the sizes."""
    aic_less_linear: float
    """Negative speaks for the power law against the line through the origin."""
    aic_less_logarithm: float
    """The same against ``a ln(1 + b Q/V)``."""

    @property
    def verdict(self) -> str:
        """Whether it is like a square root: ``holds``, ``fails`` or ``inconclusive``.

        It holds if delta's interval contains 1/2, excludes 1 and is narrower than .2, on 1.5 decades of sizes or more;
        it fails if the interval excludes 1/2.
        """
        if not np.isfinite(self.delta_low + self.delta_high):
            return "inconclusive"
        if not self.delta_low <= 0.5 <= self.delta_high:
            return "fails"
        sharp = self.delta_high < 1 and self.delta_high - self.delta_low < 0.2 and self.decades >= 1.5
        return "holds" if sharp else "inconclusive"


class Sample:
    """Metaorders as points, ready to be fitted with any weights of their clusters.

    Parameters
    ----------
    size, impact
        ``[N]``; sizes positive, both finite.
    cluster
        ``[N]`` which of the ``clusters`` units each belongs to.
    """

    def __init__(self, size: Floats, impact: Floats, cluster: Ints, clusters: int) -> None:
        self.size, self.impact, self.cluster, self.clusters = size, impact, cluster, clusters
        self.present = np.unique(cluster)
        nothing = np.zeros((len(size), 0))
        self.points = Impacts(
            ("all",),
            np.zeros(len(size), np.int64),
            codes(cluster),
            size,
            impact,
            np.zeros(len(size), np.int64),
            nothing,
        )
        self.sums = Sums(self.points, Power())

    def exponent(self, weights: Floats) -> Floats:
        """delta for weights of clusters ``[B, C]``: ``[B]``, NaN where nothing is explained; between 0 and 2."""
        return peak(self.sums.gains(weights[:, self.present]))

    def prefactor(self, weights: Floats, delta: Floats) -> Floats:
        """Y at given exponents ``[B]``."""
        w = weights[:, self.cluster]
        shape = self.size[None, :] ** delta[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((w * shape * self.impact).sum(axis=1) / (w * shape**2).sum(axis=1))


def fit_law(size: Floats, impact: Floats, cluster: Ints, clusters: int | None = None) -> Law | None:
    """Fit one sample; None with fewer than 10 metaorders or 2 clusters, or where nothing is explained."""
    count = int(cluster.max(initial=-1)) + 1 if clusters is None else clusters
    if len(size) < FEWEST or len(np.unique(cluster)) < 2:
        return None
    sample = Sample(size, impact, cluster, count)
    weights = np.concatenate([np.ones((1, count)), deletion_weights(count, np.random.default_rng(count))])
    delta = sample.exponent(weights)
    if not np.isfinite(delta[0]):
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        log_y = np.log(sample.prefactor(weights, delta))
    ends = [_interval(x) for x in (delta, log_y)]
    rest = sample.sums.rest()
    linear, logarithm = float(rest[np.argmin(np.abs(GRID - 1))]), float(Sums(sample.points, Logarithm()).rest().min())
    residual = float(((impact - np.exp(log_y[0]) * size ** delta[0]) ** 2).sum())
    low, high = np.quantile(size, (0.01, 0.99))
    n = len(size)
    (delta_low, delta_high), (log_low, log_high) = ends
    return Law(
        delta=float(delta[0]),
        delta_low=delta_low,
        delta_high=delta_high,
        prefactor=float(np.exp(log_y[0])),
        prefactor_low=float(np.exp(log_low)),
        prefactor_high=float(np.exp(log_high)),
        n=n,
        clusters=len(sample.present),
        r2=1 - residual / float(((impact - impact.mean()) ** 2).sum()),
        decades=float(np.log10(high / low)),
        aic_less_linear=n * float(np.log(residual / linear)) + 2,
        aic_less_logarithm=n * float(np.log(residual / logarithm)),
    )


def _interval(found: Floats) -> tuple[float, float]:
    """From a value and its replicates, ``[1 + G]``."""
    error, dof = jackknife_error(found[0], found[1:])
    half = float(stats.t.ppf((1 + LEVEL) / 2, dof) * error)
    return float(found[0]) - half, float(found[0]) + half


def relaxed(z: Floats, rest: float, exponent: float) -> Floats:
    """``I(z)/I(1) = rest + (1 - rest) z^-exponent`` for times z >= 1 in units of the time of trading."""
    return np.asarray(rest + (1 - rest) * z ** (-exponent))


def fit_decay(z: Floats, ratio: Floats) -> tuple[float, float]:
    """Rest and exponent of ``relaxed`` by least squares, rest in [0, 1] and exponent in [0, 10]; NaN where it fails.

    Times up to four times that of trading hardly tell a rest from a slow decay: read both together.
    """
    from scipy.optimize import curve_fit

    good = np.isfinite(ratio)
    if good.sum() < 3:
        return float("nan"), float("nan")
    try:
        found, _ = curve_fit(relaxed, z[good], ratio[good], p0=(0.5, 0.5), bounds=([0, 0], [1, 10]), maxfev=2000)
    except RuntimeError:
        return float("nan"), float("nan")
    return float(found[0]), float(found[1])
