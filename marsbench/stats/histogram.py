"""Bins frozen on a reference sample, and counts per cluster in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@njit(cache=True)
def _count(values, edges, place, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add the counts of ``values[i]`` to ``out[place[i]]``."""
    # padded to 2^k - 1 edges, the search is k steps without a branch to mispredict
    n, top = len(edges), 1
    while top <= n:
        top *= 2
    padded = np.full(top, np.inf)
    padded[:n] = edges
    for i in range(len(values)):
        into = out[place[i]]
        for v in values[i]:
            if np.isnan(v):
                continue
            low, step = 0, top >> 1
            while step:
                low += step * (padded[low + step - 1] < v)
                step >>= 1
            into[2 * low + (padded[low] == v and low < n)] += 1


@dataclass(frozen=True)
class Bins:
    """``2 n + 1`` bins from n edges: the open stretches between (and beyond) them, and each edge itself.

    So a value that many observations share has a bin of its own, and a sample on other values than
    the reference's shows it.
    """

    edges: Floats
    discrete: bool
    """Whether the edges are all values that the reference takes."""

    @classmethod
    def frozen(cls, reference: Floats, bins: int = 50) -> Self:
        """Quantile bins with open ends, or one bin per value if the reference has at most ``bins`` values.

        A sample that hardly repeats a value is not discrete, however short. Below 5 observations a bin
        there are fewer bins.
        """
        x = np.asarray(reference, np.float64)
        x = x[np.isfinite(x)]
        unique = np.unique(x)
        if len(unique) <= min(bins, max(len(x) / 2, 1)):
            return cls(unique, True)
        bins = min(bins, max(len(x) // 5, 2))
        return cls(np.unique(np.quantile(x, np.arange(1, bins) / bins)), False)

    def __len__(self) -> int:
        return 2 * len(self.edges) + 1

    def count(self, values: Floats) -> Ints:
        """Counts ``[len(self)]`` of the values that are not NaN."""
        out = np.zeros((1, len(self)), np.int64)
        _count(np.ascontiguousarray(values, np.float64).reshape(1, -1), self.edges, np.zeros(1, np.int64), out)
        return np.asarray(out[0])

    def count_clusters(self, values: Floats, cluster: Ints, clusters: int) -> Floats:
        """Counts ``[R, C, len(self)]`` of values ``[S, R, ...]`` whose starts belong to ``cluster[S]``."""
        starts, rollouts = values.shape[:2]
        out = np.zeros((rollouts * clusters, len(self)), np.int64)
        place = np.arange(rollouts) * clusters + np.asarray(cluster, np.int64)[:, None]
        rows = np.ascontiguousarray(values, np.float64).reshape(starts * rollouts, -1)
        _count(rows, self.edges, place.ravel(), out)
        return out.reshape(rollouts, clusters, -1).astype(np.float64)
