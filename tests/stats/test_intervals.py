"""Intervals for clustered data: coverage is measured, not assumed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from marsbench.stats.facts import CURVES
from marsbench.stats.intervals import (
    MAX_GROUPS,
    Interval,
    deletion_weights,
    jackknife_interval,
    ratio_interval,
    share_interval,
)
from marsbench.stats.pooling import Pool, per_instrument
from marsbench.stats.splits import half_splits, split_half
from marsbench.stats.windows import Windows, codes


def clustered(clusters: int, rng: np.random.Generator, size: int = 25) -> np.ndarray:
    """Values ``[C, size]`` that share a cluster effect: intraclass correlation 1/2, true mean 0."""
    return rng.standard_normal((clusters, 1)) + rng.standard_normal((clusters, size))


def coverage(clusters: int, trials: int = 400) -> float:
    rng, hits = np.random.default_rng(clusters), 0
    for _ in range(trials):
        x = clustered(clusters, rng)
        found = ratio_interval(x.sum(axis=1), np.full(clusters, 25.0))
        hits += bool(found.low <= 0 <= found.high)
    return hits / trials


@pytest.mark.parametrize(("clusters", "least"), [(5, 0.92), (10, 0.92), (20, 0.92), (60, 0.92)])
def test_intervals_of_dependent_data_cover(clusters, least):
    # the standard error of 400 trials is .011
    assert least <= coverage(clusters) <= 0.985


def test_an_event_bootstrap_would_not_cover():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        x = clustered(30, rng).ravel()
        half = 1.96 * x.std() / np.sqrt(x.size)
        hits += abs(x.mean()) < half
    assert hits / 200 < 0.6


def test_intervals_name_their_clusters_and_one_cluster_has_none():
    few = ratio_interval(np.arange(5.0), np.ones(5))
    many = ratio_interval(np.arange(300.0), np.ones(300))
    one = ratio_interval(np.ones(1), np.ones(1))
    assert "t interval, 5 clusters" in str(few.method)
    assert "delete-group" in str(many.method)
    assert "300 clusters" in str(many.method)
    assert one.method is None
    assert "at least 2" in str(one.reason)
    assert np.isnan(one.low)


def test_the_jackknife_of_a_mean_is_the_textbook_t_interval():
    from scipy import stats

    x = np.array([1.0, 2, 4, 8, 16])
    found = ratio_interval(x, np.ones(5))
    low, high = stats.t.interval(0.95, 4, loc=x.mean(), scale=stats.sem(x))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_deleting_groups_covers_every_cluster_once():
    weights = deletion_weights(1000, np.random.default_rng(2))
    assert weights.shape == (MAX_GROUPS, 1000)
    np.testing.assert_array_equal((1 - weights).sum(axis=0), 1)
    np.testing.assert_array_equal(deletion_weights(3), 1 - np.eye(3))


def test_values_missing_in_most_deletions_have_no_interval():
    found = jackknife_interval(np.array([1.0, 1.0]), np.array([[1.0, np.nan], [2, np.nan], [1, np.nan], [2, 1]]))
    assert np.isfinite(found.low[0])
    assert np.isnan(found.low[1])


def test_weights_on_sums_equal_statistics_of_repeated_windows():
    rng = np.random.default_rng(4)
    price = 100 * np.exp(np.cumsum(1e-4 * rng.standard_t(4, (9, 2, 26)), axis=-1))
    labels = {"instrument": np.arange(9) % 3, "cluster": np.repeat([0, 1, 2], 3), "volume": rng.random((9, 2, 25))}
    w = Windows.from_prices(price, **labels)
    again = np.repeat(np.arange(9), np.repeat([2, 0, 1], 3))
    twice = Windows.from_prices(price[again], **{k: v[again] for k, v in labels.items()})
    for name in ("autocorrelation_within", "absolute_within", "timescales", "leverage", "skewness"):
        weighted = CURVES[name].pool(w).curve(np.array([[2.0, 0, 1]]))
        np.testing.assert_allclose(weighted, CURVES[name].pool(twice).curve(), rtol=1e-8, atol=1e-12, err_msg=name)
    pool = CURVES["skewness"].pool(w)
    np.testing.assert_allclose(
        pool.by_instrument(rollout=0)[:, 0] * 0 + pool.sums[0].sum(), pool.sums[0].sum() * np.ones((3, 20))
    )


def test_units_are_cluster_and_instrument_pairs():
    w = Windows.from_prices(np.ones((4, 3)), instrument=np.array([0, 1, 0, 1]), cluster=np.array([0, 0, 1, 1]))
    pool = Pool.build(np.ones((4, 1, 1)), w, lambda s: s)
    assert len(pool.cluster) == 4
    assert pool.curve(np.array([[1.0, 0.0]])).tolist() == [[1.0]]
    np.testing.assert_array_equal(per_instrument(np.arange(4.0), w, lambda v: v.sum()), [2, 4, 2, 4])
    np.testing.assert_array_equal(codes(["b", "a", "b"]), [0, 1, 0])


def test_halves_are_balanced_within_every_stratum():
    stratum = np.repeat([0, 1, 2], [4, 6, 10])
    masks = half_splits(stratum, 50, np.random.default_rng(5))
    for s in range(3):
        np.testing.assert_array_equal(masks[:, stratum == s].sum(axis=1), (stratum == s).sum() // 2)


def mean_gap(sums: np.ndarray, other: np.ndarray):
    """|mean of A - mean of B| for clustered means: a distance that is never negative, like those of the metrics."""

    def compare(a, b, k):
        def gap(x, wx, y, wy):
            return np.abs((wx @ x) / wx.sum(axis=1) - (wy @ y) / wy.sum(axis=1))

        value, ceiling = gap(other, a, sums, b), gap(sums, a, sums, b)
        return value, ceiling, np.ones(len(a))

    return compare


def test_a_perfect_generator_reaches_the_ceiling_on_average():
    rng, gaps = np.random.default_rng(6), []
    for _ in range(300):
        x, y = rng.standard_normal((2, 24))
        found = split_half(mean_gap(x, y), np.zeros(24, int), 16, rng)
        assert found is not None
        gaps.append(found.ceiling - found.value)
    assert np.mean(gaps) == pytest.approx(0, abs=4 * np.std(gaps) / np.sqrt(300))


def test_split_half_intervals_cover_the_expected_value_of_a_bad_generator():
    rng, shift = np.random.default_rng(7), 1.0
    pairs = rng.standard_normal((300, 2, 24))
    found = [split_half(mean_gap(x, y + shift), np.zeros(24, int), 16, rng) for x, y in pairs]
    truth = np.mean([f.value for f in found])
    hits = np.mean([f.value_interval.low <= truth <= f.value_interval.high for f in found])
    assert hits > 0.91


def test_too_few_units_have_no_split_or_no_interval():
    rng = np.random.default_rng(8)
    assert split_half(mean_gap(np.ones(1), np.ones(1)), np.zeros(1, int), 8, rng) is None
    found = split_half(mean_gap(np.arange(3.0), np.ones(3)), np.zeros(3, int), 8, rng, what="starts")
    assert found is not None
    assert np.isfinite(found.value)
    assert "at least 4" in str(found.value_interval.reason)


def test_a_share_that_all_clusters_agree_on_keeps_an_interval_of_some_width() -> None:
    def interval(shares: list[float]) -> Interval:
        values = np.array(shares)
        return share_interval(np.asarray(values.mean()), ratio_interval(values, np.ones(len(values))))

    never, always = interval([0.0] * 8), interval([1.0] * 8)
    exact = stats.binomtest(0, 8).proportion_ci(0.95)
    assert (float(never.low), float(never.high)) == pytest.approx((exact.low, exact.high))
    assert (float(always.low), float(always.high)) == pytest.approx((1 - exact.high, 1.0))
    assert "agree" in (never.method or "")
    assert np.isnan(interval([0.5] * 8).low)
    assert "logit" in (interval([0.0, 1.0] * 4).method or "")


def test_the_interval_of_a_small_share_stays_above_zero_and_leans_upwards() -> None:
    shares = np.array([0.0, 0, 0.02, 0.01, 0, 0.06, 0, 0.01])
    plain = ratio_interval(shares, np.ones(8))
    found = share_interval(np.asarray(shares.mean()), plain)
    assert plain.low < 0 < found.low < shares.mean() < found.high
    assert found.high - shares.mean() > shares.mean() - found.low
