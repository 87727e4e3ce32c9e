"""The permutation test that exchanges replay and simulation by cluster: its twin, its errors, its power."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from marsbench.stats import paired_oracles as oracles
from marsbench.stats.exchange import MIN_CLUSTERS, Exchange, exchange, places
from marsbench.stats.overlap import overlap


def apart(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 1 - overlap(p, q)


def slow_p(replay: np.ndarray, simulated: np.ndarray) -> float:
    """Every exchange, one after the other, of the clusters themselves."""
    found = []
    for who in itertools.product(range(1 + len(simulated)), repeat=len(replay)):
        left, right = np.zeros(replay.shape[1]), np.zeros(replay.shape[1])
        for c, chosen in enumerate(who):
            for k, column in enumerate([replay[c], *simulated[:, c]]):
                if k == chosen:
                    left += column
                else:
                    right += column
        found.append(1 - np.minimum(left / left.sum(), right / right.sum()).sum())
    return float(np.mean(np.array(found) >= found[0] - 1e-12))


@pytest.mark.parametrize(("rollouts", "clusters"), [(1, 7), (2, 6), (3, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_all_exchanges_of_few_clusters_equal_the_obvious_enumeration(seed: int, rollouts: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 9, (1 + rollouts, clusters, 4)).astype(float) + 1
    found = replace(exchange(apart, made[0], made[1:], rng, permutations=2000), clusters=MIN_CLUSTERS)
    assert len(found.exchanged) == (2**6 if rollouts == 1 else (1 + rollouts) ** clusters) - 1
    assert found.p == pytest.approx(slow_p(made[0], made[1:]))


def test_exchanges_are_distinct_where_there_are_few_and_random_where_there_are_many() -> None:
    rng = np.random.default_rng(0)
    assert len(np.unique(places(6, 1, 999, rng), axis=0)) == 31
    many = places(40, 1, 500, rng)
    assert many.shape == (500, 40)
    assert not many[:, 0].any()
    assert many[:, 1:].mean() == pytest.approx(0.5, abs=0.02)
    several = places(40, 4, 500, rng)
    assert np.bincount(several.ravel()) / several.size == pytest.approx(np.full(5, 0.2), abs=0.02)
    with pytest.raises(ValueError, match="at least 1 cluster and 1 rollout, got 0 and 1"):
        places(0, 1, 9, rng)


def test_random_exchanges_agree_with_all_of_them() -> None:
    rng = np.random.default_rng(1)
    replay, simulated = rng.integers(0, 9, (2, 12, 4)).astype(float) + 1
    exact = exchange(apart, replay, simulated[None], rng, permutations=4000)
    drawn = exchange(apart, replay, simulated[None], rng, permutations=2000)
    assert len(exact.exchanged) == 2**11 - 1
    assert drawn.p == pytest.approx(exact.p, abs=0.05)


def test_few_clusters_or_an_empty_side_have_no_p() -> None:
    rng = np.random.default_rng(2)
    few = rng.random((2, MIN_CLUSTERS - 1, 4))
    assert np.isnan(exchange(apart, few[0], few[1:], rng).p)
    assert np.isnan(exchange(apart, np.zeros((8, 4)), rng.random((1, 8, 4)), rng).p)


def test_of_two_distances_the_one_that_stands_out_counts_and_one_that_never_varies_does_not() -> None:
    rng = np.random.default_rng(3)
    noise, far = rng.standard_normal(999), np.r_[9.0, rng.standard_normal(998)]
    found = Exchange(np.array([noise.mean(), 12.0, 1.0]), np.stack([noise, far, np.ones(999)], axis=1), 20)
    assert found.p == pytest.approx(1 / 1000)
    assert found.standardised[0] > 5


def test_one_law_is_rejected_one_time_in_twenty_whatever_the_dependence_and_another_is_seen() -> None:
    def p(shift: float, seed: int) -> float:
        rng = np.random.default_rng([5, seed])
        replay, simulated = oracles.minutes(30, 1, 25, rng, phi=0.9)
        values = (replay, simulated[:, 0] + shift)
        edges = np.quantile(np.concatenate(values), np.arange(1, 20) / 20)
        sides = [
            np.stack([np.bincount(np.searchsorted(edges, row), minlength=20) for row in v]).astype(float)
            for v in values
        ]
        return exchange(apart, sides[0], sides[1][None], rng, permutations=99).p

    assert np.mean([p(0.0, seed) <= 0.05 for seed in range(300)]) == pytest.approx(0.05, abs=0.04)
    assert np.mean([p(0.8, seed) <= 0.05 for seed in range(40)]) > 0.85


def test_paired_oracles_have_the_laws_that_they_say() -> None:
    rng = np.random.default_rng(6)
    replay, simulated = oracles.minutes(4000, 2, 25, rng)
    for values in (replay, simulated):
        assert values.mean() == pytest.approx(0, abs=0.03)
        assert values.std() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(replay[:, 0], simulated[:, 0, 0])[0, 1] == pytest.approx(oracles.LEVEL, abs=0.05)
    apart_, other = oracles.minutes(4000, 1, 1, rng, shared=False)
    assert np.corrcoef(apart_[:, 0], other[:, 0, 0])[0, 1] == pytest.approx(0, abs=0.05)
    truth, forecast = oracles.forecasts(4000, 3, 1, rng, rho=0.7)
    assert np.corrcoef(truth[:, 0], forecast[:, 2, 0])[0, 1] == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize(("rho", "expected"), [(0, 1 / 3), (0.3, 0.420), (0.5, 0.492), (0.7, 0.586), (0.95, 0.815)])
def test_the_accuracy_of_a_gaussian_copula_is_the_tabulated_one(rho: float, expected: float) -> None:
    assert oracles.copula_accuracy(rho) == pytest.approx(expected, abs=2e-3)


def test_the_overlap_of_shifted_normals_is_the_integral_of_the_smaller_density() -> None:
    from scipy import stats

    x = np.linspace(-9, 10, 200_001)
    for shift in (0.1, 0.25, 0.5, 1.0):
        least = np.minimum(stats.norm.pdf(x), stats.norm.pdf(x - shift))
        assert oracles.normal_overlap(shift) == pytest.approx(np.trapezoid(least, x), abs=1e-6)
