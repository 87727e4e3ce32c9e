"""The curves behind the verdicts on stylized facts, for windows of any length: made when asked for, and once.

"d" marks returns and volume divided by the root mean square of their time of day. ``winsorised`` kurtosis
and skewness cut standardised returns at ``CAP``: their plain forms are ruled by a handful of values (a
Student t of 5 degrees of freedom has no finite error of the kurtosis at all), so tests on them have no power.

Known failure: the pattern of the time of day is estimated, and neighbouring minutes share the error, so
deseasonalised iid returns cluster a little (heavy-tailed ones more). Fact 6 is therefore judged net of
days shuffled minute by minute, which share the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from marsbench.stats import autocorrelation as ac
from marsbench.stats import tails
from marsbench.stats.facts import CURVES, absolute_pool
from marsbench.stats.nulls import shuffle_over_days
from marsbench.stats.pooling import Pool, per_instrument
from marsbench.stats.sessions import about_an_hour, deseasonalised, sliced
from marsbench.stats.signature import variance_ratio, variance_sums
from marsbench.stats.windows import Windows, sliding_sum

Floats = NDArray[np.float64]

LONG_LAGS = tuple(range(1, 101))
SIGNATURE = tuple(range(1, 61))
WINDOW_MINUTES = 25
SHUFFLES = 8
"""Different shuffles behind a null."""
CAP = 5.0
"""Winsorised returns are cut at so many standard deviations."""
WINSORISED_PERIODS = (1, *range(10, 21))
"""Minutes of the returns whose winsorised kurtosis is taken: one, and the long ones that should be Gaussian."""


class FactPools(Mapping[str, Pool]):
    """Every curve of the facts by name, kept as sums by cluster.

    Parameters
    ----------
    windows
        Whole days, or shorter windows.
    mid_returns
        ``[S, R, M]`` log returns of the mid price; without them the curves of the mid are missing.
    garch
        Whether there is the slow fit behind ``kurtosis_garch``.
    """

    def __init__(self, windows: Windows, mid_returns: Floats | None = None, *, garch: bool = True) -> None:
        self._raw = windows
        self._mid = None if mid_returns is None else replace(windows, returns=mid_returns)
        self._made: dict[str, Pool] = {}
        self._makers = self._table(garch)

    def __getitem__(self, name: str) -> Pool:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # without making it

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    @property
    def minutes(self) -> int:
        """Length of the windows."""
        return int(self._raw.returns.shape[-1])

    @cached_property
    def _d(self) -> Windows:
        return deseasonalised(self._raw)

    @cached_property
    def _short_d(self) -> Windows:
        return sliced(self._d, WINDOW_MINUTES)

    def _table(self, garch: bool) -> dict[str, Callable[[], Pool]]:
        hour = about_an_hour(self.minutes)

        def curve(name: str, of: Callable[[], Windows]) -> Callable[[], Pool]:
            return lambda: CURVES[name].pool(of())

        def raw() -> Windows:
            return self._raw

        def d() -> Windows:
            return self._d

        made: dict[str, Callable[[], Pool]] = {
            "acf": curve("autocorrelation_last", raw),
            "acf_within": curve("autocorrelation_within", lambda: self._short_d),
            "kurtosis": curve("kurtosis", raw),
            "kurtosis_d": curve("kurtosis_normalised", raw),
            "winsorised": lambda: winsorised_pool(self._raw, WINSORISED_PERIODS, tails.excess_kurtosis),
            "winsorised_d": lambda: winsorised_pool(self._d, WINSORISED_PERIODS, tails.excess_kurtosis),
            "kurtosis_within": lambda: within_kurtosis(self._short_d),
            "tails": curve("tail_xi", raw),
            "tails_d": curve("tail_xi", d),
            "skewness": curve("skewness", raw),
            "winsorised_skewness": lambda: winsorised_pool(self._raw, (1,), tails.skewness),
            "fano": lambda: CURVES["fano"].pool(sliced(self._raw, hour)),
            "fano_d": lambda: CURVES["fano"].pool(sliced(self._d, hour)),
            "absolute": lambda: absolute_pool(self._raw, LONG_LAGS),
            "absolute_d": lambda: absolute_pool(self._d, LONG_LAGS),
            "absolute_null": self._null,
            "within": curve("absolute_within", lambda: self._short_d),
            "leverage": curve("leverage", raw),
            "volume": curve("volume_volatility", raw),
            "volume_d": curve("volume_volatility", d),
            "timescales": curve("timescales", raw),
            "timescales_d": curve("timescales", d),
            "signature_last": lambda: signature_pool(self._raw),
        }
        if self._mid is not None:
            mid = self._mid
            made["acf_mid"] = curve("autocorrelation_last", lambda: mid)
            made["signature_mid"] = lambda: signature_pool(mid)
        if garch:
            made["winsorised_garch"] = lambda: winsorised_pool(
                replace(self._d, returns=garch_residuals(self._d)), (1,), tails.excess_kurtosis
            )
        return made

    def _null(self) -> Pool:
        null = shuffle_over_days(self._raw, SHUFFLES, np.random.default_rng(0))
        return absolute_pool(deseasonalised(null), LONG_LAGS[:20])


def winsorised_pool(w: Windows, periods: Sequence[int], finish: Callable[[Floats], Floats]) -> Pool:
    """Moments of d-minute returns cut at ``CAP`` root mean squares of their instrument (overlapping)."""
    sums = np.zeros((w.starts, w.returns.shape[1], len(periods), 5))

    def scale(r: Floats) -> Floats:
        known = r[~np.isnan(r)]
        return np.array([float(np.sqrt(np.mean(known**2))) if known.size else np.nan])

    for j, d in enumerate(periods):
        r = sliding_sum(w.returns, d)
        size = per_instrument(r, w, scale)[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            sums[:, :, j] = tails.moment_sums(np.clip(r / size, -CAP, CAP))
    return Pool.build(sums, w, finish)


def within_kurtosis(w: Windows) -> Pool:
    """Mean over windows of the fourth moment of the window's standardised returns, less its Gaussian value.

    Each window has its own scale, so windows of different volatility manufacture nothing. A Gaussian window of
    n values has the expectation 3 (n - 1) / (n + 1). Windows with a missing minute are left out.
    """
    n = w.returns.shape[-1]
    centred = w.returns - w.returns.mean(axis=-1, keepdims=True)
    square = (centred**2).mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        net = (centred**4).mean(axis=-1) / square**2 - 3 * (n - 1) / (n + 1)
    ok = np.isfinite(net) & (square > 0)
    sums = np.stack([np.where(ok, net, 0.0), ok.astype(np.float64)], axis=-1)[..., None, :]
    return Pool.build(sums, w, ac.within_correlation)


def signature_pool(w: Windows) -> Pool:
    """Variance ratios of the returns over 1 to 60 minutes."""
    scale = float(np.nanmax(np.abs(w.returns))) if np.isfinite(w.returns).any() else 1.0
    return Pool.build(variance_sums(w.returns / (scale or 1.0), SIGNATURE), w, variance_ratio)


def garch_residuals(w: Windows) -> Floats:
    """Returns over their GARCH(1,1) deviation, fitted per instrument over its windows in order, ``[S, R, M]``.

    Quasi-maximum likelihood with Gaussian innovations, one fit per instrument and rollout; from one window to
    the next the variance goes on as if nothing lay between. All NaN with fewer than 100 returns or constant ones.
    """
    from arch import arch_model

    out = np.full_like(w.returns, np.nan)
    for i in np.unique(w.instrument):
        of_it = np.flatnonzero(w.instrument == i)
        for k in range(w.returns.shape[1]):
            r = w.returns[of_it, k]
            ok = ~np.isnan(r)
            spread = float(r[ok].std()) if ok.any() else 0.0
            if ok.sum() < 100 or spread == 0:
                continue
            model = arch_model(r[ok] / spread, mean="Zero", vol="GARCH", rescale=False)
            part = np.full_like(r, np.nan)
            part[ok] = np.asarray(model.fit(disp="off", show_warning=False).std_resid)
            out[of_it, k] = part
    return out
