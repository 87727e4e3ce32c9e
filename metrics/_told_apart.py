"""Could the simulated minutes be replay's? The cluster permutation test behind the distribution similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.exchange import MIN_CLUSTERS, exchange
from marsbench.stats.histogram import Bins
from marsbench.stats.overlap import overlap
from marsbench.stats.verdicts import ALPHA
from marsbench.stats.wasserstein import grid_wasserstein

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INDISTINGUISHABLE, DISTINGUISHABLE, INCONCLUSIVE = "indistinguishable", "distinguishable", "inconclusive"
NOT_FAR = 0.8
"""Laws that overlap by less are far apart: those of two normals half a standard deviation apart overlap by .803.
Who could not tell such laws apart says nothing."""
GRID = 64
"""Points at which the distribution functions are compared."""
CEILING_QUANTILE = 0.05


@dataclass(frozen=True)
class ToldApart:
    """The test of one quantity."""

    p: float = float("nan")
    """That labels which may be exchanged lie as far apart; NaN where there are too few clusters."""
    detects_below: float = float("nan")
    """The 5th percentile of the overlap after exchanges: laws that overlap by less are told apart at this size."""
    clusters: int = 0
    w1_exchanged: float = float("nan")
    """Mean Wasserstein distance after exchanges, in the unit of the values: what one law shows at this size."""

    def verdict(self, value: float, least: float) -> tuple[str, str]:
        """A verdict, and why it is not another one.

        Parameters
        ----------
        value
            The overlap on halves.
        least
            The 5th percentile of its ceiling.
        """
        if not np.isfinite(self.p):
            return INCONCLUSIVE, f"{self.clusters} clusters: the permutation test needs at least {MIN_CLUSTERS}"
        if self.p <= ALPHA:
            return DISTINGUISHABLE, ""
        if not np.isfinite(value + least):
            return INCONCLUSIVE, "no overlap on halves"
        if self.detects_below < NOT_FAR:
            return INCONCLUSIVE, f"so few data that only an overlap below {self.detects_below:.3f} would be noticed"
        if value < least:
            return INCONCLUSIVE, f"the overlap is below {least:.3f}, the 5th percentile of its ceiling"
        return INDISTINGUISHABLE, ""


def tell_apart(
    replay: Floats, simulated: Floats, cluster: Ints, rng: np.random.Generator, *, bins: int, permutations: int
) -> ToldApart:
    """Test whether minutes of replay ``[S, M]`` and of simulations ``[S, R, M]`` have one law.

    Replay and one of the rollouts change places, cluster by cluster. Two distances count, overlap and Wasserstein's:
    what stands out more, in standard deviations of its exchanges. Bins are quantiles of all of them together, so
    that they do not know which is which.
    """
    clusters = int(cluster.max()) + 1
    pooled = np.concatenate([replay.ravel(), simulated.ravel()])
    known = pooled[np.isfinite(pooled)]
    if clusters < MIN_CLUSTERS or np.isnan(replay).all() or np.isnan(simulated).all():
        return ToldApart(clusters=clusters)
    coarse = Bins.frozen(pooled, bins)
    points = np.unique(known)
    grid = points if len(points) <= GRID else np.unique(np.quantile(known, np.linspace(0, 1, GRID)))
    fine = Bins(grid, False)
    counts = []
    for table in (coarse, fine):
        truth = table.count_clusters(replay[:, None], cluster, clusters)[0]
        counts.append((truth, table.count_clusters(simulated, cluster, clusters)))
    width = len(coarse)

    def distances(p: Floats, q: Floats) -> Floats:
        return np.stack(
            [1 - overlap(p[:, :width], q[:, :width]), grid_wasserstein(p[:, width:], q[:, width:], grid)], axis=1
        )

    sides = [np.concatenate([counts[0][i], counts[1][i]], axis=-1) for i in (0, 1)]
    found = exchange(distances, sides[0], sides[1], rng, permutations=permutations)
    detects_below = float(1 - np.quantile(found.exchanged[:, 0], 0.95))
    return ToldApart(found.p, detects_below, clusters, float(found.exchanged[:, 1].mean()))
