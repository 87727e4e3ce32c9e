"""Factors of market impact: worked by hand, edge cases, errors, and which of them foretell."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "metrics"))
from impact_of_arrays import impact_runs

from marsbench.stats.impact_factors import (
    FACTORS,
    FLAT_TICKS,
    PAPER,
    imbalance,
    lob_depth,
    lob_pressure,
    resiliency,
    sides,
)

RUNS = impact_runs(starts=6)


def test_resiliency_is_one_less_the_logarithm_of_the_momentum() -> None:
    mids = np.array([[1010.0, 1030.0, 1000.0]])
    assert resiliency(mids) == pytest.approx(1 - np.log(0.02))
    assert resiliency(mids, weights=[0.75, 0.25]) == pytest.approx(1 - np.log(0.015))
    assert resiliency(2000 - mids) == pytest.approx(resiliency(mids))  # down as up


def test_a_flat_mid_is_as_resilient_as_a_tenth_of_a_tick() -> None:
    flat = resiliency(np.full((1, 11), 5000.0))
    assert flat == pytest.approx(1 - np.log(FLAT_TICKS / 5000))
    less = np.full((1, 11), 5000.0)
    less[0, 0] += 0.5  # half a tick in one of ten minutes: a twentieth of a tick
    assert resiliency(less) == flat
    assert resiliency(np.full((1, 11), 5000.0) + np.arange(11)) < flat


def test_resiliency_has_the_range_of_figure_9a_where_prices_move_by_tenths_of_a_percent() -> None:
    moved = 10_000 * np.exp(2e-3 * np.random.default_rng(0).standard_normal((500, 31)).cumsum(axis=1))
    assert 4 < np.median(resiliency(moved)) < 8


def test_a_mid_that_is_missing_leaves_no_resiliency() -> None:
    mids = np.full((2, 5), 100.0)
    mids[1, 0] = np.nan
    assert np.isnan(resiliency(mids)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("mids", "weights", "words"),
    [
        (np.ones(5), None, "shape"),
        (np.ones((3, 2)), None, "shape"),
        (np.zeros((1, 5)), None, "positive"),
        (np.ones((1, 5)), [0.5, 0.5], "4 earlier minutes"),
        (np.ones((1, 3)), [1.0, 0.0], r"\(0, 1\)"),
        (np.ones((1, 3)), [0.6, 0.6], "sum to 1"),
    ],
)
def test_mids_and_weights_that_make_no_resiliency_are_refused(mids: np.ndarray, weights: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resiliency(mids, weights=weights)  # type: ignore[arg-type]


def test_pressure_is_the_share_traded_times_the_imbalance() -> None:
    half = (0.5 * 100 / 400 + 0.5 * 100 / 200) * 200 / 400
    assert lob_pressure([100], [300], [100]) == pytest.approx(half)
    ask_only = (0.9 * 100 / 400 + 0.1 * 100 / 200) * 200 / 400
    assert lob_pressure([100], [300], [100], alpha=0.9) == pytest.approx(ask_only)


def test_pressure_where_something_is_empty() -> None:
    found = lob_pressure([0, 100, 100, 100, 0], [300, 0, 0, 100, 0], [100, 100, 0, 100, 100])
    assert found[0] == 0  # nothing traded
    assert found[1] == pytest.approx(0.5 * 1 + 0.5 * 0.5)  # an empty side counts as traded whole
    assert np.isnan(found[2])  # no book, no imbalance
    assert found[3] == 0  # an even book
    assert found[4] == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6), st.floats(0.01, 0.99))
def test_pressure_lies_in_0_to_1_and_grows_with_what_is_traded(traded: int, ask: int, bid: int, alpha: float) -> None:
    one, more = lob_pressure([traded, 2 * traded + 1], [ask, ask], [bid, bid], alpha=alpha)
    assert 0 <= one <= more <= 1


def test_depth_is_the_logarithm_of_the_mean() -> None:
    assert lob_depth([300], [100]) == pytest.approx(np.log(200))
    assert lob_depth([300], [100], beta=0.25) == pytest.approx(np.log(150))
    assert lob_depth([0], [100]) == pytest.approx(np.log(50))
    assert np.isnan(lob_depth([0], [0]))[0]


def test_weights_outside_0_to_1_and_negative_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must lie"):
        lob_pressure([1], [1], [1], alpha=1.0)
    with pytest.raises(ValueError, match="beta must lie"):
        lob_depth([1], [1], beta=0.0)
    with pytest.raises(ValueError, match="ask_shares must not be negative"):
        lob_depth([-1], [1])
    with pytest.raises(ValueError, match="executed_shares must not be negative"):
        lob_pressure([-1], [1], [1])


def test_imbalance_of_nothing_is_missing() -> None:
    assert imbalance([3, 0], [1, 0]) == pytest.approx([0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_is_one_finite_number_for_each_metaorder(name: str) -> None:
    values = FACTORS[name].compute(RUNS, RUNS.own)
    assert values.shape == RUNS.start.shape
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", FACTORS)
def test_a_predictive_factor_does_not_know_what_happened_after_the_start(name: str) -> None:
    later = replace(
        RUNS.own, executed_shares=RUNS.own.executed_shares // 2 + 1, window_shares=RUNS.own.window_shares * 3
    )
    same = np.array_equal(FACTORS[name].compute(RUNS, RUNS.own), FACTORS[name].compute(RUNS, later))
    assert same == FACTORS[name].predictive


@pytest.mark.parametrize("name", FACTORS)
def test_factors_with_a_direction_change_sign_with_the_side_of_the_agent(name: str) -> None:
    other = replace(RUNS, side=-RUNS.side)
    one, turned = (FACTORS[name].compute(runs, runs.own) for runs in (RUNS, other))
    if name.startswith(("return", "flow", "book_imbalance")):
        assert turned == pytest.approx(-one)
    elif "ahead" in name:
        assert turned == pytest.approx(FACTORS[name.replace("ahead", "behind")].compute(RUNS, RUNS.own))
    elif "behind" not in name:
        assert turned == pytest.approx(one)


def test_the_three_of_mars_are_the_functions_of_all_ten_levels() -> None:
    ask, bid = (side.sum(axis=1)[RUNS.start] for side in (RUNS.before.ask_shares, RUNS.before.bid_shares))
    assert set(PAPER) == {"resiliency", "lob_pressure", "lob_depth"}
    assert PAPER["lob_depth"].compute(RUNS, RUNS.own) == pytest.approx(lob_depth(ask, bid))
    pressure = lob_pressure(RUNS.own.executed_shares, ask, bid)
    assert PAPER["lob_pressure"].compute(RUNS, RUNS.own) == pytest.approx(pressure)
    of_target = FACTORS["lob_pressure_target"].compute(RUNS, RUNS.own)
    assert of_target == pytest.approx(lob_pressure(RUNS.target_shares, ask, bid))
    assert not PAPER["lob_pressure"].predictive


def test_ahead_of_a_buyer_are_the_asks() -> None:
    ahead, behind = sides(RUNS, 1)
    buys = RUNS.side > 0
    assert np.array_equal(ahead[buys], RUNS.before.ask_shares[RUNS.start[buys], 0])
    assert np.array_equal(behind[buys], RUNS.before.bid_shares[RUNS.start[buys], 0])


def test_too_short_a_history_leaves_a_factor_missing_and_a_quiet_minute_leans_nowhere() -> None:
    short = impact_runs(starts=4, minutes_before=4)
    assert np.isnan(FACTORS["return_5m"].compute(short, short.own)).all()
    assert np.isfinite(FACTORS["return_1m"].compute(short, short.own)).all()
    before = RUNS.before
    quiet = replace(
        RUNS, before=replace(before, traded_shares=0 * before.traded_shares, signed_shares=0 * before.orders)
    )
    assert not FACTORS["flow_10m"].compute(quiet, quiet.own).any()
