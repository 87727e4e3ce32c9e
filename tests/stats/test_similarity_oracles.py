"""Overlap, Wasserstein and three-class accuracy against closed forms."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from marsbench.stats.classes import MISSING, accuracy, classify, confusion, kappa, tercile_edges, vote_shares
from marsbench.stats.histogram import Bins
from marsbench.stats.overlap import null_overlap, overlap
from marsbench.stats.wasserstein import cdf_grid, grid_wasserstein, wasserstein


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_shifted_normals_overlap_by_the_closed_form_up_to_the_known_bias(shift):
    rng = np.random.default_rng(1)
    n = 50_000
    x, y = rng.standard_normal(n), rng.standard_normal(n) + shift
    bins = Bins.frozen(x)
    bias = 1 - null_overlap(bins.count(x), n, n)
    found = overlap(bins.count(x), bins.count(y))
    truth = 2 * stats.norm.cdf(-shift / 2)
    assert truth - bias - 0.01 < found < truth + 0.006


def test_the_heavy_tail_oracle_is_met_on_quantile_bins():
    rng = np.random.default_rng(2)
    x, y = stats.t(2).rvs(6222, random_state=rng), 1.5 * stats.t(2).rvs(6222, random_state=rng)
    bins = Bins.frozen(x)
    assert overlap(bins.count(x), bins.count(y)) == pytest.approx(0.836, abs=0.012)  # true .845, less the bias


@pytest.mark.parametrize(("n", "published"), [(250, 0.686), (1000, 0.841), (6222, 0.939), (50_000, 0.979)])
def test_identical_laws_score_the_null_formula(n, published):
    rng = np.random.default_rng(3)
    found, expected = [], []
    for _ in range(40):
        pair = rng.beta(6, 6, (2, n))
        edges = np.linspace(pair.min(), pair.max(), 101)  # published for 100 bins over the range
        found.append(overlap(*(np.histogram(x, edges)[0] for x in pair)))
        expected.append(null_overlap(np.diff(stats.beta(6, 6).cdf(edges)), n, n))
    assert np.mean(found) == pytest.approx(published, abs=0.006)
    assert np.mean(expected) == pytest.approx(published, abs=0.013)


def test_discrete_values_have_a_bin_each_and_other_values_are_seen():
    ticks = np.repeat([1.0, 2, 3], [50, 30, 20])
    bins = Bins.frozen(ticks)
    assert bins.discrete
    assert overlap(bins.count(ticks), bins.count(ticks)) == 1
    assert overlap(bins.count(ticks), bins.count(ticks + 0.25)) == 0
    assert bins.count(ticks).tolist() == [0, 50, 0, 30, 0, 20, 0]
    np.testing.assert_array_equal(bins.count([np.nan, -9, 9]), [1, 0, 0, 0, 0, 0, 1])


def test_an_atom_in_continuous_values_is_not_smeared_out():
    rng = np.random.default_rng(4)
    x = np.where(rng.random(5000) < 0.4, 0.0, rng.standard_normal(5000))
    bins = Bins.frozen(x)
    assert not bins.discrete
    assert bins.count(x).max() == (x == 0).sum()
    assert overlap(bins.count(x), bins.count(np.where(x == 0, 1e-12, x))) == pytest.approx(0.6, abs=0.02)


def test_counts_by_cluster_add_up_and_nothing_in_gives_no_overlap():
    rng = np.random.default_rng(5)
    values = rng.standard_normal((6, 2, 25))
    bins = Bins.frozen(values)
    counts = bins.count_clusters(values, np.array([0, 0, 1, 1, 2, 2]), 3)
    assert counts.shape == (2, 3, len(bins))
    np.testing.assert_array_equal(counts.sum(axis=(0, 1)), bins.count(values))
    empty = Bins.frozen(np.array([np.nan]))
    assert np.isnan(overlap(empty.count(np.array([])), empty.count(np.array([1.0]))))


finite = st.lists(st.integers(-20, 20).map(lambda i: i / 4), min_size=1, max_size=30)


@given(finite, finite)
@settings(deadline=None)
def test_wasserstein_equals_scipy(x, y):
    x, y = np.array(x), np.array(y)
    expected = stats.wasserstein_distance(x, y)
    assert wasserstein(x, y) == pytest.approx(expected, abs=1e-12)
    assert wasserstein((4 * x).astype(int), (4 * y).astype(int)) == pytest.approx(4 * expected, abs=1e-12)
    grid = cdf_grid(x, y)
    counts = [Bins(grid, True).count(v) for v in (x, y)]
    assert grid_wasserstein(*counts, grid) == pytest.approx(expected, abs=1e-12)


def test_wasserstein_of_a_shift_is_the_shift_and_the_grid_agrees():
    rng = np.random.default_rng(6)
    x, y = rng.standard_t(3, 20_000), rng.standard_t(3, 15_000) + 0.5
    assert wasserstein(x, y) == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-9)
    grid = cdf_grid(x, y)
    bins = Bins(grid, False)
    assert grid_wasserstein(bins.count(x), bins.count(y), grid) == pytest.approx(wasserstein(x, y), rel=0.02)
    assert np.isnan(wasserstein(np.array([np.nan]), y))


@pytest.mark.parametrize(
    ("rho", "expected"), [(0, 0.333), (0.3, 0.420), (0.5, 0.492), (0.7, 0.586), (0.85, 0.691), (0.95, 0.815)]
)
def test_a_gaussian_copula_has_its_tercile_accuracy(rho, expected):
    rng = np.random.default_rng(7)
    n = 40_000
    replay = rng.standard_normal(n)
    simulated = rho * replay + sqrt(1 - rho**2) * rng.standard_normal(n)
    edges = tercile_edges(replay)
    matrix = confusion(classify(simulated, edges), classify(replay, edges))
    assert accuracy(matrix) == pytest.approx(expected, abs=4 * 0.5 / sqrt(n))
    assert kappa(matrix) == pytest.approx((expected - 1 / 3) / (2 / 3), abs=0.02)


def test_kappa_of_a_textbook_table():
    matrix = np.array([[20, 5, 0], [10, 15, 0], [0, 0, 0]], float)
    assert kappa(matrix) == pytest.approx(0.4)
    assert np.isnan(kappa(np.diag([5.0, 0, 0])))
    assert np.isnan(accuracy(np.zeros((3, 3))))


def test_ties_go_to_the_side_that_keeps_the_shares_nearer_to_a_third():
    returns = np.concatenate([np.full(30, -1.0), np.zeros(40), np.full(30, 1.0)])
    found = classify(returns, tercile_edges(returns))
    assert np.bincount(found).tolist() == [30, 40, 30]
    ratios = np.concatenate([np.zeros(40), np.linspace(0.1, 1, 60)])
    assert np.bincount(classify(ratios, tercile_edges(ratios)))[0] == 40
    assert set(classify(np.full(9, 2.0), tercile_edges(np.full(9, 2.0)))) <= {0, 1, 2}


def test_missing_values_have_no_class():
    edges = tercile_edges(np.arange(9.0))
    assert classify(np.array([np.nan]), edges)[0] == MISSING
    assert np.isnan(tercile_edges(np.array([np.nan]))).all()
    assert (classify(np.arange(3.0), np.full(2, np.nan)) == MISSING).all()
    assert confusion(np.array([-1, 1]), np.array([1, -1])).sum() == 0


def test_a_vote_goes_to_the_most_frequent_class_and_ties_are_shared():
    votes = np.array([[0, 0, 1], [0, 1, 2], [-1, 2, 2], [-1, -1, -1]])
    np.testing.assert_allclose(vote_shares(votes), [[1, 0, 0], [1 / 3] * 3, [0, 0, 1], [0, 0, 0]])


def test_majority_votes_approach_the_bayes_rate():
    """Dirichlet(1.5) class probabilities: one rollout is right .457 of the time, 8 .521, 128 .559 (Bayes .565)."""
    rng = np.random.default_rng(8)
    n = 6000
    p = rng.dirichlet([1.5] * 3, n)
    truth = (rng.random((n, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    for rollouts, expected in ((1, 0.457), (8, 0.521), (128, 0.559)):
        votes = (rng.random((n, rollouts, 1)) > np.cumsum(p, axis=1)[:, None]).sum(axis=-1)
        assert vote_shares(votes)[np.arange(n), truth].mean() == pytest.approx(expected, abs=4 * 0.5 / sqrt(n))
