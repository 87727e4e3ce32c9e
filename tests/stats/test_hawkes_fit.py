"""The penalty of Hawkes fits: planted zeros are found, a dense process loses nothing, no penalty is the plain fit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from marsbench.stats.hawkes import (
    Hawkes,
    Record,
    design,
    intensities,
    likelihood_of,
    log_likelihood,
    residuals,
    simulate,
)
from marsbench.stats.hawkes_fit import fit, held_out, poisson

DECAYS = np.array([5.0, 0.5])


@cache
def sparse() -> Hawkes:
    """Six types in a ring: each excites itself and the next; 12 of 72 kernels are not 0."""
    kernels = np.zeros((6, 6, 2))
    for j in range(6):
        kernels[j, j, 0], kernels[(j + 1) % 6, j, 1] = 0.3, 0.35
    return Hawkes(np.full(6, 0.1), kernels, DECAYS)


@cache
def dense() -> Hawkes:
    """Every type excites every other alike."""
    return Hawkes(np.full(4, 0.2), np.full((4, 4, 2), 0.09), DECAYS)


@cache
def seen(seed: int, *, of_sparse: bool = True, seconds: float = 2500.0) -> Record:
    return simulate(sparse() if of_sparse else dense(), seconds, np.random.default_rng(seed))


def test_no_penalty_is_the_plain_fit() -> None:
    plain, zero = fit([seen(0)], DECAYS, 6), fit([seen(0)], DECAYS, 6, penalty=0.0)
    assert np.array_equal(plain.model.flat, zero.model.flat)
    assert held_out([seen(0)], [seen(1)], DECAYS, 6)[0][2].log_likelihood == plain.log_likelihood


@pytest.mark.parametrize("fast", [5.0, 1000.0])
def test_the_fit_is_a_maximum_to_the_conditions_of_karush_kuhn_and_tucker(fast: float) -> None:
    """No slope where a kernel is positive, none upwards where it is 0; also where a memory is too short to matter."""
    decays = np.array([fast, 0.5])
    got = fit([seen(7)], decays, 6)
    data = design([seen(7)], decays, 6)
    slope = likelihood_of(got.model.flat, data)[1] / data.exposure
    assert got.converged
    assert slope.max() < 1e-4
    assert np.abs(slope * got.model.flat * data.exposure).max() / got.counts.min() < 1e-4


def test_planted_zeros_are_found_and_the_rest_is_recovered_without_bias() -> None:
    fits = [fit([seen(seed)], DECAYS, 6, penalty=3.0) for seed in range(8)]
    found = np.array([f.model.branching for f in fits])
    there = sparse().branching > 0
    assert all(f.converged for f in fits)
    assert (found[:, there] > 0).all()
    assert (found[:, ~there] > 0).mean() < 0.1
    assert np.mean([(fit([seen(s)], DECAYS, 6).model.branching[~there] > 0).mean() for s in range(3)]) > 0.3
    error = found.std(axis=0, ddof=1)[there] / np.sqrt(len(fits))
    assert (np.abs(found.mean(axis=0) - sparse().branching)[there] < 4.5 * error).all()


def test_a_penalty_helps_on_later_data_where_kernels_are_sparse() -> None:
    short = [seen(seed, seconds=400.0) for seed in range(3)]
    gains = []
    for record in short:
        tried = held_out([record], [seen(99)], DECAYS, 6)
        gains.append(max(value for _, value, _ in tried) - tried[0][1])
    assert min(gains) >= 0
    assert np.mean(gains) > 0.005


def test_the_chosen_penalty_costs_nothing_where_kernels_are_dense() -> None:
    tried = held_out([seen(0, of_sparse=False)], [seen(1, of_sparse=False)], DECAYS, 4)
    best = max(tried, key=lambda one: one[1])
    later = [seen(2, of_sparse=False)]
    count = len(later[0].times_s)
    plain, chosen = (log_likelihood(one[2].model, later) / count for one in (tried[0], best))
    assert chosen > plain - 0.002


def test_the_penalised_fit_still_expects_what_was_seen() -> None:
    got = fit([seen(3)], DECAYS, 6, penalty=2.0)
    expected = (design([seen(3)], DECAYS, 6).exposure * got.model.flat).sum(axis=1)
    assert expected == pytest.approx(got.counts, rel=1e-9)


def test_a_huge_penalty_leaves_the_poisson_process() -> None:
    got = fit([seen(0)], DECAYS, 6, penalty=1e6)
    assert got.kernels == 0
    assert got.log_likelihood == pytest.approx(got.poisson_log_likelihood)
    assert poisson([seen(0)], 6).base == pytest.approx(got.model.base)


def test_events_before_since_excite_but_do_not_count() -> None:
    """The likelihood of a record is that of its first part and of its second given the first."""
    whole, cut = seen(4), 1500.0
    n = int(np.searchsorted(whole.times_s, cut, side="right"))
    first = Record(whole.times_s[:n], whole.types[:n], 0.0, cut)
    second = replace(whole, since_s=cut)
    parts = log_likelihood(sparse(), [first]) + log_likelihood(sparse(), [second])
    assert parts == pytest.approx(log_likelihood(sparse(), [whole]), rel=1e-12)
    late = residuals(sparse(), second)
    for i, gaps in enumerate(residuals(sparse(), whole)):
        assert len(late[i]) == (whole.types[n:] == i).sum()
        assert late[i][1:] == pytest.approx(gaps[-len(late[i]) :][1:])


def test_intensities_are_those_of_the_definition() -> None:
    record = seen(5, seconds=50.0)
    found = intensities(sparse(), record)
    for k in (0, 3, len(record.times_s) - 1):
        since = record.times_s[k] - record.times_s[:k]
        for i in range(6):
            each = sparse().branching[i, record.types[:k]] * DECAYS * np.exp(-DECAYS * since[:, None])
            assert found[k, i] == pytest.approx(0.1 + each.sum())


def test_a_factor_weighs_the_branching_ratio_that_is_held_below_its_bound() -> None:
    """Kernels come out twice as large where a factor halves every intensity, and cause as many events."""
    record = seen(6)
    halved = replace(record, factor=np.full((len(record.times_s) + 1, 6), 0.5))
    one, two = fit([record], DECAYS, 6), fit([halved], DECAYS, 6)
    assert two.model.flat == pytest.approx(2 * one.model.flat, rel=1e-3, abs=1e-4)
    assert two.found_radius == pytest.approx(one.found_radius, rel=1e-3)


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        fit([seen(0)], DECAYS, 6, penalty=-1.0)
