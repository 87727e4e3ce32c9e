"""The eleven stylized facts on whole trading days: one number each, its interval, and whether it holds.

Full sessions carry what 25-minute windows cannot: long lags, long periods, the time of day. Curves are
those of ``marsbench.stats.facts`` (days pooled within an instrument, averaged over instruments). "d" marks
returns and volume divided by the root mean square of their time of day. Resampled are instrument-days.

A criterion is a region: a number meets it when its whole 95% interval lies inside, misses it when the
interval lies wholly outside, and is inconclusive otherwise. That is an equivalence test where the region
is a band around zero, and a one-sided test where it is a half line.

Known failure: the pattern of the time of day is estimated, and neighbouring minutes share the error, so
deseasonalised iid returns cluster a little (heavy-tailed ones more). Fact 6 is therefore judged net of
days shuffled minute by minute, which share the error; the deseasonalised kurtosis of fact 7 is a little too high.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from marsbench.stats import tails
from marsbench.stats.bootstrap import RESAMPLES, cluster_interval
from marsbench.stats.clustering import power_law_against_exponential, power_law_exponent
from marsbench.stats.facts import CURVES, absolute_pool
from marsbench.stats.nulls import shuffle_over_days
from marsbench.stats.pooling import Pool
from marsbench.stats.sessions import Sessions, about_an_hour, deseasonalised, sliced
from marsbench.stats.signature import variance_ratio, variance_sums
from marsbench.stats.timescales import asymmetry
from marsbench.stats.windows import Windows

Floats = NDArray[np.float64]

HOLDS, ABSENT, FAILS, INCONCLUSIVE = "holds", "absent", "fails", "inconclusive"

LONG_LAGS = tuple(range(1, 101))
FIT_LAGS = tuple(int(k) for k in np.unique(np.round(np.geomspace(1, 100, 30))))
"""Lags through which the decay of |r| is fitted: equal weight for every stretch of the logarithm."""
SIGNATURE = tuple(range(1, 61))
WINDOW_MINUTES = 25
SHUFFLES = 8
"""Different shuffles behind a null."""
BOUND = 0.05
"""A correlation below this is none (fact 1)."""
LEVERAGE_BOUND = 0.03
"""A mean correlation of r and later |r| below this is no leverage: GJR returns of stocks show more."""
SKEW_BOUND = 0.3
"""A skewness below this is no gain/loss asymmetry: heavy tails alone throw it by a tenth or two."""

_INF = float("inf")


@dataclass(frozen=True)
class Estimate:
    """A number (or several that share a criterion) with its 95% interval; NaN where there is none."""

    value: Floats
    low: Floats
    high: Floats
    method: str | None
    """How the interval was made; None where there is none."""

    def verdict(self, region: tuple[float, float]) -> str:
        """``HOLDS``, ``FAILS`` or ``INCONCLUSIVE``; all of several numbers must meet the region."""
        low, high = np.atleast_1d(self.low), np.atleast_1d(self.high)
        if not np.isfinite(low + high).all():
            return INCONCLUSIVE
        if ((low > region[0]) & (high < region[1])).all():
            return HOLDS
        return FAILS if ((high <= region[0]) | (low >= region[1])).any() else INCONCLUSIVE

    def summary(self) -> tuple[float, float, float]:
        """Value, low and high; of several numbers the value largest in size, and the hull of the intervals."""
        value = np.atleast_1d(self.value)
        worst = value[np.nanargmax(np.abs(value))] if np.isfinite(value).any() else np.nan
        return float(worst), float(np.min(self.low)), float(np.max(self.high))


@dataclass(frozen=True)
class Row:
    """One printed number of a fact."""

    key: str
    label: str
    curve: str
    """Name of the pool it is taken from (``pools``); two, joined by " - ", are a difference."""
    statistic: Callable[[Floats], Floats]
    region: tuple[float, float] | None = None
    """What its interval has to lie inside; None for a number that is only printed."""
    decides: bool = True
    """Whether the verdict of the fact depends on it."""


@dataclass(frozen=True)
class SessionFact:
    """A fact, its criterion in words, and its numbers."""

    number: int
    title: str
    criterion: str
    rows: tuple[Row, ...]
    expected_absent: bool = False


def _at(*index: int) -> Callable[[Floats], Floats]:
    return lambda c: c[..., list(index)] if len(index) > 1 else c[..., index[0]]


def _mean(first: int, last: int) -> Callable[[Floats], Floats]:
    """Mean of the entries first to last, inclusive."""
    return lambda c: c[..., first : last + 1].mean(axis=-1)


def _alpha(curve: Floats) -> Floats:
    """Hill's alpha at 2.5%: entries 1 and 4 are the left and the right tail."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 / (curve[..., 1] + curve[..., 4]))


