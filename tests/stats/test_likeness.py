"""Same as in replay, different or inconclusive: margins, Holm's correction, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from marsbench.stats.likeness import DIFFERENT, SAME, alike
from marsbench.stats.verdicts import INCONCLUSIVE, STRICT, Estimate, Property, Row


def number(value: float | list[float], error: float, dof: float = 30) -> Estimate:
    value = np.asarray(value, np.float64)
    return Estimate(value, np.full(value.shape, error), np.full(value.shape, dof), "made up")


def one(key: str = "1.a", margin: float = 0.1, **options) -> Property:
    row = Row(key, key, "c", lambda c: c, ((0.1, np.inf),), None, (STRICT,), **options)
    return Property(1, key, "A", "a > .1", (row,), key, margin)


@pytest.mark.parametrize(
    ("difference", "error", "word"),
    [(0.0, 0.02, SAME), (0.05, 0.01, SAME), (0.3, 0.05, DIFFERENT), (0.05, 0.05, INCONCLUSIVE), (0.0, 0.0, SAME)],
)
def test_a_difference_is_held_to_its_margin(difference: float, error: float, word: str):
    found = alike([one()], {"1.a": number(difference, error)}, minutes=25)["1.a"]
    assert found.verdict == word
    assert (found.reason is None) == (word != INCONCLUSIVE)
    assert found.difference == difference


def test_p_values_are_those_of_students_t():
    found = alike([one()], {"1.a": number(0.05, 0.04)}, minutes=25)["1.a"]
    assert found.p == pytest.approx(2 * stats.t.sf(1.25, 30))
    assert found.p_same == pytest.approx(stats.t.cdf(-1.25, 30))


def test_of_several_numbers_one_that_differs_decides_and_all_must_be_the_same():
    several = alike([one()], {"1.a": number([0.0, 0.0, 0.4], 0.05)}, minutes=25)["1.a"]
    assert several.verdict == DIFFERENT
    assert several.p == pytest.approx(3 * 2 * stats.t.sf(8, 30))
    assert alike([one()], {"1.a": number([0.0, 0.0, 0.08], 0.05)}, minutes=25)["1.a"].verdict == INCONCLUSIVE


def test_holms_correction_is_over_all_that_are_compared():
    many = [one(f"{i}.x") for i in range(11)]
    found = alike(many, {f"{i}.x": number(0.25, 0.1) for i in range(11)}, minutes=25)  # p = .018 each
    assert {f.verdict for f in found.values()} == {INCONCLUSIVE}
    assert alike(many[:1], {"0.x": number(0.25, 0.1)}, minutes=25)["0.x"].verdict == DIFFERENT


def test_short_windows_and_missing_numbers_are_inconclusive_with_a_reason():
    short = alike([one(least_minutes=200)], {"1.a": number(0.5, 0.01)}, minutes=25)["1.a"]
    missing = alike([one()], {}, minutes=25)["1.a"]
    nothing = alike([one()], {"1.a": number(np.nan, np.nan)}, minutes=25)["1.a"]
    assert [f.verdict for f in (short, missing, nothing)] == [INCONCLUSIVE] * 3
    assert "needs 200" in str(short.reason)
    assert "missing" in str(missing.reason)
    assert "missing" in str(nothing.reason)
    assert short.p is missing.p is None
