"""Cluster permutation test: could replay and simulation have changed places?

If the simulation has replay's law, the two samples of a cluster (a day of an instrument, or all starts that
share one) are as likely in the one order as in the other, whatever the dependence within the cluster. So
replay and simulation are exchanged cluster by cluster, at random, and the distance between the two sides is
computed again. With one simulation for each replay that test is exact; with the mean of several it holds as
sums over clusters approach a normal law, which is measured (``marsbench check distribution-similarity``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Distances = Callable[[Floats, Floats], Floats]
"""Sums of two sides ``[B, K]`` -> distances ``[B]`` or ``[B, T]`` (larger is further apart)."""

MIN_CLUSTERS = 6
"""Fewer clusters have under 2^5 distinct exchanges: no p could fall to 1/20."""


@dataclass(frozen=True)
class Exchange:
    """What the exchanges came to."""

    observed: Floats
    """Distances as the labels are, ``[T]``."""
    exchanged: Floats
    """Distances after each exchange, ``[B, T]``."""
    clusters: int

    @property
    def p(self) -> float:
        """Share of exchanges (the labels as they are among them) that are at least as far apart; NaN if there is none.

        Of several distances the one counts that stands out most, each in standard deviations of its exchanges:
        one test, whatever their number.
        """
        if (
            self.clusters < MIN_CLUSTERS
            or not np.isfinite(self.observed).all()
            or not np.isfinite(self.exchanged).all()
        ):
            return float("nan")
        observed, exchanged = self.standardised
        return float((1 + (exchanged >= observed - 1e-9).sum()) / (1 + len(exchanged)))

    @property
    def standardised(self) -> tuple[float, Floats]:
        """The largest of the standardised distances: observed, and ``[B]`` after each exchange."""
        every = np.vstack([self.observed, self.exchanged])
        spread = every.std(axis=0)
        z = np.where(spread > 1e-12, (every - every.mean(axis=0)) / np.where(spread > 1e-12, spread, 1), 0.0)
        most = z.max(axis=1)
        return float(most[0]), most[1:]

    @property
    def distance(self) -> float:
        """Standard deviations of the exchanges by which the observed distance lies beyond their mean."""
        observed, exchanged = self.standardised
        spread = exchanged.std()
        return float((observed - exchanged.mean()) / spread) if spread > 0 else float("nan")


def swaps(clusters: int, count: int, rng: np.random.Generator) -> Floats:
    """Which clusters change places, ``[B, C]`` of 0 and 1: every distinct exchange once, or ``count`` random ones.

    Exchanging all clusters is exchanging none, so the first one stays where it is.
    """
    if clusters < 1:
        raise ValueError(f"an exchange needs at least 1 cluster, got {clusters}")
    distinct = 2 ** min(clusters - 1, 62)
    if distinct - 1 <= count:
        bits = np.arange(1, distinct)[:, None] >> np.arange(clusters - 1)[None, :] & 1
    else:
        bits = rng.integers(0, 2, (count, clusters - 1))
    return np.concatenate([np.zeros((len(bits), 1)), bits], axis=1)


def exchange(
    distances: Distances, replay: Floats, simulated: Floats, rng: np.random.Generator, *, permutations: int = 999
) -> Exchange:
    """Test whether two sides differ, from their sums by cluster.

    Parameters
    ----------
    distances
        Of the two sides, from their sums; must be symmetric.
    replay, simulated
        ``[C, K]``: what each cluster adds to its side, such as counts in bins. The bins must not know which side
        is which: frozen on both samples together, never on one of them.
    permutations
        Random exchanges; all of them are used where there are fewer.
    """
    clusters = len(replay)
    moved = swaps(clusters, permutations, rng)
    gap = simulated - replay
    shift = moved @ gap
    sides = replay.sum(axis=0) + shift, simulated.sum(axis=0) - shift
    observed = np.atleast_1d(distances(replay.sum(axis=0)[None], simulated.sum(axis=0)[None])[0])
    return Exchange(observed, distances(*sides).reshape(len(moved), len(observed)), clusters)