def _fitted(function: Callable[..., Floats]) -> Callable[[Floats], Floats]:
    index = [k - 1 for k in FIT_LAGS]
    return lambda c: function(c[..., index], FIT_LAGS)


def _fall(curve: Floats) -> Floats:
    return np.asarray(curve[..., 0] - curve[..., 19])


def _delta(curve: Floats) -> Floats:
    return np.asarray(asymmetry(curve, tuple(range(-10, 11)), tuple(range(5, 11))).mean(axis=-1))


_POSITIVE, _NEGATIVE = (0.0, _INF), (-_INF, 0.0)

FACTS: tuple[SessionFact, ...] = (
    SessionFact(1, "Absence of autocorrelations", f"|correlation| < {BOUND} at lags 2-10", (
        Row("acf_2_10", "largest correlation, lags 2-10", "acf", lambda c: c[..., 1:10], (-BOUND, BOUND)),
        Row("acf_1", "correlation at lag 1", "acf", _at(0)),
        Row("acf_mid_1", "correlation at lag 1, mid price", "acf_mid", _at(0)),
    )),
    SessionFact(2, "Heavy tails", "excess kurtosis > 0 and Hill's alpha in (2, 5)", (
        Row("kurtosis_1", "excess kurtosis, 1 minute", "kurtosis", _at(0), _POSITIVE),
        Row("hill", "Hill's alpha, 2.5%, both tails", "tails", _alpha, (2.0, 5.0)),
    )),
    SessionFact(3, "Gain/loss asymmetry", f"absent: |skewness| < {SKEW_BOUND}", (
        Row("skewness", "skewness, 1 minute", "skewness", _at(0), (-SKEW_BOUND, SKEW_BOUND)),
    ), expected_absent=True),
    SessionFact(4, "Aggregational Gaussianity", "kurtosis at 1 minute > at 20 minutes", (
        Row("kurtosis_fall", "excess kurtosis, 1 less 20 minutes", "kurtosis", _fall, _POSITIVE),
        Row("kurtosis_5", "excess kurtosis, 5 minutes", "kurtosis", _at(4)),
        Row("kurtosis_20", "excess kurtosis, 20 minutes", "kurtosis", _at(19)),
    )),
    SessionFact(5, "Intermittency", "Fano factor of extremes per hour > 1, also deseasonalised", (
        Row("fano", "Fano factor", "fano", _at(0), (1.0, _INF)),
        Row("fano_d", "Fano factor, d", "fano_d", _at(0), (1.0, _INF)),
    )),
    SessionFact(6, "Volatility clustering", "autocorrelation of |r| > 0, also d, also within 25 minutes", (
        Row("absolute", "mean correlation of |r|, lags 1-20", "absolute", _mean(0, 19), _POSITIVE),
        Row("absolute_d", "mean correlation of |r|, lags 1-20, d", "absolute_d", _mean(0, 19)),
        Row("absolute_d_net", "the same less that of days shuffled minute by minute", "absolute_d - absolute_null",
            _mean(0, 19), _POSITIVE),
        Row("within", "within 25 minutes less shuffle, lags 1-3", "within", _mean(0, 2), _POSITIVE),
    )),
    SessionFact(7, "Conditional heavy tails", "kurtosis d > 0 and below raw", (
        Row("kurtosis_d", "excess kurtosis, d", "kurtosis_d", _at(0), _POSITIVE),
        Row("kurtosis_raw_less_d", "excess kurtosis, raw less d", "kurtosis - kurtosis_d", _at(0), _POSITIVE),
        Row("hill_d", "Hill's alpha, 2.5%, d", "tails_d", _alpha),
        Row("kurtosis_garch", "excess kurtosis of GARCH(1,1) residuals, d", "kurtosis_garch", _at(0), _POSITIVE, False),
        Row("kurtosis_d_less_garch", "excess kurtosis, d less GARCH residuals", "kurtosis_d - kurtosis_garch", _at(0),
            _POSITIVE, False),
    )),
    SessionFact(8, "Slow decay of autocorrelation of |r|", "power-law exponent, lags 1-100, in [.2, .4]", (
        Row("beta", "beta of lag^-beta, d", "absolute_d", _fitted(power_law_exponent), (0.2, 0.4)),
        Row("beta_aic", "AIC, power law less exponential, d", "absolute_d", _fitted(power_law_against_exponential),
            _NEGATIVE, False),
        Row("beta_raw", "beta of lag^-beta, raw", "absolute", _fitted(power_law_exponent)),
    )),
    SessionFact(9, "Leverage effect", f"absent: |mean correlation of r and later |r|| < {LEVERAGE_BOUND}", (
        Row("leverage", "mean corr(r, later |r|), lags 1-10", "leverage", _mean(0, 9),
            (-LEVERAGE_BOUND, LEVERAGE_BOUND)),
    ), expected_absent=True),
    SessionFact(10, "Volume/volatility correlation", "corr(V, |r|) d > 0 at lag 0 and at lags 1-10", (
        Row("volume_0_d", "corr(V, |r|), lag 0, d", "volume_d", _at(0), _POSITIVE),
        Row("volume_1_10_d", "mean corr(V, later |r|), lags 1-10, d", "volume_d", _mean(1, 10), _POSITIVE),
        Row("volume_0", "corr(V, |r|), lag 0, raw", "volume", _at(0)),
    )),
    SessionFact(11, "Asymmetry in timescales", "rho(lag) - rho(-lag) < 0 at lags 5-10, also d", (
        Row("delta", "mean difference, lags 5-10", "timescales", _delta, _NEGATIVE),
        Row("delta_d", "mean difference, lags 5-10, d", "timescales_d", _delta, _NEGATIVE),
    )),
)  # fmt: skip

