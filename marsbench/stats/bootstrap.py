"""Intervals for clustered data: percentile bootstrap of clusters, and a t interval where those are few.

A statistic is a function of cluster weights: ``[B, C]`` weights in, ``[B, ...]`` values out. With
additive sums per cluster that is one matrix product, however many events stand behind the sums.

Percentile bootstraps of few clusters under-cover: nominal 95% intervals were measured to cover 75%
with 3 clusters, 91% with 10 and 93% with 20. Below ``FEW`` the interval is Student's t over
delete-one-cluster jackknife pseudo-values instead, and says so in its ``method``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

FEW = 20
"""Fewer clusters than this get the t interval."""
RESAMPLES = 1000
MAX_GROUPS = 64
"""A delete-group jackknife uses at most this many groups of clusters."""


@dataclass(frozen=True)
class Interval:
    """Ends of confidence intervals, each of the statistic's shape; NaN where there is none."""

    low: Floats
    high: Floats
    method: str | None
    clusters: int
    reason: str | None = None
    """Why there is none."""
    deleted: Floats | None = None
    """``[G, ...]``: the statistic without group g of the clusters, where it was computed."""

    @property
    def excludes_zero(self) -> NDArray[np.bool_]:
        return np.asarray((self.low > 0) | (self.high < 0))


def resampled_weights(clusters: int, resamples: int, rng: np.random.Generator) -> Floats:
    """``[B, C]``: how often each cluster is drawn when C clusters are drawn with replacement."""
    drawn = rng.integers(0, clusters, (resamples, clusters)) + clusters * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * clusters).reshape(resamples, clusters).astype(np.float64)


def deletion_weights(clusters: int, rng: np.random.Generator | None = None) -> Floats:
    """``[G, C]``: row g leaves group g out. Each cluster is a group unless there are over ``MAX_GROUPS``."""
    groups = min(clusters, MAX_GROUPS)
    label = np.arange(clusters) % groups
    if groups < clusters and rng is not None:
        label = rng.permutation(label)
    return np.asarray(label[None, :] != np.arange(groups)[:, None], np.float64)


def jackknife_error(full: Floats, deleted: Floats) -> tuple[Floats, Floats]:
    """Standard error of a statistic and its degrees of freedom, from a delete-group jackknife, each ``[...]``.

    Groups without which the statistic does not exist are left out; NaN where fewer than half are left.
    """
    ok = np.isfinite(deleted)
    n = ok.sum(axis=0)
    mean = np.where(ok, deleted, 0).sum(axis=0) / np.maximum(n, 1)
    squares = (np.where(ok, deleted - mean, 0) ** 2).sum(axis=0)
    enough = (n >= max(2, len(deleted) // 2)) & np.isfinite(full)
    error = np.where(enough, np.sqrt((n - 1) / np.maximum(n, 1) * squares), np.nan)
    return error, np.where(enough, n - 1.0, np.nan)


def jackknife_interval(full: Floats, deleted: Floats, *, level: float = 0.95, what: str = "clusters") -> Interval:
    """Student t interval over the pseudo-values ``G full - (G - 1) deleted[g]`` of a delete-group jackknife.

    Parameters
    ----------
    full
        The statistic, ``[...]``.
    deleted
        The statistic without group g, ``[G, ...]``. Groups without which it does not exist are left out.
    """
    full, deleted = np.asarray(full, np.float64), np.asarray(deleted, np.float64)
    groups = len(deleted)
    error, dof = jackknife_error(full, deleted)
    half = stats.t.ppf((1 + level) / 2, np.maximum(dof, 1)) * error
    method = f"delete-one jackknife t interval, {groups} {what}"
    return Interval(full - half, full + half, method, groups, deleted=deleted)


def cluster_interval(
    statistic: Statistic,
    clusters: int,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    what: str = "clusters",
) -> Interval:
    """Interval of ``statistic(ones)`` whose unit is the cluster.

    Percentile bootstrap from ``FEW`` clusters on, t interval over jackknife pseudo-values below. With
    fewer than 2 clusters there is none (``reason``).
    """
    full = statistic(np.ones((1, clusters)))[0] if clusters else np.asarray(np.nan)
    if clusters < 2:
        missing = np.full(np.shape(full), np.nan)
        return Interval(missing, missing, None, clusters, f"{clusters} {what}: an interval needs at least 2")
    if clusters < FEW:
        return jackknife_interval(full, statistic(deletion_weights(clusters)), level=level, what=what)
    values = statistic(resampled_weights(clusters, resamples, rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN columns stay NaN
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low, high, f"cluster bootstrap percentile, {clusters} {what}, {resamples} resamples", clusters)


def share_interval(interval: Interval, value: Floats, *, level: float = 0.95) -> Interval:
    """The interval of a share, mended where all clusters agree and resampling sees no spread at all.

    At 0 or 1 in every cluster the missing side is the exact binomial (Clopper-Pearson) bound with
    clusters as trials; where all clusters share another value there is no interval.
    """
    flat = np.isclose(interval.low, interval.high, rtol=0, atol=1e-12)
    if interval.method is None or not flat.any():
        return interval
    reach = ((1 - level) / 2) ** (1 / interval.clusters)
    low = np.where(flat, np.where(value <= 0, 0.0, np.where(value >= 1, reach, np.nan)), interval.low)
    high = np.where(flat, np.where(value <= 0, 1 - reach, np.where(value >= 1, 1.0, np.nan)), interval.high)
    method = f"exact binomial, {interval.clusters} clusters that agree"
    return replace(interval, low=low, high=high, method=method)


def ratio_interval(
    numerator: Floats, denominator: Floats, rng: np.random.Generator, *, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """Interval of ``sum(numerator) / sum(denominator)``, each ``[C, ...]``: a mean of clustered data."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)

    def mean(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.tensordot(weights, numerator, 1) / np.tensordot(weights, denominator, 1))

    return cluster_interval(mean, len(numerator), rng, resamples=resamples, level=level)
