"""Intervals for clustered data: Student's t over the pseudo-values of a delete-group jackknife of clusters.

A statistic is a function of cluster weights: ``[B, C]`` weights in, ``[B, ...]`` values out. With
additive sums per cluster that is one matrix product, however many events stand behind the sums.

Percentile bootstraps of clusters under-cover: nominal 95% intervals were measured to cover 75% with 3
clusters, 91% with 10, 92% with 20 and 92% with 40 skewed ones, where these cover 94 to 95%
(``marsbench check intervals``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

LEVEL = 0.95
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


def jackknife_interval(
    full: Floats,
    deleted: Floats,
    *,
    clusters: int | None = None,
    most_dof: float = np.inf,
    level: float = LEVEL,
    what: str = "clusters",
) -> Interval:
    """Student t interval over the pseudo-values ``G full - (G - 1) deleted[g]`` of a delete-group jackknife.

    Parameters
    ----------
    full
        The statistic, ``[...]``.
    deleted
        The statistic without group g, ``[G, ...]``. Groups without which it does not exist are left out.
    clusters
        How many there are, where a group is more than one.
    most_dof
        No more degrees of freedom than this, for statistics that use only a part of the clusters at a time.
    """
    full, deleted = np.asarray(full, np.float64), np.asarray(deleted, np.float64)
    groups = len(deleted)
    error, dof = jackknife_error(full, deleted)
    half = stats.t.ppf((1 + level) / 2, np.clip(dof, 1, max(most_dof, 1))) * error
    count = groups if clusters is None else clusters
    method = f"delete-{'one' if count == groups else 'group'} jackknife t interval, {count} {what}"
    return Interval(full - half, full + half, method, count, deleted=deleted)


def cluster_interval(statistic: Statistic, clusters: int, *, level: float = LEVEL, what: str = "clusters") -> Interval:
    """Interval of ``statistic(ones)`` whose unit is the cluster (``jackknife_interval``).

    With fewer than 2 clusters there is none (``reason``).
    """
    full = statistic(np.ones((1, clusters)))[0] if clusters else np.asarray(np.nan)
    if clusters < 2:
        missing = np.full(np.shape(full), np.nan)
        return Interval(missing, missing, None, clusters, f"{clusters} {what}: an interval needs at least 2")
    return jackknife_interval(full, statistic(deletion_weights(clusters)), clusters=clusters, level=level, what=what)


def share_interval(full: Floats, interval: Interval, *, level: float = LEVEL) -> Interval:
    """The interval of a share, from the replicates of ``cluster_interval``: a t interval of its logit.

    The plain one under-covers small shares (91% were measured at a share of 2%), and leaves [0, 1]. At 0 or 1 in
    every cluster the missing side is the exact binomial (Clopper-Pearson) bound with clusters as trials; where
    all clusters share another value there is no interval.
    """
    if interval.deleted is None or interval.method is None:
        return interval
    value = np.asarray(full, np.float64)
    error, dof = jackknife_error(value, interval.deleted)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf((1 + level) / 2, np.maximum(dof, 1)) * error / (value * (1 - value))
        low, high = (1 / (1 + (1 - value) / value * np.exp(sign * half)) for sign in (1, -1))
    agree = error <= 1e-12
    reach = ((1 - level) / 2) ** (1 / interval.clusters)
    low = np.where(agree, np.where(value <= 0, 0.0, np.where(value >= 1, reach, np.nan)), low)
    high = np.where(agree, np.where(value <= 0, 1 - reach, np.where(value >= 1, 1.0, np.nan)), high)
    if agree.all():
        return replace(interval, low=low, high=high, method=f"exact binomial, {interval.clusters} clusters that agree")
    return replace(interval, low=low, high=high, method=f"{interval.method}, of the logit")


def ratio_interval(numerator: Floats, denominator: Floats, *, level: float = LEVEL) -> Interval:
    """Interval of ``sum(numerator) / sum(denominator)``, each ``[C, ...]``: a mean of clustered data."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)

    def mean(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.tensordot(weights, numerator, 1) / np.tensordot(weights, denominator, 1))

    return cluster_interval(mean, len(numerator), level=level)
