"""The eleven stylized facts as properties with verdicts: their numbers, margins, and the two forms of each.

Curves are those of ``marsbench.stats.facts`` (windows pooled within an instrument, averaged over
instruments). The paper's form is what appendix I of MarS looks at. The strict form adds what keeps a property
from being manufactured: the time of day taken off ("d"), shuffles, windows that keep their own volatility,
winsorised moments. Long windows (whole sessions) carry what 25-minute windows cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.clustering import power_law_against_exponential, power_law_exponent
from marsbench.stats.fact_pools import FactPools
from marsbench.stats.pooling import Pool
from marsbench.stats.sessions import Sessions
from marsbench.stats.timescales import asymmetry
from marsbench.stats.verdicts import PAPER, STRICT, Estimate, Property, Region, Row, jackknife

Floats = NDArray[np.float64]

FIT_LAGS = tuple(int(k) for k in np.unique(np.round(np.geomspace(1, 100, 30))))
"""Lags through which the decay of |r| is fitted: equal weight for every stretch of the logarithm."""
LONG = 200
"""Minutes of a window that is nearly a session: shorter ones carry neither lags of 100 nor counts by the hour."""
BOUND = 0.05
"""A correlation below this is none (fact 1)."""
KURTOSIS = 0.25
"""A winsorised excess kurtosis below this is a Gaussian's."""
SKEW_BOUND = 0.3
"""A winsorised skewness below this is no gain/loss asymmetry."""
FANO = 1.2
"""A variance of counts less than so many means is a Poisson process's."""
CLUSTERING = 0.01
"""A mean correlation of |r| and later |r| below this is no clustering."""
WITHIN = 0.02
"""The same within 25 minutes at lags 1-3, where the noise of the time of day that is taken off clusters too."""
LEVERAGE = 0.015
"""A mean correlation of r and later |r| above minus this is no leverage: GJR returns of stocks show -.04."""
VOLUME = 0.02
"""A correlation of volume and |r| below this is none."""
TIMESCALES = 0.005
"""A mean difference above minus this is no asymmetry."""

_INF = float("inf")
_LOG_FANO = float(np.log(FANO))


def _above(bound: float) -> Region:
    return ((bound, _INF),)


def _below(bound: float) -> Region:
    return ((-_INF, bound),)


def _band(bound: float) -> Region:
    return ((-bound, bound),)


def _beyond(low: float, high: float) -> Region:
    return ((-_INF, low), (high, _INF))


def _at(index: int) -> Callable[[Floats], Floats]:
    return lambda c: c[..., index]


