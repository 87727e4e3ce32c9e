"""Hawkes processes: the compiled likelihood against a slow twin, recovery, residuals, clustering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from marsbench.stats.hawkes import (
    FLAT,
    Hawkes,
    Record,
    Season,
    design,
    log_likelihood,
    log_likelihood_and_gradient,
    residuals,
    season_integral,
    simulate,
    wait,
)
from marsbench.stats.hawkes_fit import MOST_BRANCHING, fit
from marsbench.stats.oracles import hawkes_times

ONE = Hawkes(np.array([1.0]), np.array([[[0.5]]]), np.array([1.0]))
"""mu = 1, alpha = .5, beta = 1: rate 2 per second."""
TWO = Hawkes(
    np.array([0.6, 0.3]), np.array([[[0.1, 0.2], [0.0, 0.3]], [[0.3, 0.0], [0.05, 0.1]]]), np.array([4.0, 0.5])
)
UP_AND_DOWN = Season(50.0, np.array([1.5, 0.5, 1.0]))


def slow_intensity(model: Hawkes, record: Record, season: Season, i: int, now: float, before: int) -> float:
    """The definition, over events 0 .. before - 1."""
    bin_ = min(int(now // season.width_s), len(season.values) - 1)
    total = model.base[i] * season.values[bin_]
    for t, j in zip(record.times_s[:before], record.types[:before], strict=True):
        total += (model.branching[i, j] * model.decays * np.exp(-model.decays * (now - t))).sum()
    return float(total)


def slow_log_likelihood(model: Hawkes, record: Record, season: Season) -> float:
    """Every pair of events; stretches between events are cut at the season's edges and integrated in closed form."""
    factor = np.ones((len(record.times_s) + 1, len(model.base))) if record.factor is None else record.factor
    value = 0.0
    edges = [season.width_s * k for k in range(1, len(season.values))]
    stops = np.concatenate([[record.start_s], record.times_s, [record.end_s]])
    for k in range(len(record.times_s) + 1):
        inner = [e for e in edges if stops[k] < e < stops[k + 1]]
        for low, high in zip([stops[k], *inner], [*inner, stops[k + 1]], strict=True):
            level = season.values[min(int((low + high) / 2 // season.width_s), len(season.values) - 1)]
            for i in range(len(model.base)):
                value -= factor[k, i] * model.base[i] * level * (high - low)
                for t, j in zip(record.times_s[:k], record.types[:k], strict=True):
                    since = np.exp(-model.decays * (low - t)) - np.exp(-model.decays * (high - t))
                    value -= factor[k, i] * (model.branching[i, j] * since).sum()
        if k < len(record.times_s):
            kind = int(record.types[k])
            value += np.log(factor[k, kind] * slow_intensity(model, record, season, kind, record.times_s[k], k))
    return value


def some_record(seed: int, events: int = 30, kinds: int = 2, end: float = 140.0) -> Record:
    """Events that follow no model, two of them at the same time, with factors that are now and then 0."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, end, events))
    times[-1] = times[-2]
    types = rng.integers(0, kinds, events)
    factor = rng.uniform(0.5, 2.0, (events + 1, kinds)) * (rng.random((events + 1, kinds)) < 0.8)
    factor[np.arange(events), types] = 1.5
    return Record(times, types, 0.0, end, factor)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_compiled_likelihood_equals_its_slow_twin(seed: int) -> None:
    record = some_record(seed)
    fast = log_likelihood(TWO, [record], UP_AND_DOWN)
    assert fast == pytest.approx(slow_log_likelihood(TWO, record, UP_AND_DOWN), rel=1e-10)


def test_the_gradient_equals_finite_differences() -> None:
    records = [some_record(1), some_record(2)]
    _, gradient = log_likelihood_and_gradient(TWO, records, UP_AND_DOWN)
    theta = TWO.flat
    for i, p in np.ndindex(*theta.shape):
        sides = []
        for step in (1e-6, -1e-6):
            moved = theta.copy()
            moved[i, p] += step
            model = Hawkes(moved[:, 0], moved[:, 1:].reshape(2, 2, 2), TWO.decays)
            sides.append(log_likelihood(model, records, UP_AND_DOWN))
        assert gradient[i, p] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-5)


def test_the_log_likelihood_is_concave() -> None:
    record, other = some_record(3), replace(TWO, base=TWO.base * 3, branching=TWO.branching[::-1] * 0.5)
    middle = replace(TWO, base=(TWO.base + other.base) / 2, branching=(TWO.branching + other.branching) / 2)
    ends = (log_likelihood(TWO, [record]) + log_likelihood(other, [record])) / 2
    assert log_likelihood(middle, [record]) > ends


@settings(max_examples=50, deadline=None)
@given(
    st.floats(1e-6, 20),
    st.just(0.0) | st.floats(1e-3, 2),
    st.floats(0, 30),
    st.floats(0, 30),
    st.floats(0, 200),
)
def test_the_waiting_time_uses_up_the_hazard(hazard: float, base: float, a: float, b: float, now: float) -> None:
    decays, excited = np.array([5.0, 0.02]), np.array([a, b])
    season = (UP_AND_DOWN.values, UP_AND_DOWN.width_s)
    seconds = wait(hazard, base, excited, decays, *season, now)
    ever = (excited / decays).sum()
    if not np.isfinite(seconds):
        assert base == 0
        assert ever <= hazard
        return
    spent = base * season_integral(*season, now, now + seconds)
    spent += (excited / decays * (1 - np.exp(-decays * seconds))).sum()
    assert spent == pytest.approx(hazard, rel=1e-6, abs=1e-8)


def test_simulated_rates_are_the_stationary_ones() -> None:
    record = simulate(TWO, 20_000, np.random.default_rng(0))
    rates = np.bincount(record.types, minlength=2) / 20_000
    assert rates == pytest.approx(TWO.stationary_rates(), rel=0.06)


def test_one_type_is_recovered_within_standard_errors() -> None:
    """From cluster simulation, which shares no code with the fit; the mean over seeds has little error of its own."""
    found = []
    for seed in range(10):
        times = hawkes_times(3000, np.random.default_rng(seed), rate=2.0, branching=0.5, decay=1.0)
        got = fit([Record(times, np.zeros(len(times), np.int64), 0.0, 3000.0)], ONE.decays, 1)
        assert got.converged
        found.append(got.model.flat[0])
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - [1.0, 0.5]) < 3.5 * error).all()
    assert (error < [0.04, 0.02]).all()


def test_two_types_and_two_decay_rates_are_recovered_within_standard_errors() -> None:
    records = [simulate(TWO, 4000, np.random.default_rng(seed)) for seed in range(10)]
    found = [fit([record], TWO.decays, 2).model.flat for record in records]
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    away = np.abs(np.mean(found, axis=0) - TWO.flat)
    positive = TWO.flat > 0
    assert (away[positive] < 3.5 * error[positive]).all()
    assert (away[~positive] < 0.03).all(), "a kernel that is 0 lies on the bound: its estimates are 0 or more"


def test_the_expected_number_of_events_is_the_observed_one() -> None:
    record = simulate(TWO, 2000, np.random.default_rng(3))
    got = fit([record], TWO.decays, 2)
    expected = (design([record], TWO.decays, 2).exposure * got.model.flat).sum(axis=1)
    assert expected == pytest.approx(got.counts, rel=1e-9)


def test_no_model_near_the_fitted_one_is_likelier() -> None:
    record = simulate(TWO, 2000, np.random.default_rng(4))
    got = fit([record], TWO.decays, 2)
    assert got.log_likelihood == pytest.approx(log_likelihood(got.model, [record]))
    assert got.log_likelihood > max(log_likelihood(TWO, [record]), got.poisson_log_likelihood)
    rng = np.random.default_rng(0)
    for _ in range(20):
        near = got.model.flat * np.exp(0.05 * rng.standard_normal((2, 5)))
        model = Hawkes(near[:, 0], near[:, 1:].reshape(2, 2, 2), TWO.decays)
        assert log_likelihood(model, [record]) < got.log_likelihood + 1e-3


def test_a_mirror_makes_the_two_sides_alike() -> None:
    record = simulate(TWO, 1000, np.random.default_rng(5))
    got = fit([record], TWO.decays, 2, mirror=np.array([1, 0])).model
    assert got.base[0] == got.base[1]
    assert np.array_equal(got.branching[::-1, ::-1], got.branching)
    flipped = fit([replace(record, types=1 - record.types)], TWO.decays, 2, mirror=np.array([1, 0])).model
    assert flipped.flat == pytest.approx(got.flat, rel=1e-3, abs=1e-4)


def test_times_when_a_type_is_impossible_do_not_lower_its_rate() -> None:
    """Events fall only into every other ten seconds; counted over those, the rate is that of a Poisson process."""
    rng = np.random.default_rng(6)
    times = np.sort(rng.uniform(0, 20_000, 10_000))
    times = times[times % 20 < 10]
    marks = np.arange(10, 20_000, 10.0)
    both = np.sort(np.concatenate([times, marks]))
    types = np.isin(both, marks).astype(np.int64)
    after = np.concatenate([[0.0], both])
    possible = np.stack([after % 20 < 10, np.ones(len(after), bool)], axis=1)
    got = fit([Record(both, types, 0.0, 20_000.0, possible)], np.array([1.0]), 2)
    rate = got.model.base[0]
    assert rate == pytest.approx(0.5, rel=0.1)
    assert len(times) / 20_000 == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("fitted", [False, True])
def test_rescaled_times_are_exponential_under_the_right_model(fitted: bool) -> None:
    for seed in range(3):
        record = simulate(TWO, 3000, np.random.default_rng(10 + seed), season=Season(1000.0, np.array([0.5, 1.5, 1.0])))
        season = Season(1000.0, np.array([0.5, 1.5, 1.0]))
        model = fit([record], TWO.decays, 2, season=season).model if fitted else TWO
        for values in residuals(model, record, season):
            assert kstest(values, "expon").pvalue > 1e-3


def test_rescaled_times_are_not_exponential_under_a_poisson_model() -> None:
    record = simulate(TWO, 3000, np.random.default_rng(10))
    rates = np.bincount(record.types) / 3000
    poisson = Hawkes(rates, np.zeros_like(TWO.branching), TWO.decays)
    for values in residuals(poisson, record):
        assert kstest(values, "expon").pvalue < 1e-4


def test_counts_are_clustered_as_the_branching_ratio_says() -> None:
    record = simulate(ONE, 200_000, np.random.default_rng(7))
    counts = np.histogram(record.times_s, np.arange(0, 200_001, 50))[0]
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.1)


def test_an_explosive_process_is_reported_and_scaled_back() -> None:
    model = Hawkes(np.array([1.0]), np.array([[[1.05]]]), np.array([1.0]))
    record = simulate(model, 1e6, np.random.default_rng(2), most=20_000)
    assert len(record.times_s) == 20_000
    got = fit([record], model.decays, 1)
    assert got.found_radius >= 1
    assert got.scaled == pytest.approx(MOST_BRANCHING / got.found_radius)
    assert got.model.radius == pytest.approx(MOST_BRANCHING)
    expected = (design([record], model.decays, 1).exposure * got.model.flat).sum()
    assert expected == pytest.approx(20_000, rel=1e-6)
    with pytest.raises(ValueError, match=r"1\.05"):
        model.stationary_rates()


def test_a_rare_type_gets_a_baseline_alone() -> None:
    record = simulate(ONE, 500, np.random.default_rng(8))
    types = np.zeros(len(record.times_s), np.int64)
    types[::100] = 1
    got = fit([replace(record, types=types)], ONE.decays, 3).model
    assert (got.branching[1:] == 0).all()
    assert got.base[1] == pytest.approx((types == 1).sum() / 500)
    assert got.base[2] == 0


def test_bad_data_are_refused() -> None:
    good = Record(np.array([1.0, 2.0]), np.array([0, 1]), 0.0, 3.0)
    for bad, words in (
        (replace(good, times_s=good.times_s[::-1]), "ascend"),
        (replace(good, end_s=1.5), "ascend within"),
        (replace(good, types=np.array([0, 2])), r"types in 0 \.\. 1"),
        (replace(good, types=np.array([0])), "as many types"),
    ):
        with pytest.raises(ValueError, match=words):
            design([bad], TWO.decays, 2)
    with pytest.raises(ValueError, match="mirror"):
        fit([good], TWO.decays, 2, mirror=np.array([1, 1]))
    with pytest.raises(ValueError, match="no events"):
        fit([Record(np.zeros(0), np.zeros(0, np.int64), 0.0, 1.0)], TWO.decays, 2, season=FLAT)
