"""Volatility clustering and its slow decay (facts 6 and 8): how the autocorrelation of |r| falls with the lag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GRID = np.linspace(0.0, 3.0, 301)


def power_law_exponent(curve: Floats, lags: Sequence[int]) -> Floats:
    """beta of ``A lag^-beta``, A > 0, fitted to the curve itself by least squares; ``[...]`` for ``[..., L]``.

    Not a fit of logarithms: that needs positive values and lets the noisy ones decide. NaN where no
    positive A fits; 0 and 3 are the ends of the search. A finite beta does not prove a power law: an
    exponential memory over 20 lags is fitted with 0.7.
    """
    shape = np.asarray(lags, np.float64) ** -_GRID[:, None]  # [G, L]
    curve = np.asarray(curve, np.float64)
    known = np.where(np.isnan(curve).any(axis=-1, keepdims=True), 0.0, curve)
    amplitude = known @ shape.T / (shape**2).sum(axis=1)  # [..., G]
    gain = np.where(amplitude > 0, amplitude**2 * (shape**2).sum(axis=1), -np.inf)
    best = gain.argmax(axis=-1)
    ok = np.isfinite(np.take_along_axis(gain, best[..., None], -1)[..., 0])
    inner = np.clip(best, 1, len(_GRID) - 2)
    left, middle, right = (np.take_along_axis(gain, (inner + i)[..., None], -1)[..., 0] for i in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(best == inner, 0.5 * (left - right) / (left - 2 * middle + right), 0.0)
    beta = _GRID[best] + np.where(np.isfinite(shift), shift, 0.0) * (_GRID[1] - _GRID[0])
    return np.where(ok, beta, np.nan)
