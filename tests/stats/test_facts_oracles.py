"""The stylized facts' statistics against processes whose answer is known. Tolerances are 4 standard errors."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.tsa.stattools import acf as statsmodels_acf

from marsbench.stats import autocorrelation as ac
from marsbench.stats import oracles, tails
from marsbench.stats.clustering import power_law_exponent
from marsbench.stats.deseasonalise import choose_seasonality, normalise
from marsbench.stats.facts import CURVES, FACTS, distance
from marsbench.stats.intermittency import count_sums, extreme_threshold, fano
from marsbench.stats.leverage import bouchaud_leverage
from marsbench.stats.nulls import shuffle_within_windows
from marsbench.stats.timescales import asymmetry
from marsbench.stats.windows import Windows, log_returns, sliding_sum


def windows(returns: np.ndarray, scale: float = 1e-4, **labels: np.ndarray) -> Windows:
    """Windows ``[S, T]`` of log returns, as prices."""
    steps = np.concatenate([np.zeros((len(returns), 1)), np.cumsum(scale * returns, axis=1)], axis=1)
    return Windows.from_prices(100 * np.exp(steps), **labels)


def curve(name: str, w: Windows) -> np.ndarray:
    return CURVES[name].pool(w).curve()[0]


def test_the_bid_ask_bounce_has_rolls_autocorrelation():
    rng = np.random.default_rng(1)
    c, s = 1.0, 2.0
    prices = oracles.roll_prices((400, 151), rng, sigma=s, half_spread=c)
    rho = curve("autocorrelation_last", windows(np.diff(prices)))
    n = 400 * 150
    assert rho[0] == pytest.approx(-(c**2) / (s**2 + 2 * c**2), abs=4 / sqrt(n))
    assert np.abs(rho[1:]).max() < 4.5 / sqrt(n)


def test_minute_means_of_a_random_walk_have_workings_quarter():
    means = oracles.working_means((50, 401), np.random.default_rng(2))
    w = Windows.from_prices(np.exp(1e-4 * means))
    assert curve("autocorrelation_mean", w)[0] == pytest.approx(0.25, abs=4 / sqrt(50 * 400))
    assert np.abs(curve("autocorrelation_mean", w)[1:]).max() < 4.5 * 1.2 / sqrt(50 * 400)


def test_the_long_series_acf_equals_statsmodels():
    x = oracles.garch((1, 40_000), np.random.default_rng(3))[0]
    np.testing.assert_allclose(ac.acf(np.abs(x), 50), statsmodels_acf(np.abs(x), nlags=50, fft=True), atol=1e-12)
    assert np.isnan(ac.acf(np.full(100, 0.1), 3)).all()
    with pytest.raises(ValueError, match="longer than"):
        ac.acf(x[:3], 3)


def test_pooled_correlation_equals_pandas_on_the_stacked_pairs():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 30, 25))
    x[3, 5], y[7, :4] = np.nan, np.nan
    for lag in (-3, 0, 4):
        pairs = [(x[s, t], y[s, t + lag]) for s in range(30) for t in range(25) if 0 <= t + lag < 25]
        expected = pd.DataFrame(pairs).dropna().corr().iloc[0, 1]
        assert ac.correlation(ac.correlation_sums(x, y, [lag]).sum(axis=0))[0] == pytest.approx(expected, abs=1e-12)


def test_squared_garch_returns_have_the_closed_form_autocorrelation():
    a, b = 0.08, 0.90
    rng = np.random.default_rng(5)
    rho = np.mean([ac.acf(r**2, 5)[1:] for r in oracles.garch((40, 20_000), rng)], axis=0)
    first = a * (1 - a * b - b * b) / (1 - 2 * a * b - b * b)
    # heavy tails of r^2 bias a sample down and make it noisy: .194 was measured for .205
    np.testing.assert_allclose(rho, first * (a + b) ** np.arange(5), atol=0.02)


def test_within_windows_the_shuffle_mean_is_taken_off():
    """iid returns of changing volatility: pooling manufactures clustering, the within-window version shows none."""
    rng = np.random.default_rng(6)
    r = np.exp(0.5 * rng.standard_normal((4000, 1))) * rng.standard_normal((4000, 25))
    w = windows(r)
    assert curve("absolute_autocorrelation", w)[[0, 9]] == pytest.approx(0.30, abs=0.05)
    assert np.abs(curve("absolute_within", w)).max() < 4.5 / sqrt(4000 * 20)
    assert curve("kurtosis", w)[0] == pytest.approx(3 * np.exp(1) - 3, abs=2.0)  # lognormal mixture: 5.15


def test_the_shuffle_mean_is_exact():
    rng = np.random.default_rng(7)
    r = rng.standard_t(4, (1, 25))
    shuffled = shuffle_within_windows(windows(r), 20_000, rng)
    rho = CURVES["autocorrelation_within"].pool(shuffled).curve()[0]
    assert np.abs(rho).max() < 4.5 * 1.2 / sqrt(20_000 * 20)


def test_garch_clusters_within_windows_at_lag_one():
    r = oracles.garch((1, 200_000), np.random.default_rng(8), alpha=0.15, beta=0.80)[0].reshape(-1, 25)
    rho = curve("absolute_within", windows(r))
    assert rho[0] > 6 / sqrt(8000 * 24)


def test_kurtosis_and_skewness_equal_pandas():
    rng = np.random.default_rng(9)
    x = rng.standard_t(5, 500) + 0.3 * rng.standard_normal(500) ** 2
    x[10] = np.nan
    sums = tails.moment_sums(x)
    assert tails.excess_kurtosis(sums) == pytest.approx(pd.Series(x).kurt(), rel=1e-10)
    assert tails.skewness(sums) == pytest.approx(pd.Series(x).skew(), rel=1e-10)


def test_t6_returns_aggregate_like_three_over_d():
    rng = np.random.default_rng(10)
    k = np.mean([curve("kurtosis", windows(rng.standard_t(6, (400, 60)))) for _ in range(20)], axis=0)
    np.testing.assert_allclose(k[[0, 4, 19]], [3, 3 / 5, 3 / 20], atol=0.45)


def test_gaussian_returns_have_no_kurtosis_and_no_skewness():
    w = windows(np.random.default_rng(11).standard_normal((1000, 60)))
    n = 60_000
    assert curve("kurtosis", w)[0] == pytest.approx(0, abs=4 * sqrt(24 / n))
    assert curve("skewness", w)[0] == pytest.approx(0, abs=4 * sqrt(6 / n))
    # overlapping 20-minute returns carry about as much as non-overlapping ones
    assert curve("kurtosis", w)[19] == pytest.approx(0, abs=4 * sqrt(24 / (n / 20)))


def test_skewness_flips_its_sign_with_the_returns():
    r = np.random.default_rng(12).standard_t(4, (50, 40)) + 0.1
    up, down = curve("skewness", windows(r)), curve("skewness", windows(-r))
    np.testing.assert_allclose(up, -down, rtol=1e-8)


@pytest.mark.parametrize(
    ("law", "alphas"),
    [(stats.t(3), (2.93, 2.81, 2.59)), (stats.norm(), (8.9, 7.3, 5.8))],
    ids=["t3", "gaussian"],
)
def test_hill_reads_the_published_tail_indices(law, alphas):
    x = law.rvs(60_000, random_state=np.random.default_rng(13))
    for fraction, alpha in zip((0.01, 0.025, 0.05), alphas, strict=True):
        assert tails.hill_alpha(np.abs(x), fraction) == pytest.approx(alpha, rel=5 / sqrt(fraction * 60_000))


def test_hill_of_a_pareto_law_is_its_exponent_in_both_tails():
    rng = np.random.default_rng(14)
    r = (rng.random((200, 100)) ** (-1 / 3) - 0.5) * rng.choice([-1, 1], (200, 100))
    xi = curve("tail_xi", windows(r))
    # (x + .5 is Pareto(3)): at 1% the shift matters little, 1 / alpha = 1 / 3
    assert xi[[0, 3]] == pytest.approx(1 / 3, abs=4 * (1 / 3) / sqrt(100) + 0.03)


@pytest.mark.parametrize(("branching", "expected"), [(0.3, 2.04), (0.5, 4.0), (0.7, 11.1)])
def test_hawkes_counts_have_the_closed_form_fano_factor(branching, expected):
    rng = np.random.default_rng(15)
    times = oracles.hawkes_times(3600 * 400, rng, rate=0.2, branching=branching, decay=1.0)
    counts = np.bincount((times // 60).astype(int), minlength=24_000).astype(float)
    sums = np.array([len(counts), counts.sum(), (counts**2).sum()])
    assert fano(sums) == pytest.approx(expected, rel=0.10)


def test_extremes_of_iid_windows_are_binomial_and_a_u_shape_fakes_bursts():
    rng = np.random.default_rng(16)
    iid = rng.standard_normal((4000, 25))
    sigma = np.tile(oracles.u_shape(250), 400).reshape(4000, 25)
    for r, expected, tolerance in ((iid, 0.99, 0.1), (iid * sigma, 2.5, 1.5)):
        found = fano(count_sums(r, extreme_threshold(r)).sum(axis=0))[0]
        assert found == pytest.approx(expected, abs=tolerance)


def test_windows_with_missing_minutes_are_no_bucket():
    r = np.random.default_rng(17).standard_normal((10, 25))
    r[0, 0] = np.nan
    assert count_sums(r, np.asarray(1.0))[:, 0, 0].tolist() == [0.0] + [1.0] * 9


def test_time_of_day_normalisation_removes_the_u_shape_and_only_that():
    rng = np.random.default_rng(18)
    days, minutes = 300, 240
    day, instrument = np.arange(days), np.zeros(days, np.int64)
    minute = np.tile(np.arange(minutes), (days, 1))
    r = rng.standard_normal((days, minutes)) * oracles.u_shape(minutes)
    how = choose_seasonality(minute, np.broadcast_to(day[:, None], minute.shape), np.zeros_like(minute))
    assert (how.bucket_minutes, how.leave_day_out) == (1, True)
    raw = tails.excess_kurtosis(tails.moment_sums(r.ravel()))
    left = tails.excess_kurtosis(tails.moment_sums(normalise(r, minute, day, instrument, how).ravel()))
    assert raw > 0.5
    assert left == pytest.approx(6 / (days - 5), abs=4 * sqrt(24 / r.size))


def test_one_day_alone_normalises_in_sample_and_says_so():
    minute = np.arange(240).reshape(10, 24)
    zeros = np.zeros_like(minute)
    how = choose_seasonality(minute, zeros, zeros)
    assert not how.leave_day_out
    assert how.bucket_minutes > 60


def test_gjr_has_leverage_and_garch_has_none():
    rng = np.random.default_rng(19)
    gjr = oracles.garch((20, 20_000), rng, alpha=0.02, beta=0.91, gamma=0.10)
    garch = oracles.garch((20, 20_000), rng)
    mean = [curve("leverage", windows(r))[:10].mean() for r in (gjr, garch)]
    assert mean[0] == pytest.approx(-0.0375, abs=0.012)
    assert mean[1] == pytest.approx(0.0, abs=0.006)
    assert bouchaud_leverage(gjr.ravel(), 5).max() < -0.05
    assert np.isnan(bouchaud_leverage(np.zeros(10), 3)).all()


def test_a_mixture_of_distributions_couples_volume_and_volatility_and_a_shuffle_uncouples_them():
    rng = np.random.default_rng(20)
    state = np.zeros((200, 100))
    for t in range(1, 100):
        state[:, t] = 0.95 * state[:, t - 1] + 0.3 * rng.standard_normal(200)
    g = np.exp(state)
    volume, r = rng.poisson(100 * g), np.sqrt(g) * rng.standard_normal(g.shape)
    labels = {"volume": volume.astype(float)}
    together = curve("volume_volatility", windows(r, **labels))
    assert together[1] > 0.1
    assert together[1] > together[20]
    permuted = rng.permutation(volume.ravel()).reshape(g.shape).astype(float)
    alone = curve("volume_volatility", windows(r, volume=permuted))
    assert np.abs(alone).max() < 4.5 / sqrt(200 * 80)


def test_harch_is_asymmetric_in_time_scales_and_reversal_flips_it():
    rng = np.random.default_rng(21)
    lags = CURVES["timescales"].x

    def delta(r: np.ndarray) -> float:
        rho = curve("timescales", windows(r))
        return float(asymmetry(rho, lags, range(5, 11)).mean())

    r = oracles.harch((6, 20_000), rng)
    assert delta(r) == pytest.approx(-0.109, abs=4 * 0.011 / sqrt(6) + 0.01)
    assert delta(r[:, ::-1]) == pytest.approx(-delta(r), abs=1e-3)
    assert delta(oracles.garch((6, 20_000), rng)) == pytest.approx(0.0, abs=4 * 0.010 / sqrt(6) + 0.005)


def test_the_power_law_exponent_is_read_off_a_power_law_and_is_missing_for_none():
    lags = range(1, 21)
    curves = np.array([0.3 * np.arange(1, 21) ** -b for b in (0.0, 0.25, 0.3333, 1.7)])
    np.testing.assert_allclose(power_law_exponent(curves, lags), [0, 0.25, 0.3333, 1.7], atol=2e-3)
    assert np.isnan(power_law_exponent(np.full(20, -0.1), lags))
    assert np.isnan(power_law_exponent(np.full(20, np.nan), lags))


def test_instruments_are_averaged_not_pooled():
    rng = np.random.default_rng(22)
    calm, wild = rng.standard_normal((40, 60)), 50 * rng.standard_normal((40, 60))
    instrument = np.repeat([0, 1], 40)
    apart = curve("kurtosis", windows(np.concatenate([calm, wild]), 1e-5, instrument=instrument))[0]
    pooled = curve("kurtosis", windows(np.concatenate([calm, wild]), 1e-5))[0]
    assert abs(apart) < 0.3
    assert pooled > 2


def test_statistics_do_not_depend_on_the_scale_or_level_of_prices():
    r = np.random.default_rng(23).standard_t(5, (20, 40))
    for fact in FACTS:
        a, b = curve(fact.curve, windows(r, 1e-6)), curve(fact.curve, windows(r, 1e-4))
        if fact.curve in ("kurtosis", "skewness"):
            continue  # their limits on |r| are absolute
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=fact.key)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("case", ["constant", "missing", "one window", "two minutes", "one jump", "no minutes"])
def test_degenerate_windows_give_missing_values_not_crashes(name, case):
    price = np.full((6, 26), 100.0)
    if case == "missing":
        price[:] = np.nan
    elif case == "one window":
        price = 100 * np.exp(np.cumsum(1e-4 * np.random.default_rng(0).standard_normal((1, 26)), axis=1))
    elif case == "two minutes":
        price = price[:, :3] + np.arange(3)
    elif case == "one jump":
        price[0, 5:] = 101
    elif case == "no minutes":
        price = price[:, :1]
    w = Windows.from_prices(price, volume=np.zeros((len(price), price.shape[1] - 1)))
    found = CURVES[name].pool(w).curve()
    assert found.shape == (1, len(CURVES[name].x))
    assert not np.isinf(found).any()
    if case in ("constant", "missing", "no minutes"):
        assert np.isnan(found).all()


def test_a_distance_uses_the_common_lags_only():
    a, b = np.array([1.0, 2.0, np.nan]), np.array([2.0, np.nan, 3.0])
    assert distance(a, b) == 1.0
    assert np.isnan(distance(a[2:], b[2:]))


def test_every_fact_names_a_curve_and_its_statistic_reads_it():
    assert [f.key[:2] for f in FACTS] == [f"{i:02d}" for i in range(1, 12)]
    for fact in FACTS:
        values = np.full((3, len(CURVES[fact.statistic_curve].x)), 0.5)
        assert fact.statistic(values).shape == (3,)
        assert fact.part(np.full((3, len(CURVES[fact.curve].x)), 0.5)).ndim == 2


def test_sliding_sums_and_log_returns_carry_missing_values():
    np.testing.assert_array_equal(sliding_sum(np.array([1.0, 2, np.nan, 4, 5]), 2), [3, np.nan, np.nan, 9])
    assert sliding_sum(np.ones(3), 4).shape == (0,)
    assert np.isnan(log_returns(np.array([0.0, 1.0]))).all()


def test_a_shuffle_keeps_minutes_together_and_missing_ones_in_front():
    price = np.array([[np.nan, np.nan, 100, 101, 103, 104]])
    w = Windows.from_prices(price, volume=np.array([[0.0, 0, 1, 2, 3]]))
    s = shuffle_within_windows(w, 50, np.random.default_rng(0))
    assert np.isnan(s.returns[..., :2]).all()
    order = np.argsort(w.returns[0, 0, 2:])
    for k in range(50):
        np.testing.assert_allclose(np.sort(s.returns[0, k, 2:]), w.returns[0, 0, 2:][order])
        np.testing.assert_array_equal(s.volume[0, k, 2:][np.argsort(s.returns[0, k, 2:])], w.volume[0, 0, 2:][order])
