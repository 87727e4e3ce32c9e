"""Leverage effect (fact 9): whether a return is followed by volatility."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.autocorrelation import correlation_sums

Floats = NDArray[np.float64]


def leverage_sums(returns: Floats, lags: Sequence[int]) -> Floats:
    """Sums behind ``corr(r(t), |r(t + lag)|)`` (MarS), ``[..., L, 6]``; negative is the leverage effect."""
    return correlation_sums(returns, np.abs(returns), lags)


def bouchaud_leverage(returns: Floats, max_lag: int) -> Floats:
    """``L(k) = E[r(t) r(t+k)^2 - r(t) |r(t)|^2] / E[r^2]^2`` of one series at lags 1 to ``max_lag``, ``[max_lag]``.

    Bouchaud, Matacz and Potters (2001) as in Takahashi et al. (2019). Its unit is 1 / return, so it is
    compared between series of one scale only.
    """
    r = np.asarray(returns, np.float64)
    r = r[~np.isnan(r)]
    power = np.mean(r * r) ** 2
    if len(r) <= max_lag or power == 0:
        return np.full(max_lag, np.nan)
    found = [np.mean(r[:-k] * r[k:] ** 2 - r[:-k] ** 3) for k in range(1, max_lag + 1)]
    return np.asarray(np.asarray(found) / power)