SIGNATURE_ROWS = tuple(
    Row(
        f"ratio_{source}_{d}", f"variance ratio, {source} price, {d} minutes", f"signature_{source}", _at(d - 1), region
    )
    for source, region in (("mid", (0.8, 1.1)), ("last", None))
    for d in (5, 20, 60)
)


def pools(sessions: Sessions, *, garch: bool = True) -> dict[str, Pool]:
    """Every curve of the facts, kept as sums by instrument-day."""
    raw = sessions.windows
    d = deseasonalised(raw)
    hour = about_an_hour(raw.returns.shape[-1])
    mid = replace(raw, returns=sessions.mid_returns)
    null = shuffle_over_days(raw, SHUFFLES, np.random.default_rng(0))
    found = {
        "acf": CURVES["autocorrelation_last"].pool(raw),
        "acf_mid": CURVES["autocorrelation_last"].pool(mid),
        "kurtosis": CURVES["kurtosis"].pool(raw),
        "kurtosis_d": CURVES["kurtosis_normalised"].pool(raw),
        "tails": CURVES["tail_xi"].pool(raw),
        "tails_d": CURVES["tail_xi"].pool(d),
        "skewness": CURVES["skewness"].pool(raw),
        "fano": CURVES["fano"].pool(sliced(raw, hour)),
        "fano_d": CURVES["fano"].pool(sliced(d, hour)),
        "absolute": absolute_pool(raw, LONG_LAGS),
        "absolute_d": absolute_pool(d, LONG_LAGS),
        "absolute_null": absolute_pool(deseasonalised(null), LONG_LAGS[:20]),
        "within": CURVES["absolute_within"].pool(sliced(raw, WINDOW_MINUTES)),
        "leverage": CURVES["leverage"].pool(raw),
        "volume": CURVES["volume_volatility"].pool(raw),
        "volume_d": CURVES["volume_volatility"].pool(d),
        "timescales": CURVES["timescales"].pool(raw),
        "timescales_d": CURVES["timescales"].pool(d),
        "signature_mid": _signature(mid),
        "signature_last": _signature(raw),
    }
    if garch:
        found["kurtosis_garch"] = Pool.build(
            tails.moment_sums(garch_residuals(d))[..., None, :], raw, tails.excess_kurtosis
        )
    return found


