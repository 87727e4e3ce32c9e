"""Volume / volatility correlation (fact 10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.autocorrelation import correlation_sums

Floats = NDArray[np.float64]


def volume_volatility_sums(volume: Floats, returns: Floats, lags: Sequence[int]) -> Floats:
    """Sums behind ``corr(V(t), |r(t + lag)|)`` (MarS, from lag 1; lag 0 is the same minute), ``[..., L, 6]``.

    Known failure: a U shape of both over the day correlates them without any mixture behind it.
    """
    return correlation_sums(volume, np.abs(returns), lags)
