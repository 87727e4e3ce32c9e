"""Two samples of minutes compared in every way that the distribution similarity scores, from their values alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.histogram import Bins
from marsbench.stats.intervals import Interval, deletion_weights, jackknife_interval
from marsbench.stats.overlap import overlap
from marsbench.stats.splits import Comparison, SplitHalf, split_half
from marsbench.stats.wasserstein import cdf_grid, grid_wasserstein, wasserstein

from ._scoring import Units
from ._told_apart import CEILING_QUANTILE, ToldApart, tell_apart

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """What came of it."""

    halves: SplitHalf | None
    """Overlap on halves of replay; None with a single unit."""
    full: tuple[float, Interval]
    """Overlap of all minutes."""
    w1: tuple[float, Interval]
    """Wasserstein-1 distance in standard deviations of replay."""
    test: ToldApart

    @property
    def least(self) -> float:
        """The 5th percentile of the ceiling over its splits; NaN where there is none."""
        ceilings = None if self.halves is None else self.halves.ceilings
        if ceilings is None or np.isnan(ceilings).all():
            return float("nan")
        return float(np.nanquantile(ceilings, CEILING_QUANTILE))

    @property
    def verdict(self) -> tuple[str, str]:
        """Whether they can be told apart, and why there is no other verdict."""
        return self.test.verdict(float("nan") if self.halves is None else self.halves.value, self.least)


def compare(
    replay: Floats, simulated: Floats, cluster: Ints, units: Units, rng: np.random.Generator, *, splits: int, bins: int,
    permutations: int,
) -> Compared:  # fmt: skip
    """Compare replay ``[S, M]`` with simulations ``[S, R, M]``; starts belong to ``cluster[S]``."""
    frozen, truth = Bins.frozen(replay, bins), replay[:, None]
    halves = split_half(_comparison(frozen, truth, simulated, units), units.stratum, splits, rng, what=units.what)
    test = tell_apart(replay, simulated, cluster, rng, bins=bins, permutations=permutations)
    full = _weighted(frozen, overlap, truth, simulated, cluster)
    return Compared(halves, full, _distance(truth, simulated, cluster), test)


def _distance(replay: Floats, simulated: Floats, cluster: Ints) -> tuple[float, Interval]:
    """W1 in standard deviations of replay; its interval from distribution functions on a grid."""
    known = replay[~np.isnan(replay)]
    spread = float(known.std()) if known.size else 0.0
    spread = spread if spread > 1e-12 * np.abs(known).max(initial=0.0) else float("nan")
    grid = cdf_grid(replay, simulated)

    def distances(p: Floats, q: Floats) -> Floats:
        return grid_wasserstein(p, q, grid) / spread

    _, interval = _weighted(Bins(grid, False), distances, replay, simulated, cluster)
    return wasserstein(replay, simulated) / spread, interval


def _comparison(bins: Bins, replay: Floats, simulated: Floats, units: Units) -> Comparison:
    truth = bins.count_clusters(replay, units.label, units.count)[0]
    generated = bins.count_clusters(simulated, units.label, units.count)

    def compare(a: Floats, b: Floats, k: int) -> tuple[Floats, Floats, Floats]:
        target = b @ truth
        value = overlap(a @ generated[k % len(generated)], target)
        return value, overlap(a @ truth, target), np.full(len(a), np.nan)

    return compare


def _weighted(bins: Bins, compare: Any, replay: Floats, simulated: Floats, cluster: Ints) -> tuple[float, Interval]:
    """A comparison of all minutes, and its interval by cluster."""
    clusters = int(cluster.max()) + 1
    truth, generated = (bins.count_clusters(v, cluster, clusters).sum(axis=0) for v in (replay, simulated))

    def statistic(weights: Floats) -> Floats:
        return np.asarray(compare(weights @ generated, weights @ truth))

    full = statistic(np.ones((1, clusters)))[0]
    if clusters < 2:
        nothing = np.asarray(np.nan)
        return float(full), Interval(nothing, nothing, None, clusters, "1 cluster: an interval needs at least 2")
    left_out = deletion_weights(clusters, np.random.default_rng(clusters))  # as in halves: paired with them
    return float(full), jackknife_interval(full, statistic(left_out), clusters=clusters)
