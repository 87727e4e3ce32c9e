"""Asymmetry in time scales (fact 11): coarse volatility predicts fine volatility better than the reverse.

Mueller et al. (1997), Takahashi et al. (2019), MarS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.autocorrelation import correlation_sums
from marsbench.stats.windows import sliding_sum

Floats = NDArray[np.float64]

WIDTH = 5
"""Minutes over which both volatilities are taken."""


def timescale_sums(returns: Floats, lags: Sequence[int], width: int = WIDTH) -> Floats:
    """Sums behind ``rho(lag) = corr(fine(t), coarse(t + lag))``, ``[..., L, 6]``.

    fine = sum of |r|, coarse = |sum of r|, each over ``width`` minutes from t. Below a lag of ``width``
    both overlap: read lags from ``width`` on.
    """
    fine, coarse = sliding_sum(np.abs(returns), width), np.abs(sliding_sum(returns, width))
    return correlation_sums(fine, coarse, lags)


def asymmetry(rho: Floats, lags: Sequence[int], at: Sequence[int]) -> Floats:
    """``rho(lag) - rho(-lag)`` for the lags ``at``, ``[..., len(at)]``; negative is the fact, reversal flips it."""
    where = {lag: i for i, lag in enumerate(lags)}
    return rho[..., [where[k] for k in at]] - rho[..., [where[-k] for k in at]]
