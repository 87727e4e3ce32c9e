"""Drawing slots: frequencies, nuclei, what is possible, and paired draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsbench.learning.sampling import Sampling, allowed, pick

WEIGHTS = st.lists(st.sampled_from([0.0, 0.0, 0.125, 0.25, 1.0, 3.0]), min_size=1, max_size=8).filter(any)
LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=12)
SHARES = st.floats(0.01, 1)


def slow_pick(weights: list[float], uniform: float) -> int:
    """The first slot whose cumulated weight is more than the uniform's share, and that has some."""
    total = 0.0
    for slot, weight in enumerate(weights):
        total += weight
        if weight > 0 and total > uniform * sum(weights):
            return slot
    raise AssertionError("a uniform below 1 has a slot")


def slow_probabilities(logits: list[float], temperature: float, top_p: float) -> list[float]:
    scaled = [np.exp((x - max(logits)) / temperature) for x in logits]
    p = [x / sum(scaled) for x in scaled]
    kept, reached = [0.0] * len(p), 0.0
    for slot in sorted(range(len(p)), key=lambda slot: -p[slot]):
        if reached >= top_p:
            break
        kept[slot] = p[slot]
        reached += p[slot]
    return [x / sum(kept) for x in kept]


@settings(deadline=None)  # the first call compiles
@given(WEIGHTS, st.floats(2**-54, 1 - 2**-53))
def test_a_draw_is_that_of_the_slow_twin(weights: list[float], uniform: float) -> None:
    found = int(pick(np.array([weights]), np.array([uniform]))[0])
    assert found == slow_pick(weights, uniform)


@settings(deadline=None)  # the first call compiles
@given(WEIGHTS, st.floats(2**-54, 1 - 2**-53))
def test_a_slot_without_weight_is_never_drawn_however_extreme_the_uniform(weights: list[float], uniform: float) -> None:
    for u in (uniform, 2**-54, 1 - 2**-53):
        assert weights[int(pick(np.array([weights]), np.array([u]))[0])] > 0


def test_evenly_spaced_uniforms_draw_each_slot_in_proportion_to_its_weight() -> None:
    uniforms = (np.arange(1000) + 0.5) / 1000
    weights = np.tile([0.0, 2.0, 0.0, 1.0, 5.0, 0.0], (1000, 1))
    assert np.bincount(pick(weights, uniforms), minlength=6).tolist() == [0, 250, 0, 125, 625, 0]


def test_equal_uniforms_draw_neighbouring_slots_where_probabilities_hardly_differ() -> None:
    uniforms = np.random.default_rng(0).random(500)
    one, other = (np.tile(w, (500, 1)) for w in ([0.2, 0.3, 0.5], [0.21, 0.3, 0.49]))
    assert (pick(one, uniforms) != pick(other, uniforms)).mean() < 0.03


@settings(deadline=None)  # the first call compiles
@given(LOGITS, st.floats(0.1, 4), SHARES)
def test_probabilities_are_those_of_the_slow_twin(logits: list[float], temperature: float, top_p: float) -> None:
    found = Sampling(temperature, top_p).probabilities(np.array([logits]))[0]
    np.testing.assert_allclose(found, slow_probabilities(logits, temperature, top_p), atol=1e-9)


@settings(deadline=None)  # the first call compiles
@given(LOGITS, SHARES)
def test_a_nucleus_is_the_fewest_slots_that_reach_the_share(logits: list[float], top_p: float) -> None:
    whole, nucleus = (Sampling(1.0, share).probabilities(np.array([logits]))[0] for share in (1.0, top_p))
    inside = nucleus > 0
    assert inside.any()
    assert whole[inside].sum() >= min(top_p, 1) - 1e-9
    assert whole[inside].sum() - whole[inside].min() < top_p + 1e-9
    if not inside.all() and top_p < 1:
        assert whole[~inside].max() <= whole[inside].min()


def test_of_equally_likely_slots_a_nucleus_keeps_the_first_ones() -> None:
    found = Sampling(1.0, 0.5).probabilities(np.zeros((2, 4)))
    assert found.tolist() == [[0.5, 0.5, 0, 0]] * 2


def test_the_default_is_the_models_own_distribution_and_impossible_slots_stay_so() -> None:
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.9, 1.0]])
    logits[1, 2] = -np.inf
    np.testing.assert_allclose(Sampling().probabilities(logits), [[0.5, 0.25, 0.25], [0.1, 0.9, 0]])


def test_a_low_temperature_draws_the_likeliest_and_a_high_one_anything() -> None:
    logits = np.array([[1.0, 2.0, 1.5]])
    assert Sampling(1e-3).probabilities(logits).round(6).tolist() == [[0, 1, 0]]
    np.testing.assert_allclose(Sampling(1e3).probabilities(logits), 1 / 3, atol=1e-3)


def test_what_is_possible_keeps_its_probabilities_and_the_rest_is_counted_as_lost() -> None:
    p = np.array([[0.5, 0.2, 0.3], [0.0, 0.0, 1.0]])
    kept, lost = allowed(p, np.array([[True, False, True], [True, True, True]]))
    assert kept.tolist() == [[0.5, 0, 0.3], [0, 0, 1]]
    assert lost == pytest.approx([0.2, 0])


def test_where_nothing_possible_has_any_probability_all_that_is_possible_is_equally_likely() -> None:
    kept, lost = allowed(np.array([[0.0, 0.0, 1.0]]), np.array([[True, True, False]]))
    assert kept.tolist() == [[1, 1, 0]]
    assert lost.tolist() == [1]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_an_error(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature .*: write a number above 0"):
        Sampling(temperature)


@pytest.mark.parametrize("top_p", [0.0, 1.1, float("nan")])
def test_a_nucleus_of_nothing_or_of_more_than_all_is_an_error(top_p: float) -> None:
    with pytest.raises(ValueError, match=r"top_p .*: write a number above 0 and at most 1"):
        Sampling(top_p=top_p)
