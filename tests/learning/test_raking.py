"""Biases by raking: planted ones are found again, up to what frequencies cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from marsbench.learning.raking import MOST, Draws, apart, rake

SLOTS = 4
N = 60_000


def drawn(seed: int = 0, n: int = N) -> Draws:
    """Two partitions, of three cells and of two, that depend on one another."""
    rng = np.random.default_rng(seed)
    first = rng.integers(3, size=n)
    second = (first + rng.integers(3, size=n)) % 2
    logits = rng.normal(size=(n, SLOTS)).astype(np.float32)
    return Draws(np.stack([first, 3 + second], 1).astype(np.int32), logits)


def probabilities(draws: Draws, bias: NDArray[np.float64]) -> NDArray[np.float64]:
    weighed = draws.logits + bias[draws.cells].sum(axis=1)
    p = np.exp(weighed - weighed.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def counts(draws: Draws, bias: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often each slot comes in each cell, the slow way."""
    out = np.zeros((5, SLOTS))
    for cells, p in zip(draws.cells, probabilities(draws, bias), strict=True):
        for cell in cells:
            out[cell] += p
    return out


PLANTED = np.random.default_rng(5).normal(scale=0.7, size=(5, SLOTS))


def test_shares_are_those_of_a_loop_over_draws() -> None:
    draws = drawn(n=500)
    slow = counts(draws, PLANTED)
    for partition, cells in ((0, range(3)), (1, range(3, 5))):
        share, count = draws.shares(PLANTED, partition)
        for cell in range(5):
            inside = cell in cells
            assert count[cell] == pytest.approx(slow[cell].sum() if inside else 0.0)
            if inside:
                np.testing.assert_allclose(share[cell], slow[cell] / slow[cell].sum())


def test_planted_biases_are_found_from_frequencies() -> None:
    draws = drawn()
    wanted = 1000.0 * counts(draws, PLANTED)  # as if training were much larger
    nothing = np.zeros_like(PLANTED)
    before = apart(draws, wanted, nothing)
    found = nothing
    for _ in range(5):
        found = rake(draws, wanted, found)
    assert before > 0.1
    assert apart(draws, wanted, found) < 0.002
    np.testing.assert_allclose(probabilities(draws, found), probabilities(draws, PLANTED), atol=0.02)


def test_what_nobody_knows_and_what_cannot_be_drawn_is_left_alone() -> None:
    draws = drawn()
    draws.logits[:, 3] = -np.inf
    wanted = counts(draws, PLANTED)
    wanted[1] = 0.0
    found = rake(draws, wanted, np.zeros_like(PLANTED))
    assert (found[1] == 0).all()
    assert np.isfinite(found).all()
    assert (found[0] != 0).any()


def test_biases_stay_small_where_there_is_little_to_go_by_and_bounded_where_there_is_much() -> None:
    few = drawn(n=20)
    wanted = np.zeros((5, SLOTS))
    wanted[:, 0] = 1e6
    assert np.abs(rake(few, wanted, np.zeros_like(wanted))).max() < 0.5
    found = np.zeros_like(wanted)
    for _ in range(5):
        found = rake(drawn(), wanted, found)
    assert np.abs(found).max() == MOST


def test_draws_are_joined_in_their_order() -> None:
    a, b = drawn(1, 10), drawn(2, 5)
    both = Draws.joined([a, b])
    np.testing.assert_array_equal(both.cells, np.concatenate([a.cells, b.cells]))
    np.testing.assert_array_equal(both.logits, np.concatenate([a.logits, b.logits]))
