"""Facts of whole days against processes whose answer is known, and what the verdicts say about them."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from markets import two_days
from marsbench.market.replay import cut
from marsbench.market.rules import clock
from marsbench.stats import oracles
from marsbench.stats.clustering import power_law_against_exponential
from marsbench.stats.fact_pools import CAP, FactPools, garch_residuals, within_kurtosis
from marsbench.stats.nulls import shuffle_over_days
from marsbench.stats.session_facts import FACTS, SIGNATURE_ROWS, estimate, session_facts
from marsbench.stats.sessions import (
    Sessions,
    about_an_hour,
    day_series,
    deseasonalised,
    full_days,
    sessions,
    sliced,
)
from marsbench.stats.signature import variance_ratio, variance_sums
from marsbench.stats.verdicts import ABSENT, HOLDS, INCONCLUSIVE, PAPER, PRESENT, STRICT, judge
from marsbench.stats.windows import Windows

MINUTES = 240


def made(returns: np.ndarray, *, instruments: int = 1, volume: np.ndarray | None = None) -> Sessions:
    """Days ``[D, 240]`` of returns, shared out among instruments."""
    steps = np.concatenate([np.zeros((len(returns), 1)), np.cumsum(1e-4 * returns, axis=1)], axis=1)
    label = np.arange(len(returns)) % instruments
    windows = Windows.from_prices(
        100 * np.exp(steps), instrument=label, day=np.arange(len(returns)) // instruments,
        volume=np.ones(returns.shape) if volume is None else volume,
    )  # fmt: skip
    names = tuple(f"I{i}" for i in range(instruments))
    return Sessions(names, tuple(str(i) for i in range(len(returns))), windows, windows.returns)


def verdicts(s: Sessions, form: str = STRICT) -> dict[int, str]:
    found = session_facts(s, garch=False)
    judged = judge(FACTS, found, minutes=s.windows.returns.shape[-1], form=form)
    return {fact.number: judged[fact.key].verdict for fact in FACTS}


def days_of(process: np.ndarray, days: int) -> np.ndarray:
    """One long series cut into days, so that memory goes on over night."""
    return process[0, : days * MINUTES].reshape(days, MINUTES)


def test_garch_clusters_without_leverage_or_asymmetry_in_time():
    s = made(days_of(oracles.garch((1, 200 * MINUTES), np.random.default_rng(1)), 200), instruments=4)
    found = verdicts(s)
    assert (found[1], found[3], found[9]) == (PRESENT, ABSENT, ABSENT)
    assert found[11] != PRESENT
    assert verdicts(s, PAPER)[6] == PRESENT


def test_harch_is_asymmetric_in_time_and_its_reversal_is_not():
    r = days_of(oracles.harch((1, 80 * MINUTES), np.random.default_rng(2)), 80)
    assert verdicts(made(r))[11] == PRESENT
    assert verdicts(made(r[::-1, ::-1]))[11] == ABSENT


def test_strong_leverage_is_seen():
    r = days_of(oracles.garch((1, 400 * MINUTES), np.random.default_rng(3), alpha=0.01, gamma=0.16, beta=0.89), 400)
    assert verdicts(made(r))[9] == PRESENT


def test_a_gaussian_u_shape_has_heavy_tails_only_before_the_time_of_day_is_taken_off():
    rng = np.random.default_rng(4)
    s = made(rng.standard_normal((120, MINUTES)) * oracles.u_shape(MINUTES, 3))
    found = session_facts(s)
    assert found["kurtosis_1"].verdict(((0, np.inf),)) == HOLDS
    assert abs(float(found["kurtosis_d"].value)) < 0.15
    assert found["raw_less_garch"].verdict(((0, np.inf),)) == HOLDS
    assert float(found["fano_d"].value) < float(found["fano"].value)
    assert float(found["ratio_mid_20"].value) == pytest.approx(1, abs=0.12)
    judged = {form: judge(FACTS, found, minutes=MINUTES, form=form) for form in (STRICT, PAPER)}
    for key in ("02_heavy_tails", "06_volatility_clustering", "07_conditional_heavy_tails"):
        assert judged[STRICT][key].verdict == ABSENT
    assert judged[PAPER]["02_heavy_tails"].verdict == judged[PAPER]["06_volatility_clustering"].verdict == PRESENT


def test_windows_of_different_volatility_manufacture_the_papers_heavy_tails_and_clustering_alone():
    rng = np.random.default_rng(12)
    r = rng.standard_normal((400, 25)) * np.exp(0.5 * rng.standard_normal((400, 1)))
    s = made(np.ones((1, MINUTES)))
    windows = Windows.from_prices(
        100 * np.exp(np.concatenate([np.zeros((400, 1)), np.cumsum(1e-3 * r, axis=1)], axis=1))
    )
    s = replace(s, windows=windows, mid_returns=windows.returns)
    strict, paper = verdicts(s), verdicts(s, PAPER)
    assert paper[2] == paper[6] == PRESENT
    assert strict[2] == ABSENT
    assert strict[6] != PRESENT
    assert strict[5] == strict[8] == INCONCLUSIVE  # 25 minutes do not carry them


def test_kurtosis_within_windows_is_zero_for_gaussians_and_that_of_the_law_for_long_windows():
    rng = np.random.default_rng(13)

    def found(r: np.ndarray) -> float:
        w = Windows.from_prices(np.ones((len(r), r.shape[1] + 1)))
        return float(within_kurtosis(replace(w, returns=r[:, None, :])).curve()[0, 0])

    assert found(rng.standard_normal((4000, 25))) == pytest.approx(0, abs=0.05)
    uniform = rng.uniform(-1, 1, (20, 4000))
    assert found(uniform) == pytest.approx(-1.2, abs=0.02)
    assert np.isnan(found(np.zeros((5, 25))))


def test_winsorised_moments_are_cut_and_leave_a_gaussian_alone():
    rng = np.random.default_rng(14)
    r = rng.standard_normal((60, MINUTES))
    plain, wild = made(r), made(np.where(rng.random(r.shape) < 1e-3, 40.0, r))
    gauss = session_facts(plain, garch=False)["winsorised_1"]
    assert abs(float(gauss.value)) < 0.1
    found = session_facts(wild, garch=False)
    assert 0 < float(found["winsorised_1"].value) < float(found["kurtosis_1"].value)
    assert float(found["winsorised_1"].value) < CAP**2
    assert abs(float(found["winsorised_skewness"].value)) < abs(float(found["skewness"].value))


def test_garch_residuals_of_gaussian_garch_are_gaussian():
    s = made(days_of(oracles.garch((1, 100 * MINUTES), np.random.default_rng(5), alpha=0.15, beta=0.8), 100))
    found = session_facts(s)
    assert float(found["winsorised_garch"].value) == pytest.approx(0, abs=0.15)
    assert found["raw_less_garch"].verdict(((0, np.inf),)) == HOLDS
    assert judge(FACTS, found, minutes=MINUTES)["07_conditional_heavy_tails"].verdict == ABSENT
    assert np.isnan(garch_residuals(replace(s.windows, returns=np.zeros_like(s.windows.returns)))).all()


def test_a_paired_difference_of_a_source_with_itself_is_zero():
    s = made(np.random.default_rng(15).standard_normal((30, MINUTES)))
    one, other = FactPools(s.windows, garch=False), FactPools(s.windows, garch=False)
    row = next(r for f in FACTS for r in f.rows if r.key == "within")
    same = estimate(one, row, other)
    assert (float(same.value), float(same.error)) == (0, 0)
    assert "acf_mid" not in one


def test_iid_returns_do_not_cluster_net_of_shuffled_days_whatever_the_pattern_costs():
    wrong, plain = 0, []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        r = rng.standard_t(4, (40, MINUTES)) * oracles.u_shape(MINUTES, 3)
        found = session_facts(made(r, instruments=4), garch=False)
        wrong += found["absolute_d_net"].verdict(((0, np.inf),)) == HOLDS
        plain.append(float(found["absolute_d"].value))
    assert wrong <= 2
    assert np.mean(plain) > 0.002  # the error of the pattern, which neighbouring minutes share


def test_days_shuffled_minute_by_minute_keep_the_pattern_and_lose_the_memory():
    r = days_of(oracles.garch((1, 60 * MINUTES), np.random.default_rng(11)), 60) * oracles.u_shape(MINUTES, 3)
    s = made(r, instruments=2)
    null = shuffle_over_days(s.windows, 3, np.random.default_rng(0))
    assert null.returns.shape == (60, 3, MINUTES)
    of_first = s.windows.instrument == 0
    np.testing.assert_allclose(
        np.sort(null.returns[of_first, 1], axis=0), np.sort(s.windows.returns[of_first, 0], axis=0)
    )
    assert np.isnan(shuffle_over_days(s.of(0).windows, 2, np.random.default_rng(0)).returns).sum() == 0
    one = full_days(two_days()[:1]).windows
    assert np.isnan(shuffle_over_days(one, 2, np.random.default_rng(0)).returns).all()


def test_volume_that_carries_the_variance_correlates():
    rng = np.random.default_rng(6)
    activity = np.exp(0.8 * rng.standard_normal((60, MINUTES)))
    r = np.sqrt(activity) * rng.standard_normal((60, MINUTES))
    found = session_facts(made(r, volume=rng.poisson(100 * activity).astype(float)), garch=False)
    assert found["volume_0_d"].verdict(((0, np.inf),)) == HOLDS
    assert found["volume_1_10_d"].verdict(((0, np.inf),)) != HOLDS


def test_the_signature_of_a_bounce_is_rolls_and_of_a_seasonal_walk_flat():
    rng = np.random.default_rng(7)
    c, s, periods = 1.0, 2.0, (5, 20, 60)
    prices = oracles.roll_prices((300, MINUTES + 1), rng, sigma=s, half_spread=c)
    sums = variance_sums(np.diff(prices), periods)
    expected = [(d * s**2 + 2 * c**2) / (d * (s**2 + 2 * c**2)) for d in periods]
    np.testing.assert_allclose(variance_ratio(sums.sum(axis=0)), expected, rtol=0.06)
    walk = rng.standard_normal((600, MINUTES)) * oracles.u_shape(MINUTES, 5)
    np.testing.assert_allclose(variance_ratio(variance_sums(walk, periods).sum(axis=0)), 1, rtol=0.08)
    assert np.isnan(variance_ratio(variance_sums(np.zeros((1, 30)), (5,)))).all()


def test_power_law_and_exponential_memory_are_told_apart():
    lags = np.unique(np.round(np.geomspace(1, 100, 30))).astype(int)
    noise = 1e-3 * np.random.default_rng(8).standard_normal((2, len(lags)))
    curves = np.stack([0.2 * lags**-0.3, 0.2 * np.exp(-lags / 20)]) + noise
    power, exponential = power_law_against_exponential(curves, lags)
    assert power < -10
    assert exponential > 10
    assert np.isnan(power_law_against_exponential(np.full(len(lags), np.nan), lags))


def test_days_become_rows_in_order_and_short_ones_are_padded():
    first, second = two_days()
    short = cut(second, second.start_ns, clock("10:00"))
    s = full_days([short, first])
    assert s.dates == (first.date, second.date)
    assert s.windows.returns.shape == (2, 1, 90)
    assert np.isnan(s.windows.returns[1, 0, 30:]).all()
    assert np.isfinite(s.windows.returns[0]).all()
    assert s.of(0).days == 2
    with pytest.raises(ValueError, match="comes twice"):
        full_days([first, first])
    with pytest.raises(ValueError, match="no days"):
        sessions([])
    with pytest.raises(ValueError, match="no whole minute"):
        day_series(cut(first, first.start_ns, first.start_ns))


def test_windows_of_a_day_are_whole_and_stay_with_their_day():
    s = made(np.random.default_rng(9).standard_normal((4, 237)), instruments=2)
    assert (about_an_hour(237), about_an_hour(390), about_an_hour(20)) == (59, 65, 20)
    parts = sliced(s.windows, 59)
    assert parts.returns.shape == (16, 1, 59)
    assert sorted(parts.cluster.tolist()) == sorted([0, 1, 2, 3] * 4)
    np.testing.assert_array_equal(parts.returns[5], s.windows.returns[1][:, 59:118])
    assert parts.minute[5] == 59
    with pytest.raises(ValueError, match="at least 1 minute"):
        sliced(s.windows, 0)


def test_deseasonalised_returns_have_one_scale_over_the_day():
    r = np.random.default_rng(10).standard_normal((200, MINUTES)) * oracles.u_shape(MINUTES, 3)
    flat = deseasonalised(made(r).windows).returns[:, 0]
    deviation = flat.reshape(200, 24, 10).std(axis=(0, 2))
    np.testing.assert_allclose(deviation, 1, atol=4 / sqrt(2 * 2000) + 0.02)


def test_one_day_has_numbers_and_no_interval():
    s = full_days(two_days()[:1])
    found = session_facts(s, garch=False)
    assert {row.key for row in SIGNATURE_ROWS} <= set(found)
    assert np.isfinite(found["kurtosis_1"].value)
    assert np.isnan(found["kurtosis_1"].low)
    assert set(verdicts(s).values()) == {INCONCLUSIVE}