def _log(curve: Floats) -> Floats:
    """Logarithm of the first entry: a variance ratio is skewed, its logarithm is nearly Gaussian."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(curve[..., 0]))


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


def _winsorised_fall(curve: Floats) -> Floats:
    """One minute less the mean of 10 to 20 minutes (``WINSORISED_PERIODS``)."""
    return np.asarray(curve[..., 0] - curve[..., 1:].mean(axis=-1))


def _delta(curve: Floats) -> Floats:
    return np.asarray(asymmetry(curve, tuple(range(-10, 11)), tuple(range(5, 11))).mean(axis=-1))


_P, _S, _BOTH = (PAPER,), (STRICT,), (PAPER, STRICT)

FACTS: tuple[Property, ...] = (
    Property(1, "01_absence_of_autocorrelation", "Absence of autocorrelations", f"|correlation| < {BOUND}, lags 2-10; "
             "within 25 minutes that of lags 2-3", (
        Row("acf_2_10", "largest correlation, lags 2-10", "acf", lambda c: c[..., 1:10], _band(BOUND),
            _beyond(-BOUND, BOUND), _P),
        Row("acf_long", "largest correlation, lags 2-10, sessions", "acf", lambda c: c[..., 1:10], _band(BOUND),
            _beyond(-BOUND, BOUND), _S, LONG),
        Row("acf_within", "within 25 minutes less shuffle, mean of lags 2-3, d", "acf_within", _mean(1, 2),
            _band(BOUND), _beyond(-BOUND, BOUND), _S),
        Row("acf_1", "correlation at lag 1", "acf", _at(0)),
        Row("acf_mid_1", "correlation at lag 1, mid price", "acf_mid", _at(0)),
    ), "acf_within", 0.05),
    Property(2, "02_heavy_tails", "Heavy tails", f"winsorised kurtosis > {KURTOSIS}, also within 25 minutes; "
             "Hill's alpha in (2, 5)", (
        Row("kurtosis_1", "excess kurtosis, 1 minute", "kurtosis", _at(0), _above(0), _below(KURTOSIS), _P),
        Row("winsorised_1", "winsorised excess kurtosis, 1 minute", "winsorised", _at(0), _above(KURTOSIS),
            _below(KURTOSIS), _S),
        Row("kurtosis_within", "excess kurtosis within 25 minutes, d", "kurtosis_within", _at(0),
            _above(KURTOSIS), _below(KURTOSIS), _S),
        Row("hill", "Hill's alpha, 2.5%, both tails", "tails", _alpha, ((2.0, 5.0),), _beyond(2.0, 5.0), _S),
    ), "kurtosis_within", 0.25),
    Property(3, "03_gain_loss_asymmetry", "Gain/loss asymmetry", f"winsorised skewness beyond {SKEW_BOUND}", (
        Row("skewness", "skewness, 1 minute", "skewness", _at(0), _beyond(-SKEW_BOUND, SKEW_BOUND),
            _band(SKEW_BOUND), _P),
        Row("winsorised_skewness", "winsorised skewness, 1 minute", "winsorised_skewness", _at(0),
            _beyond(-SKEW_BOUND, SKEW_BOUND), _band(SKEW_BOUND), _S),
    ), "winsorised_skewness", 0.3, expected_absent=True),
    Property(4, "04_aggregational_gaussianity", "Aggregational Gaussianity", f"winsorised kurtosis d, 1 minute less "
             f"10-20 minutes > {KURTOSIS}", (
        Row("kurtosis_fall", "excess kurtosis, 1 less 20 minutes", "kurtosis", _fall, _above(0), _below(KURTOSIS), _P),
        Row("winsorised_fall_d", "winsorised and d, 1 less mean of 10-20 minutes", "winsorised_d", _winsorised_fall,
            _above(KURTOSIS), _below(KURTOSIS), _S, LONG),
        Row("kurtosis_5", "excess kurtosis, 5 minutes", "kurtosis", _at(4)),
        Row("kurtosis_20", "excess kurtosis, 20 minutes", "kurtosis", _at(19)),
    ), "winsorised_fall_d", 1.0),
    Property(5, "05_intermittency", "Intermittency", f"Fano factor of extremes per hour > {FANO} (in logarithms), "
             "raw and d", (
        Row("fano", "log of the Fano factor", "fano", _log, _above(_LOG_FANO), _below(_LOG_FANO), _BOTH, LONG),
        Row("fano_d", "log of the Fano factor, d", "fano_d", _log, _above(_LOG_FANO), _below(_LOG_FANO), _S, LONG),
    ), "fano_d", 0.3),
    Property(6, "06_volatility_clustering", "Volatility clustering", f"correlation of |r| d less shuffle > "
             f"{CLUSTERING}, within 25 minutes > {WITHIN}", (
        Row("absolute", "mean correlation of |r|, lags 1-20", "absolute", _mean(0, 19), _above(CLUSTERING),
            _below(CLUSTERING), _P),
        Row("absolute_d", "mean correlation of |r|, lags 1-20, d", "absolute_d", _mean(0, 19)),
        Row("absolute_d_net", "mean correlation of |r| d, less shuffled days", "absolute_d - absolute_null",
            _mean(0, 19), _above(CLUSTERING), _below(CLUSTERING), _S, LONG),
        Row("within", "within 25 minutes less shuffle, lags 1-3, d", "within", _mean(0, 2), _above(WITHIN),
            _below(WITHIN), _S),
    ), "within", 0.03),
    Property(7, "07_conditional_heavy_tails", "Conditional heavy tails", f"winsorised kurtosis of GARCH residuals d "
             f"> {KURTOSIS} and below raw", (
        Row("kurtosis_d", "excess kurtosis, d", "kurtosis_d", _at(0), _above(0), _below(KURTOSIS), _P),
        Row("winsorised_d", "winsorised kurtosis, d", "winsorised_d", _at(0)),
        Row("winsorised_garch", "winsorised kurtosis of GARCH(1,1) residuals, d", "winsorised_garch", _at(0),
            _above(KURTOSIS), _below(KURTOSIS), _S, LONG),
        Row("raw_less_garch", "winsorised kurtosis, raw less GARCH residuals", "winsorised - winsorised_garch",
            _at(0), _above(0), None, _S, LONG),
        Row("hill_d", "Hill's alpha, 2.5%, d", "tails_d", _alpha),
    ), "winsorised_garch", 1.0),
    Property(8, "08_slow_decay_of_absolute_autocorrelation", "Slow decay of autocorrelation of |r|", "power-law "
             "exponent of d, lags 1-100, in (.2, .4), and a better fit than an exponential", (
        Row("beta_raw", "beta of lag^-beta", "absolute", _fitted(power_law_exponent), ((0.2, 0.4),),
            _beyond(0.2, 0.4), _P, LONG),
        Row("beta", "beta of lag^-beta, d", "absolute_d", _fitted(power_law_exponent), ((0.2, 0.4),),
            _beyond(0.2, 0.4), _S, LONG),
        Row("beta_aic", "AIC, power law less exponential, d", "absolute_d", _fitted(power_law_against_exponential),
            _below(0), _above(0), _S, LONG),
    ), "beta", 0.15),
    Property(9, "09_leverage_effect", "Leverage effect", f"mean correlation of r and later |r| < -{LEVERAGE}", (
        Row("leverage", "mean corr(r, later |r|), lags 1-10", "leverage", _mean(0, 9), _below(-LEVERAGE),
            _above(-LEVERAGE), _BOTH),
    ), "leverage", 0.03, expected_absent=True),
    Property(10, "10_volume_volatility_correlation", "Volume/volatility correlation", f"corr(V, |r|) d > {VOLUME} at "
             "lag 0 and at lags 1-10", (
        Row("volume_1_10", "mean corr(V, later |r|), lags 1-10", "volume", _mean(1, 10), _above(VOLUME),
            _below(VOLUME), _P),
        Row("volume_0_d", "corr(V, |r|), lag 0, d", "volume_d", _at(0), _above(VOLUME), _below(VOLUME), _S),
        Row("volume_1_10_d", "mean corr(V, later |r|), lags 1-10, d", "volume_d", _mean(1, 10), _above(VOLUME),
            _below(VOLUME), _S),
        Row("volume_0", "corr(V, |r|), lag 0", "volume", _at(0)),
    ), "volume_1_10_d", 0.1),
    Property(11, "11_asymmetry_in_timescales", "Asymmetry in timescales", f"rho(lag) - rho(-lag) < -{TIMESCALES} at "
             "lags 5-10, raw and d", (
        Row("delta", "mean difference, lags 5-10", "timescales", _delta, _below(-TIMESCALES), _above(-TIMESCALES),
            _BOTH),
        Row("delta_d", "mean difference, lags 5-10, d", "timescales_d", _delta, _below(-TIMESCALES),
            _above(-TIMESCALES), _S),
    ), "delta_d", 0.05),
)  # fmt: skip

SIGNATURE_ROWS = tuple(
    Row(
        f"ratio_{source}_{d}", f"variance ratio, {source} price, {d} minutes", f"signature_{source}", _at(d - 1), region
    )
    for source, region in (("mid", ((0.8, 1.1),)), ("last", None))
    for d in (5, 20, 60)
)  # fmt: skip


def estimate(found: Mapping[str, Pool], row: Row, other: Mapping[str, Pool] | None = None) -> Estimate:
    """The number of a row with its jackknife error over clusters; with ``other``, how much it is above that of other.

    Both must have the same clusters, which are left out together: a paired difference.
    """

    def value(pools: Mapping[str, Pool], weights: Floats) -> Floats:
        first, *rest = (row.statistic(pools[name].curve(weights)) for name in row.curve.split(" - "))
        return np.asarray(first - rest[0] if rest else first)

    def statistic(weights: Floats) -> Floats:
        return value(found, weights) if other is None else value(found, weights) - value(other, weights)

    return jackknife(statistic, found[row.curve.split(" - ")[0]].clusters)


def wanted(found: Mapping[str, Pool], rows: tuple[Row, ...]) -> list[Row]:
    """The rows whose curves there are."""
    return [row for row in rows if all(name in found for name in row.curve.split(" - "))]


def session_facts(sessions: Sessions, *, garch: bool = True) -> dict[str, Estimate]:
    """Every number of ``FACTS`` and ``SIGNATURE_ROWS`` by key. ``garch=False`` leaves out the slow fit."""
    found = FactPools(sessions.windows, sessions.mid_returns, garch=garch)
    rows = tuple(row for fact in FACTS for row in fact.rows) + SIGNATURE_ROWS
    return {row.key: estimate(found, row) for row in wanted(found, rows)}
