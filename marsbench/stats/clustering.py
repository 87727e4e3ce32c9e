"""Volatility clustering and its slow decay (facts 6 and 8): how the autocorrelation of |r| falls with the lag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GRID = np.linspace(0.0, 3.0, 301)
_RATES = np.geomspace(1e-4, 3.0, 401)


def power_law_exponent(curve: Floats, lags: Sequence[int]) -> Floats:
    """beta of ``A lag^-beta``, A > 0, fitted to the curve itself by least squares; ``[...]`` for ``[..., L]``.

    Not a fit of logarithms: that needs positive values and lets the noisy ones decide. NaN where no
    positive A fits; 0 and 3 are the ends of the search. A finite beta does not prove a power law: an
    exponential memory over 20 lags is fitted with 0.7.
    """
    gain = _gains(curve, np.asarray(lags, np.float64) ** -_GRID[:, None])
    best = gain.argmax(axis=-1)
    ok = np.isfinite(np.take_along_axis(gain, best[..., None], -1)[..., 0])
    inner = np.clip(best, 1, len(_GRID) - 2)
    left, middle, right = (np.take_along_axis(gain, (inner + i)[..., None], -1)[..., 0] for i in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(best == inner, 0.5 * (left - right) / (left - 2 * middle + right), 0.0)
    beta = _GRID[best] + np.where(np.isfinite(shift), shift, 0.0) * (_GRID[1] - _GRID[0])
    return np.where(ok, beta, np.nan)


def power_law_against_exponential(curve: Floats, lags: Sequence[int]) -> Floats:
    """AIC of ``A lag^-beta`` less AIC of ``A exp(-lag / c)``, both fitted by least squares; ``[...]``.

    Negative speaks for the power law. Both have two parameters, so it is ``L log(SSE ratio)``: with the
    errors of neighbouring lags correlated it ranks the shapes and is no likelihood ratio test.
    """
    k, curve = np.asarray(lags, np.float64), np.asarray(curve, np.float64)
    total = (curve**2).sum(axis=-1)
    power, exponential = (
        total - _gains(curve, shapes).max(axis=-1) for shapes in (k ** -_GRID[:, None], np.exp(-k * _RATES[:, None]))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = len(k) * np.log(power / exponential)
    return np.where(np.isfinite(found), found, np.nan)


def _gains(curve: Floats, shapes: Floats) -> Floats:
    """Sum of squares that each shape ``[G, L]`` explains with its best positive amplitude, ``[..., G]``; else -inf."""
    known = np.where(np.isnan(curve).any(axis=-1, keepdims=True), 0.0, curve)
    squares = (shapes**2).sum(axis=1)
    amplitude = known @ shapes.T / squares
    return np.where(amplitude > 0, amplitude**2 * squares, -np.inf)