def _signature(w: Windows) -> Pool:
    scale = float(np.nanmax(np.abs(w.returns))) if np.isfinite(w.returns).any() else 1.0
    return Pool.build(variance_sums(w.returns / (scale or 1.0), SIGNATURE), w, variance_ratio)


def garch_residuals(w: Windows) -> Floats:
    """Returns over their GARCH(1,1) deviation, fitted per instrument over its days in order, ``[D, 1, M]``.

    Quasi-maximum likelihood with Gaussian innovations; overnight the variance goes on as if there were no
    night. All NaN for an instrument with fewer than 100 returns or constant ones.
    """
    from arch import arch_model

    out = np.full_like(w.returns, np.nan)
    for i in np.unique(w.instrument):
        of_it = w.instrument == i
        r = w.returns[of_it]
        ok = ~np.isnan(r)
        spread = float(r[ok].std()) if ok.any() else 0.0
        if ok.sum() < 100 or spread == 0:
            continue
        fit = arch_model(r[ok] / spread, mean="Zero", vol="GARCH", rescale=False).fit(disp="off", show_warning=False)
        part = np.full_like(r, np.nan)
        part[ok] = np.asarray(fit.std_resid)
        out[of_it] = part
    return out


def estimate(found: Mapping[str, Pool], row: Row, rng: np.random.Generator, *, resamples: int = RESAMPLES) -> Estimate:
    """The number of a row, with its interval over instrument-days."""
    parts = [found[name] for name in row.curve.split(" - ")]

    def statistic(weights: Floats) -> Floats:
        first, *rest = (row.statistic(p.curve(weights)) for p in parts)
        return np.asarray(first - rest[0] if rest else first)

    clusters = parts[0].clusters
    interval = cluster_interval(statistic, clusters, rng, resamples=resamples, what="instrument-days")
    value = statistic(np.ones((1, clusters)))[0]
    return Estimate(np.asarray(value), np.asarray(interval.low), np.asarray(interval.high), interval.method)


def session_facts(
    sessions: Sessions, *, seed: int = 0, resamples: int = RESAMPLES, garch: bool = True
) -> dict[str, Estimate]:
    """Every number of ``FACTS`` and ``SIGNATURE_ROWS`` by key. ``garch=False`` leaves out the slow fit."""
    found = pools(sessions, garch=garch)
    rng = np.random.default_rng(seed)
    rows = [row for fact in FACTS for row in fact.rows] + list(SIGNATURE_ROWS)
    wanted = [row for row in rows if all(name in found for name in row.curve.split(" - "))]
    return {row.key: estimate(found, row, rng, resamples=resamples) for row in wanted}


def fact_verdict(fact: SessionFact, estimates: Mapping[str, Estimate]) -> str:
    """``HOLDS`` (``ABSENT`` for a fact that should be), ``FAILS`` or ``INCONCLUSIVE``: the worst of its rows."""
    found = [estimates[row.key].verdict(row.region) for row in fact.rows if row.decides and row.region is not None]
    if FAILS in found:
        return FAILS
    if INCONCLUSIVE in found:
        return INCONCLUSIVE
    return ABSENT if fact.expected_absent else HOLDS
