"""Statistics pooled over windows, kept as additive sums so that clusters can be reweighted cheaply.

The paper pools the windows of an instrument, computes the statistic, then averages over instruments.
All statistics here are functions of sums over windows (counts, first to fourth powers, products), so
the sums of each (cluster, instrument) are enough: a bootstrap resample, a half of a split or a
deleted cluster is a vector of weights over clusters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.windows import Windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK = 1 << 22
"""Numbers held at once while many weights are worked through."""


@dataclass(frozen=True)
class Pool:
    """Sums of one statistic over the windows of each unit (cluster x instrument)."""

    sums: Floats
    """``[R, U, L, P]`` per rollout."""
    cluster: Ints
    """``[U]``."""
    instrument: Ints
    """``[U]``."""
    clusters: int
    finish: Callable[[Floats], Floats]
    """Turns sums ``[..., L, P]`` into the statistic's curve ``[..., L]``; NaN where there is too little."""

    @classmethod
    def build(cls, window_sums: Floats, windows: Windows, finish: Callable[[Floats], Floats]) -> Pool:
        """Add up the sums ``[S, R, L, P]`` of windows within each unit."""
        pairs = np.stack([windows.cluster, windows.instrument])
        units, label = np.unique(pairs, axis=1, return_inverse=True)
        order = np.argsort(label.reshape(-1), kind="stable")
        first = np.searchsorted(label.reshape(-1)[order], np.arange(units.shape[1]))
        sums = np.add.reduceat(window_sums[order], first, axis=0) if windows.starts else window_sums
        clusters = int(windows.cluster.max()) + 1 if windows.starts else 0
        return cls(np.ascontiguousarray(np.moveaxis(sums, 1, 0)), units[0], units[1], clusters, finish)

    @property
    def rollouts(self) -> int:
        return len(self.sums)

    def by_instrument(self, weights: Floats | None = None, *, rollout: int | None = None) -> Floats:
        """The curve of every instrument, ``[I, B, L]``, for cluster weights ``[B, C]`` (default ones, B = 1).

        ``rollout`` takes that rollout alone, so that n is the same as in replay; None pools them all.
        """
        weights = np.ones((1, self.clusters)) if weights is None else weights
        sums = self.sums.sum(axis=0) if rollout is None else self.sums[rollout]
        flat = sums.reshape(len(sums), -1)
        members = [np.flatnonzero(self.instrument == i) for i in np.unique(self.instrument)]
        at_once = max(1, _CHUNK // max(1, len(members) * flat.shape[1]))
        curves = []
        for first in range(0, len(weights), at_once):
            part = weights[first : first + at_once]
            totals = np.stack([part[:, self.cluster[units]] @ flat[units] for units in members])
            with np.errstate(invalid="ignore", divide="ignore"):
                curves.append(self.finish(totals.reshape(*totals.shape[:2], *sums.shape[1:])))
        return np.concatenate(curves, axis=1)

    def curve(self, weights: Floats | None = None, *, rollout: int | None = None) -> Floats:
        """The curve averaged over instruments, ``[B, L]``; instruments where it does not exist are left out."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as it should be
            return np.asarray(np.nanmean(self.by_instrument(weights, rollout=rollout), axis=0))


def per_instrument(values: Floats, windows: Windows, statistic: Callable[[Floats], Floats]) -> Floats:
    """Apply ``statistic([s, ...]) -> [...]`` to the windows of each instrument and give it back to each start."""
    first = statistic(values[windows.instrument == windows.instrument[0]])
    out = np.empty((windows.starts, *np.shape(first)))
    for i in np.unique(windows.instrument):
        of_it = windows.instrument == i
        out[of_it] = statistic(values[of_it])
    return out
