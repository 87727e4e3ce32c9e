"""Verdicts: regions, p values, Holm's correction, and what makes a property present, absent or inconclusive."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from marsbench.stats.verdicts import (
    ABSENT,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    PAPER,
    PRESENT,
    STRICT,
    Estimate,
    Property,
    Row,
    holm,
    interval_verdict,
    jackknife,
    judge,
)

INF = np.inf


def number(value: float, error: float, dof: float = 30) -> Estimate:
    return Estimate(np.asarray(value), np.asarray(error), np.asarray(dof), "made up")


def row(key: str, bound: float = 0.1, **options) -> Row:
    return Row(key, key, "c", lambda c: c, ((bound, INF),), ((-INF, bound),), (STRICT,), **options)


def one(*rows: Row, key: str = "1.a") -> Property:
    return Property(1, key, "A", "a > 0.1", rows, rows[0].key, 0.1)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.3, HOLDS),
        (-0.1, 0.3, INCONCLUSIVE),
        (-0.3, -0.1, FAILS),
        (0.9, 1.2, INCONCLUSIVE),
        (1.1, 1.2, FAILS),
        (np.nan, np.nan, INCONCLUSIVE),
    ],
)
def test_an_interval_is_compared_with_a_region(low: float, high: float, verdict: str):
    assert interval_verdict(np.asarray(low), np.asarray(high), ((0, 1),)) == verdict


def test_of_several_numbers_all_must_hold_and_one_that_fails_decides():
    value = np.array([0.01, -0.2, 0.0])
    low, high = value - 0.02, value + 0.02
    assert interval_verdict(low, high, ((-0.05, 0.05),)) == FAILS
    assert interval_verdict(low[:1], high[:1], ((-0.05, 0.05),)) == HOLDS
    assert interval_verdict(low[1:2], high[1:2], ((-INF, -0.05), (0.05, INF))) == HOLDS


def test_intervals_and_p_are_students():
    found = number(0.3, 0.1, 9)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 9, 0.3, 0.1))
    assert found.p_outside(((0.1, INF),))[0] == pytest.approx(stats.t.sf(2, 9))
    assert found.p_outside(((-INF, 0.1),))[0] == pytest.approx(stats.t.cdf(2, 9))
    # a band is two one-sided tests, of which the worse counts; of two half lines the better one, twice
    assert found.p_outside(((0.0, 0.5),))[0] == pytest.approx(stats.t.cdf(-2, 9))
    assert found.p_outside(((-INF, -0.1), (0.1, INF)))[0] == pytest.approx(2 * stats.t.sf(2, 9))
    assert number(np.nan, np.nan).p_outside(((0, INF),))[0] == 1
    assert number(1.0, 0.0).p_outside(((0, INF),))[0] == 1  # no spread at all is no evidence


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).random(11) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    assert holm([0.01]) == [0.01]


def test_the_jackknife_of_a_mean_is_the_standard_error_of_the_mean():
    x = np.random.default_rng(1).standard_normal(12)
    found = jackknife(lambda w: w @ x / w.sum(axis=1), 12)
    assert float(found.error) == pytest.approx(stats.sem(x))
    assert float(found.dof) == 11
    assert np.isnan(jackknife(lambda w: w @ x[:1], 1).error)


def test_present_absent_and_inconclusive():
    prop = one(row("a"))
    for value, word in ((0.5, PRESENT), (-0.2, ABSENT), (0.12, INCONCLUSIVE)):
        found = judge([prop], {"a": number(value, 0.05)}, minutes=25)["1.a"]
        assert found.verdict == word
        assert (found.reason is None) == (word != INCONCLUSIVE)
        assert found.value == value


def test_every_row_must_be_there_for_presence_and_one_suffices_for_absence():
    prop = one(row("a"), row("b"))
    found = judge([prop], {"a": number(0.5, 0.05), "b": number(0.12, 0.05)}, minutes=25)["1.a"]
    assert found.verdict == INCONCLUSIVE
    found = judge([prop], {"a": number(0.5, 0.05), "b": number(-0.2, 0.05)}, minutes=25)["1.a"]
    assert found.verdict == ABSENT
    assert found.p_absent == pytest.approx(2 * stats.t.cdf(-6, 30))  # Bonferroni over the two rows


def test_holms_correction_is_over_all_that_are_judged():
    many = [one(row(f"r{i}"), key=f"{i}.x") for i in range(11)]
    found = {f"r{i}": number(0.1 + 0.05 * 2.3, 0.05) for i in range(11)}  # p = .014 each
    assert {v.verdict for v in judge(many, found, minutes=25).values()} == {INCONCLUSIVE}
    assert judge(many[:1], found, minutes=25)["0.x"].verdict == PRESENT


def test_what_a_window_is_too_short_for_is_not_judged():
    prop = one(row("a", least_minutes=200))
    found = judge([prop], {"a": number(0.5, 0.01)}, minutes=25)["1.a"]
    assert found.verdict == INCONCLUSIVE
    assert found.p is None
    assert "needs 200" in str(found.reason)
    assert judge([prop], {"a": number(0.5, 0.01)}, minutes=240)["1.a"].verdict == PRESENT
    assert judge([prop], {"a": number(0.5, 0.01)}, minutes=240, form=PAPER)["1.a"].verdict == INCONCLUSIVE


def test_a_missing_number_is_inconclusive_with_a_reason():
    found = judge([one(row("a"))], {"a": number(np.nan, np.nan)}, minutes=25)["1.a"]
    assert found.verdict == INCONCLUSIVE
    assert "missing" in str(found.reason)
