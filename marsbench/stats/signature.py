"""Signature plot: how the variance of returns grows with their period."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.windows import sliding_sum

Floats = NDArray[np.float64]


def variance_sums(returns: Floats, periods: Sequence[int]) -> Floats:
    """Squares of the overlapping d-minute returns, and of the one-minute returns inside them, ``[..., L, 2]``.

    Both are summed over the same windows, none of which reaches from one day into the next: minutes near
    the open and the close lie in fewer windows, and would otherwise weigh less in the d-minute variance
    only, which an intraday U of volatility turns into a ratio below 1. No mean is taken off: within a day
    it is far below the noise, and taking it off biases long periods down.
    """
    out = np.zeros((*returns.shape[:-1], len(periods), 2))
    for j, d in enumerate(periods):
        for part, values in enumerate((sliding_sum(returns, d) ** 2, sliding_sum(returns**2, d))):
            out[..., j, part] = np.nansum(values, axis=-1)
    return out


def variance_ratio(sums: Floats) -> Floats:
    """``Var(r_d) / (d Var(r_1))``, ``[..., L]``: 1 for a random walk, below for reversal, above for trend.

    A Roll bounce of half-spread c gives ``(d s^2 + 2 c^2) / (d (s^2 + 2 c^2))``. NaN without any return, or
    where all are 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
