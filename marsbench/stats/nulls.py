"""Nulls that keep the distribution of minutes and destroy their order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.windows import Windows

Floats = NDArray[np.float64]


def permute_last(values: Floats, keys: Floats) -> Floats:
    """Reorder the last axis by sorting ``keys``."""
    return np.take_along_axis(values, np.argsort(keys, axis=-1, kind="stable"), axis=-1)


def shuffle_within_windows(windows: Windows, draws: int, rng: np.random.Generator) -> Windows:
    """``draws`` shuffles of the minutes of each window, in the place of the rollouts.

    Returns and volume of a minute stay together (what correlates within the minute stays, what
    correlates across minutes goes). Minutes without a return stay in front, where a window that has
    seen no trade yet has them.
    """
    returns = np.repeat(windows.returns[:, :1], draws, axis=1)
    keys = np.where(np.isnan(returns), -1.0, rng.random(returns.shape))
    mean = np.repeat(windows.mean_returns[:, :1], draws, axis=1)
    mean_keys = np.where(np.isnan(mean), -1.0, rng.random(mean.shape))
    return replace(
        windows,
        returns=permute_last(returns, keys),
        volume=permute_last(np.repeat(windows.volume[:, :1], draws, axis=1), keys),
        mean_returns=permute_last(mean, mean_keys),
    )


def shuffle_over_days(windows: Windows, draws: int, rng: np.random.Generator) -> Windows:
    """Every minute of the day takes its return from another day of the instrument; ``draws`` such days as rollouts.

    The time-of-day pattern stays, dependence within a day goes: what a statistic of deseasonalised
    returns still shows is the noise of the pattern's own estimate, which neighbouring minutes share.
    Missing for an instrument with one day.
    """
    returns = np.full((windows.starts, draws, windows.returns.shape[-1]), np.nan)
    for i in np.unique(windows.instrument):
        of_it = np.flatnonzero(windows.instrument == i)
        if len(of_it) > 1:
            whole = np.repeat(windows.returns[of_it, :1], draws, axis=1)
            order = np.argsort(rng.random(whole.shape), axis=0)
            returns[of_it] = np.take_along_axis(whole, order, axis=0)
    return replace(windows, returns=returns, volume=np.full(returns.shape, np.nan))


def constant_volatility(windows: Windows, minutes: int, rng: np.random.Generator) -> Windows:
    """Gaussian returns with the volatility that every stretch of ``minutes`` had, constant within the stretch.

    They have neither heavy tails nor clustering within a stretch; what a pooled statistic shows of either is made
    by pooling stretches of different volatility. Missing minutes stay missing; volume is as it was.
    """
    r = windows.returns
    out = np.full_like(r, np.nan)
    for first in range(0, r.shape[-1], minutes):
        part = r[..., first : first + minutes]
        ok = ~np.isnan(part)
        size = np.sqrt(
            np.where(ok, part**2, 0.0).sum(axis=-1, keepdims=True) / np.maximum(ok.sum(axis=-1, keepdims=True), 1)
        )
        out[..., first : first + minutes] = np.where(ok, size * rng.standard_normal(part.shape), np.nan)
    return replace(windows, returns=out)
