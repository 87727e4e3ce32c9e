"""The eleven stylized facts of Cont (2001) as curves, in the definitions of MarS (appendix I and its code).

A curve is a ``Pool``: windows pooled within an instrument, averaged over instruments. A fact names the
curve that is scored, the part of it, how differences are scaled, and its one-number statistic.
Thresholds and scales that are estimated from a sample (the 99% quantile, Hill's thresholds, the
time-of-day pattern) are taken per instrument and rollout and are not refitted when clusters are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.stats import autocorrelation as ac
from marsbench.stats import tails
from marsbench.stats.clustering import power_law_exponent
from marsbench.stats.deseasonalise import Seasonality, choose_seasonality, normalise
from marsbench.stats.intermittency import count_sums, extreme_threshold, fano
from marsbench.stats.leverage import leverage_sums
from marsbench.stats.pooling import Pool, per_instrument
from marsbench.stats.timescales import asymmetry, timescale_sums
from marsbench.stats.volume_volatility import volume_volatility_sums
from marsbench.stats.windows import Windows, sliding_sum

Floats = NDArray[np.float64]

PERIODS = tuple(range(1, 21))
KURTOSIS_LIMIT, SKEWNESS_LIMIT = 0.5, 0.05
"""Longer log returns are data errors to MarS."""
TAIL_FRACTIONS = tails.HILL_FRACTIONS * 2
"""The left tail's fractions, then the right tail's."""


@dataclass(frozen=True)
class Curve:
    """One function of a lag or a period."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    pool: Callable[[Windows], Pool]


def _unit(values: Floats, windows: Windows) -> Floats:
    """Centred and scaled per instrument, so that sums of squares keep their digits (correlations do not change)."""

    def mean_and_scale(v: Floats) -> Floats:
        found = v[~np.isnan(v)]
        mean, spread = (found.mean(), found.std()) if found.size else (0.0, 0.0)
        return np.array([mean, spread if spread > 1e-12 * abs(mean) else np.inf])

    mean, spread = per_instrument(values, windows, mean_and_scale).T[..., None, None]
    return np.asarray((values - mean) / spread)


def _returns_scale(windows: Windows) -> Floats:
    """Root mean square of the one-minute returns of the instrument, ``[S, 1]``; 1 where they are all 0."""

    def scale(r: Floats) -> Floats:
        found = float(np.sqrt(np.mean(r[~np.isnan(r)] ** 2))) if (~np.isnan(r)).any() else 0.0
        return np.array([found or 1.0])

    return per_instrument(windows.returns, windows, scale)


def _lags(last: int, first: int = 1) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


def _acf_last(w: Windows) -> Pool:
    r = _unit(w.returns, w)
    return Pool.build(ac.correlation_sums(r, r, _lags(10)), w, ac.correlation)


def _acf_mean(w: Windows) -> Pool:
    r = _unit(w.mean_returns, w)
    return Pool.build(ac.correlation_sums(r, r, _lags(10)), w, ac.correlation)


def _acf_last_within(w: Windows) -> Pool:
    return Pool.build(ac.within_sums(w.returns, _lags(5)), w, ac.within_correlation)


def absolute_pool(w: Windows, lags: Sequence[int]) -> Pool:
    """Autocorrelation of |r| at the given lags; whole days reach further than the 20 of ``CURVES``."""
    size = _unit(np.abs(w.returns), w)
    return Pool.build(ac.correlation_sums(size, size, lags), w, ac.correlation)


def _acf_absolute(w: Windows) -> Pool:
    return absolute_pool(w, _lags(20))


def _acf_absolute_within(w: Windows) -> Pool:
    return Pool.build(ac.within_sums(np.abs(w.returns), _lags(5)), w, ac.within_correlation)


def _kurtosis(w: Windows) -> Pool:
    sums = tails.aggregated_moment_sums(w.returns, PERIODS, limit=KURTOSIS_LIMIT, scale=_returns_scale(w))
    return Pool.build(sums, w, tails.excess_kurtosis)


def _skewness(w: Windows) -> Pool:
    sums = tails.aggregated_moment_sums(w.returns, PERIODS, limit=SKEWNESS_LIMIT, scale=_returns_scale(w))
    return Pool.build(sums, w, tails.skewness)


