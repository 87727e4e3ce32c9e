"""Correlations at a lag: of one long series, pooled over windows, and within windows net of the shuffle.

Facts 1, 6 and 8 (and, with two different series, 9 and 10) of Cont (2001) as MarS measures them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLOCK = 8_192
"""Fits the cache, and lies below the length from which BLAS wakes other threads for a dot product."""


def acf(values: Floats, max_lag: int) -> Floats:
    """Autocorrelation of one long series at lags 0 to ``max_lag``, ``[max_lag + 1]``, in [-1, 1].

    ``sum (x_t - m)(x_{t+k} - m) / sum (x_t - m)^2``, by dot products over blocks that stay in the
    cache. NaN for a constant series.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not 0 <= max_lag < max(len(x), 1):
        raise ValueError(f"acf needs one series longer than max_lag={max_lag}, got shape {x.shape}")
    x = x - x.mean()
    total = np.zeros(max_lag + 1)
    for at in range(0, len(x), _BLOCK):
        block = x[at : at + _BLOCK]
        for lag in range(max_lag + 1):
            later = x[at + lag : at + lag + _BLOCK]
            total[lag] += block[: len(later)] @ later
    scale = np.abs(values).max()
    return total / total[0] if total[0] > len(x) * (1e-13 * scale) ** 2 else np.full(max_lag + 1, np.nan)


def correlation_sums(x: Floats, y: Floats, lags: Sequence[int]) -> Floats:
    """Sums behind ``corr(x(t), y(t + lag))``: n, x, y, xx, yy, xy of the pairs within each window.

    Parameters
    ----------
    x, y
        ``[..., T]``, windows in front. Give them centred and scaled (correlation does not change): sums
        of squares of numbers far from zero lose digits.
    lags
        May be negative.

    Returns
    -------
    ``[..., len(lags), 6]``.
    """
    length = x.shape[-1]
    out = np.zeros((*x.shape[:-1], len(lags), 6))
    holes = bool(np.isnan(x).any() or np.isnan(y).any())
    for j, lag in enumerate(lags):
        size = length - abs(lag)
        if size <= 0:
            continue
        a, b = x[..., max(-lag, 0) : max(-lag, 0) + size], y[..., max(lag, 0) : max(lag, 0) + size]
        if holes:
            ok = ~(np.isnan(a) | np.isnan(b))
            a, b, n = np.where(ok, a, 0.0), np.where(ok, b, 0.0), ok.sum(axis=-1)
        else:
            n = np.asarray(size)
        dot = [np.einsum("...t,...t->...", u, v) for u, v in ((a, a), (b, b), (a, b))]
        out[..., j, :] = np.stack(np.broadcast_arrays(n, a.sum(axis=-1), b.sum(axis=-1), *dot), axis=-1)
    return out


def correlation(sums: Floats) -> Floats:
    """Pearson correlation ``[..., L]`` from ``correlation_sums``; NaN below 3 pairs or for a constant series."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx - x * x / n, yy - y * y / n
        r = (xy - x * y / n) / np.sqrt(var_x * var_y)
    ok = (n > 2) & (var_x > 1e-12 * np.maximum(xx, 1e-300)) & (var_y > 1e-12 * np.maximum(yy, 1e-300))
    return np.where(ok, np.clip(r, -1, 1), np.nan)


def within_sums(x: Floats, lags: Sequence[int]) -> Floats:
    """Sums behind the within-window autocorrelation, net of the mean over shuffles of the window.

    Each window is centred and scaled to unit variance, so that neither its level nor its volatility
    counts: pooled windows of different volatility would manufacture clustering. A shuffle of a window
    of n values then has the mean product -1 / (n - 1) at every lag, exactly; it is taken off, because
    a short window's own autocorrelation is biased down by just that.

    Returns
    -------
    ``[..., len(lags), 2]``: net products, and pairs.
    """
    ok = ~np.isnan(x)
    n = ok.sum(axis=-1, keepdims=True)
    clean = np.where(ok, x, 0.0)
    mean = clean.sum(axis=-1, keepdims=True) / np.maximum(n, 1)
    z = np.where(ok, x - mean, 0.0)
    spread = np.sqrt((z * z).sum(axis=-1, keepdims=True) / np.maximum(n, 1))
    usable = (n > 2) & (spread > 1e-12 * np.max(np.abs(clean), axis=-1, keepdims=True, initial=0.0))
    z = np.where(usable, z / np.where(usable, spread, 1.0), 0.0)
    null = np.where(usable, -1.0 / np.maximum(n - 1, 1), 0.0)[..., 0]
    out = np.zeros((*x.shape[:-1], len(lags), 2))
    for j, lag in enumerate(lags):
        if lag >= x.shape[-1]:
            continue
        pairs = (ok[..., :-lag] & ok[..., lag:]).sum(axis=-1) * usable[..., 0]
        out[..., j, 0] = (z[..., :-lag] * z[..., lag:]).sum(axis=-1) - null * pairs
        out[..., j, 1] = pairs
    return out


def within_correlation(sums: Floats) -> Floats:
    """Autocorrelation ``[..., L]`` from ``within_sums``: 0 for exchangeable values, NaN without pairs."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 1] > 2, sums[..., 0] / sums[..., 1], np.nan)
