"""Moments and tails of returns: kurtosis, skewness (facts 2, 3, 4, 7) and Hill's tail index (fact 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.windows import sliding_sum

Floats = NDArray[np.float64]

HILL_FRACTIONS = (0.01, 0.025, 0.05)


def moment_sums(x: Floats) -> Floats:
    """Number and sums of the first to fourth powers along the last axis, ``[..., 5]``; NaN left out."""
    ok = ~np.isnan(x)
    clean = np.where(ok, x, 0.0)
    square = clean * clean
    parts = (ok.sum(axis=-1), clean.sum(-1), square.sum(-1), (square * clean).sum(-1), (square * square).sum(-1))
    return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(np.float64)


def aggregated_moment_sums(returns: Floats, periods: Sequence[int], *, limit: float, scale: Floats) -> Floats:
    """Moment sums of overlapping d-minute returns, ``[..., len(periods), 5]``.

    Parameters
    ----------
    returns
        One-minute log returns ``[..., T]``.
    limit
        Longer returns are left out as errors (MarS: 0.5 for kurtosis, 0.05 for skewness).
    scale
        What to divide by, broadcast against ``[...]``; moments ratios do not depend on it, digits do.
    """
    out = np.zeros((*returns.shape[:-1], len(periods), 5))
    for j, d in enumerate(periods):
        r = sliding_sum(returns, d)
        out[..., j, :] = moment_sums(np.where(np.abs(r) < limit, r, np.nan) / scale[..., None])
    return out


def _central(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    n = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        m, a2, a3, a4 = (sums[..., i] / n for i in range(1, 5))
        m2 = a2 - m * m
        m3 = a3 - 3 * m * a2 + 2 * m**3
        m4 = a4 - 4 * m * a3 + 6 * m * m * a2 - 3 * m**4
    return n, np.where(m2 > 1e-12 * np.abs(a2), m2, np.nan), m3, m4


def excess_kurtosis(sums: Floats) -> Floats:
    """Bias-corrected excess kurtosis G2 (as pandas), 0 for a Gaussian; NaN below 4 values or if constant."""
    n, m2, _, m4 = _central(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        g2 = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (m4 / m2**2 - 3) + 6)
    return np.where(n > 3, g2, np.nan)


def skewness(sums: Floats) -> Floats:
    """Bias-corrected skewness G1 (as pandas), 0 for a symmetric law; NaN below 3 values or if constant."""
    n, m2, m3, _ = _central(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        g1 = np.sqrt(n * (n - 1)) / (n - 2) * m3 / m2**1.5
    return np.where(n > 2, g1, np.nan)


def hill_thresholds(values: Floats, fractions: Sequence[float] = HILL_FRACTIONS) -> Floats:
    """The (k + 1)-th largest value, k = ``fraction * n``, ``[len(fractions)]``; NaN if it is not positive."""
    x = np.sort(values[~np.isnan(values)])
    out = np.full(len(fractions), np.nan)
    for j, fraction in enumerate(fractions):
        k = int(fraction * len(x))
        if k >= 2 and x[len(x) - k - 1] > 0:
            out[j] = x[len(x) - k - 1]
    return out


def hill_sums(x: Floats, thresholds: Floats) -> Floats:
    """Exceedances and sums of ``log(x / threshold)`` over them.

    ``x`` is ``[..., T]``, ``thresholds`` broadcasts against ``[..., F]``; returns ``[..., F, 2]``.
    """
    out = np.zeros((*x.shape[:-1], thresholds.shape[-1], 2))
    for j in range(thresholds.shape[-1]):
        u = thresholds[..., j, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            above = x > u
            logs = np.where(above, np.log(np.where(above, x, 1.0) / u), 0.0)
        out[..., j, 0], out[..., j, 1] = above.sum(axis=-1), logs.sum(axis=-1)
    return out


def tail_xi(sums: Floats) -> Floats:
    """Hill's xi = 1 / alpha = mean log exceedance, ``[..., F]``; larger is heavier, NaN below 2 exceedances.

    xi and not alpha, because it is the mean that is estimated: it stays finite and nearly Gaussian.
    Biased for a fixed fraction (a Gaussian tail shows 0.13, 0.17, 0.21 at 1, 2.5, 5%, not 0), so it is
    compared between samples at equal fractions, never read as the law's exponent alone.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 0] > 1, sums[..., 1] / sums[..., 0], np.nan)


def hill_alpha(values: Floats, fraction: float) -> float:
    """Hill's tail index of the right tail, ``1 / mean log(X_(i) / X_(k+1))`` over the k largest; NaN if undefined."""
    values = np.asarray(values, np.float64).reshape(-1)
    xi = float(tail_xi(hill_sums(values, hill_thresholds(values, (fraction,))))[0])
    return 1 / xi if xi > 0 else float("nan")