def _kurtosis_normalised(w: Windows, how: Seasonality | None = None) -> Pool:
    sums = np.zeros((w.starts, w.rollouts, len(PERIODS), 5))
    for j, d in enumerate(PERIODS):
        r = sliding_sum(w.returns, d)
        r = np.where(np.abs(r) < KURTOSIS_LIMIT, r, np.nan)
        if not r.shape[-1]:
            continue
        minute = w.minute[:, None] + np.arange(r.shape[-1])
        day, instrument = (np.broadcast_to(label[:, None], minute.shape) for label in (w.day, w.instrument))
        how = how or choose_seasonality(minute, day, instrument)
        for k in range(w.rollouts):
            sums[:, k, j] = tails.moment_sums(normalise(r[:, k], minute, w.day, w.instrument, how))
    return Pool.build(sums, w, tails.excess_kurtosis)


def _tail_xi(w: Windows) -> Pool:
    def thresholds(r: Floats) -> Floats:
        return np.stack([[tails.hill_thresholds(side * r[:, k]) for side in (-1, 1)] for k in range(r.shape[1])])

    u = per_instrument(w.returns, w, thresholds)  # [S, R, 2, F]
    sums = np.concatenate([tails.hill_sums(side * w.returns, u[:, :, i]) for i, side in enumerate((-1, 1))], axis=-2)
    return Pool.build(sums, w, tails.tail_xi)


def _fano(w: Windows) -> Pool:
    threshold = per_instrument(
        w.returns, w, lambda r: np.array([extreme_threshold(r[:, k]) for k in range(r.shape[1])])
    )
    return Pool.build(count_sums(w.returns, threshold), w, fano)


def _leverage(w: Windows) -> Pool:
    # |r| enters uncentred: returns are only scaled, the correlation centres both
    return Pool.build(leverage_sums(w.returns / _returns_scale(w)[..., None], _lags(20)), w, ac.correlation)


def _volume_volatility(w: Windows) -> Pool:
    sums = volume_volatility_sums(_unit(w.volume, w), w.returns / _returns_scale(w)[..., None], _lags(20, 0))
    return Pool.build(sums, w, ac.correlation)


def _timescales(w: Windows) -> Pool:
    return Pool.build(timescale_sums(w.returns / _returns_scale(w)[..., None], _lags(10, -10)), w, ac.correlation)


_LAG, _PERIOD = "lag (minutes)", "return period (minutes)"
CURVES: Mapping[str, Curve] = {
    "autocorrelation_last": Curve("Autocorrelation of returns (last price)", _LAG, "correlation", _lags(10), _acf_last),
    "autocorrelation_mean": Curve("Autocorrelation of returns (mean price)", _LAG, "correlation", _lags(10), _acf_mean),
    "autocorrelation_within": Curve(
        "Autocorrelation of returns, within windows", _LAG, "correlation net of shuffle", _lags(5), _acf_last_within
    ),
    "tail_xi": Curve("Hill tail index, left and right tail", "tail", "1 / alpha", _lags(6), _tail_xi),
    "skewness": Curve("Skewness of returns", _PERIOD, "skewness", PERIODS, _skewness),
    "kurtosis": Curve("Kurtosis of returns", _PERIOD, "excess kurtosis", PERIODS, _kurtosis),
    "fano": Curve("Fano factor of extreme returns", "", "variance / mean of counts", (1,), _fano),
    "absolute_within": Curve(
        "Autocorrelation of |returns|, within windows",
        _LAG,
        "correlation net of shuffle",
        _lags(5),
        _acf_absolute_within,
    ),
    "kurtosis_normalised": Curve(
        "Kurtosis of returns normalised by time of day", _PERIOD, "excess kurtosis", PERIODS, _kurtosis_normalised
    ),
    "absolute_autocorrelation": Curve("Autocorrelation of |returns|", _LAG, "correlation", _lags(20), _acf_absolute),
    "leverage": Curve("Return and later |return|", _LAG, "correlation", _lags(20), _leverage),
    "volume_volatility": Curve("Volume and later |return|", _LAG, "correlation", _lags(20, 0), _volume_volatility),
    "timescales": Curve("Fine and later coarse volatility", _LAG, "correlation", _lags(10, -10), _timescales),
}


