"""Cluster permutation test: could replay and simulation have changed places?

If the simulations have replay's law, then in every cluster (a day of an instrument, or all starts that share one)
any of the rollouts is as likely to be what really happened as replay is, whatever the dependence within the
cluster. So the place of replay is given to one of them, cluster by cluster, at random, and the distance between the
two sides is computed again. The test is exact. It asks for more than one law for all minutes: rollouts that are
more alike to each other than to replay are told apart too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Distances = Callable[[Floats, Floats], Floats]
"""Sums of two sides ``[B, K]`` -> distances ``[B]`` or ``[B, T]`` (larger is further apart)."""

MIN_CLUSTERS = 6
"""Fewer clusters have, with one rollout, under 2^5 distinct exchanges: no p could fall to 1/20."""


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


def places(clusters: int, rollouts: int, count: int, rng: np.random.Generator) -> Ints:
    """Who takes replay's place in each cluster, ``[B, C]``: 0 replay itself, k rollout k.

    Every distinct exchange but the one that changes nothing, or ``count`` random ones. With one rollout, exchanging
    all clusters is exchanging none, so the first one stays where it is.
    """
    if clusters < 1 or rollouts < 1:
        raise ValueError(f"an exchange needs at least 1 cluster and 1 rollout, got {clusters} and {rollouts}")
    sizes = np.full(clusters, rollouts + 1)
    sizes[0] = 1 if rollouts == 1 else rollouts + 1
    if np.log(sizes).sum() <= np.log(count + 1) + 1e-9:
        every = np.stack(np.unravel_index(np.arange(1, int(np.prod(sizes))), sizes), axis=1)
        return np.asarray(every, np.int64)
    return np.asarray(rng.integers(0, sizes, (count, clusters)), np.int64)


def exchange(
    distances: Distances, replay: Floats, simulated: Floats, rng: np.random.Generator, *, permutations: int = 999
) -> Exchange:
    """Test whether replay and simulations differ, from their sums by cluster.

    Parameters
    ----------
    distances
        Of the two sides, from their sums; must be symmetric.
    replay, simulated
        ``[C, K]`` and ``[R, C, K]``: what each cluster adds to its side, such as counts in bins. The bins must not
        know which is which: frozen on all of them together, never on one side.
    permutations
        Random exchanges; all of them are used where there are fewer.
    """
    clusters, rollouts = len(replay), len(simulated)
    columns = np.concatenate([replay[None], simulated])  # [1 + R, C, K]
    total = columns.sum(axis=(0, 1))
    taken = np.concatenate([np.zeros((1, clusters), np.int64), places(clusters, rollouts, permutations, rng)])
    weights = (taken[:, None, :] == np.arange(1 + rollouts)[None, :, None]).astype(np.float64)  # [B, 1 + R, C]
    side = weights.reshape(len(taken), -1) @ columns.reshape(-1, columns.shape[-1])
    found = distances(side, (total - side) / rollouts).reshape(len(taken), -1)
    return Exchange(found[0], found[1:], clusters)
