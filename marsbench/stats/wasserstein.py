"""Wasserstein-1 distance of two samples on the line: the mean shift that turns one into the other."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_TABLE = 1 << 22


@njit(cache=True)
def _merge(x, y):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Integral of |F - G| for two sorted samples, walking both at once."""
    n, m = len(x), len(y)
    i = j = 0
    total = 0.0
    last = min(x[0], y[0])
    while i < n or j < m:
        now = x[i] if j == m or (i < n and x[i] <= y[j]) else y[j]
        total += (now - last) * abs(i / n - j / m)
        last = now
        while i < n and x[i] == now:
            i += 1
        while j < m and y[j] == now:
            j += 1
    return total


def wasserstein(x: Floats, y: Floats) -> float:
    """``W1 = integral |F - G|`` in the unit of the values, 0 or more; NaN values left out, NaN if a side is empty.

    Integers over a range that fits a table are counted, not sorted.
    """
    if (
        np.issubdtype(np.asarray(x).dtype, np.integer)
        and np.issubdtype(np.asarray(y).dtype, np.integer)
        and x.size
        and y.size
    ):
        low, high = min(int(x.min()), int(y.min())), max(int(x.max()), int(y.max()))
        if high - low < _MAX_TABLE:
            f, g = (np.cumsum(np.bincount((v - low).ravel(), minlength=high - low + 1)) / v.size for v in (x, y))
            return float(np.abs(f - g).sum())
    x, y = (np.asarray(v, np.float64).ravel() for v in (x, y))
    x, y = (v[np.isfinite(v)] if not np.isfinite(v).all() else v for v in (x, y))
    if not x.size or not y.size:
        return float("nan")
    x, y = np.sort(x), np.sort(y)
    return float(np.abs(x - y).mean()) if len(x) == len(y) else float(_merge(x, y))


def cdf_grid(x: Floats, y: Floats, points: int = 512) -> Floats:
    """Quantiles of the pooled values, on which ``grid_wasserstein`` integrates."""
    pooled = np.concatenate([np.ravel(x), np.ravel(y)])
    pooled = pooled[np.isfinite(pooled)]
    unique = np.unique(pooled)
    return unique if len(unique) <= points else np.unique(np.quantile(pooled, np.linspace(0, 1, points)))


def grid_wasserstein(p: Floats, q: Floats, grid: Floats) -> Floats:
    """W1 from counts ``[..., 2 G + 1]`` in ``histogram.Bins`` whose edges are the ``grid`` ``[G]``.

    Exact where all values lie on the grid; otherwise the distribution functions are taken as linear
    between grid points, which is what a bootstrap of clusters needs.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        f, g = (np.cumsum(c, axis=-1) / c.sum(axis=-1, keepdims=True) for c in (p, q))
    d = (f - g)[..., 1::2]  # difference right at each grid point
    before = (f - g)[..., 2::2][..., :-1]  # and just below the next one
    a, b, width = d[..., :-1], before, np.diff(grid)
    with np.errstate(invalid="ignore", divide="ignore"):
        crossing = np.where(a * b < 0, (a * a + b * b) / (np.abs(a) + np.abs(b)), np.abs(a) + np.abs(b)) / 2
    return np.asarray((crossing * width).sum(axis=-1))