@dataclass(frozen=True)
class Fact:
    """How one fact is scored."""

    key: str
    title: str
    curve: str
    """Name of the scored curve in ``CURVES``."""
    part: Callable[[Floats], Floats]
    """The compared part of the curve, ``[..., L] -> [..., P]``, scaled so that differences weigh alike."""
    statistic: Callable[[Floats], Floats]
    """One number from ``statistic_curve``, ``[..., L] -> [...]``."""
    statistic_name: str
    temporal: bool
    """Whether the order of minutes matters: then the floor is the shuffle, else the frozen generator."""
    statistic_curve: str


def _fact(
    key: str, title: str, curve: str, statistic: Callable[[Floats], Floats], name: str, *, temporal: bool,
    part: Callable[[Floats], Floats] = lambda c: c, of: str | None = None,
) -> Fact:  # fmt: skip
    return Fact(key, title, curve, part, statistic, name, temporal, of or curve)


def _delta(curve: Floats) -> Floats:
    return asymmetry(curve, _lags(10, -10), _lags(10, 5))


FACTS: tuple[Fact, ...] = (
    _fact("01_absence_of_autocorrelation", "Absence of autocorrelations", "autocorrelation_within",
          lambda c: c[..., 0], "autocorrelation at lag 1, last price", temporal=True, of="autocorrelation_last"),
    _fact("02_heavy_tails", "Heavy tails", "tail_xi", lambda c: c[..., 0],
          "excess kurtosis of 1-minute returns", temporal=False, of="kurtosis"),
    _fact("03_gain_loss_asymmetry", "Gain/loss asymmetry", "skewness", lambda c: c[..., 0],
          "skewness of 1-minute returns", temporal=False),
    _fact("04_aggregational_gaussianity", "Aggregational Gaussianity", "kurtosis", lambda c: c[..., 0] - c[..., 19],
          "excess kurtosis, 1 minute less 20 minutes", temporal=True, part=np.arcsinh),
    _fact("05_intermittency", "Intermittency", "fano", lambda c: c[..., 0], "Fano factor", temporal=True,
          part=lambda c: np.log(np.maximum(c, 1e-3))),
    _fact("06_volatility_clustering", "Volatility clustering", "absolute_within", lambda c: c.mean(axis=-1),
          "autocorrelation of |r| net of shuffle, mean of lags 1-5", temporal=True),
    _fact("07_conditional_heavy_tails", "Conditional heavy tails", "kurtosis_normalised", lambda c: c[..., 0],
          "excess kurtosis of 1-minute returns normalised by time of day", temporal=False, part=np.arcsinh),
    _fact("08_slow_decay_of_absolute_autocorrelation", "Slow decay of autocorrelation in absolute returns",
          "absolute_autocorrelation", lambda c: power_law_exponent(c, _lags(20)), "power-law exponent, lags 1-20",
          temporal=True),
    _fact("09_leverage_effect", "Leverage effect", "leverage", lambda c: c[..., :10].mean(axis=-1),
          "corr(r, later |r|), mean of lags 1-10", temporal=True),
    _fact("10_volume_volatility_correlation", "Volume/volatility correlation", "volume_volatility",
          lambda c: c[..., 1:].mean(axis=-1), "corr(V, later |r|), mean of lags 1-20", temporal=True,
          part=lambda c: c[..., 1:]),
    _fact("11_asymmetry_in_timescales", "Asymmetry in timescales", "timescales", lambda c: _delta(c).mean(axis=-1),
          "rho(lag) - rho(-lag), mean of lags 5-10", temporal=True, part=_delta),
)  # fmt: skip


def distance(a: Floats, b: Floats) -> Floats:
    """Mean absolute difference over the lags that both have, ``[...]``; NaN without a common lag."""
    ok = np.isfinite(a) & np.isfinite(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.where(ok, np.abs(np.where(ok, a, 0) - np.where(ok, b, 0)), 0).sum(axis=-1) / ok.sum(axis=-1)
        )
