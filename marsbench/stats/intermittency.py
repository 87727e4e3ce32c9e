"""Bursts of extreme returns (fact 5): the Fano factor of their counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def extreme_threshold(values: Floats, quantile: float = 0.99) -> Floats:
    """The quantile of ``|values|`` that an extreme exceeds (MarS: 99%, per source and instrument)."""
    found = np.abs(values[~np.isnan(values)])
    return np.asarray(np.quantile(found, quantile) if found.size else np.nan)


def count_sums(returns: Floats, threshold: Floats) -> Floats:
    """Buckets, extremes and squared extremes of each window, ``[..., 1, 3]``.

    One window ``[..., T]`` is one bucket. A window with missing minutes has another exposure and is
    left out. ``threshold`` broadcasts against ``[...]``.
    """
    full = ~np.isnan(returns).any(axis=-1) & np.isfinite(threshold) & (returns.shape[-1] > 0)
    with np.errstate(invalid="ignore"):
        count = np.where(full, (np.abs(returns) > threshold[..., None]).sum(axis=-1), 0)
    return np.stack(np.broadcast_arrays(full, count, count**2), axis=-1).astype(np.float64)[..., None, :]


def fano(sums: Floats) -> Floats:
    """Variance (ddof 1) over mean of the counts: 1 for a Poisson process, above for bursts.

    NaN with fewer than 2 buckets or without any event. Known failure: any modulation of the rate
    shows, an intraday U shape of volatility alone gives 1.6.
    """
    n, total, squares = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (squares - total * total / n) / (n - 1) / (total / n)
    return np.where((n > 1) & (total > 0), value, np.nan)
