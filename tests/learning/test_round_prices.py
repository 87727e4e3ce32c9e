"""Round prices, against a search through all prices of a slot."""

from __future__ import annotations

import numpy as np
import pytest

from marsbench.learning.round_prices import STEPS, classes, round_price


def test_a_price_belongs_to_the_largest_step_that_divides_it() -> None:
    assert STEPS == (100, 50, 10, 5, 1)
    prices = [100, 4200, 50, 150, 10, 3990, 5, 1785, 1, 99, 101]
    assert classes(prices).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


def slow(price: int, low: int, high: int, step: int) -> int:
    """The nearest price of that step between the bounds; of two the lower one; the price itself if there is none."""
    there = [p for p in range(low, high + 1) if classes(p) == step]
    return min(there, key=lambda p: (abs(p - price), p), default=price)


@pytest.mark.parametrize("wide", [0, 3, 12, 60, 400])
def test_rounding_finds_the_nearest_price_of_the_step_within_the_slot(wide: int) -> None:
    rng, count = np.random.default_rng(wide), 2000
    low = rng.integers(1, 2000, count)
    high = low + rng.integers(0, wide + 1, count)
    price, step = rng.integers(low, high + 1), rng.integers(0, len(STEPS), count)
    for row in zip(price.tolist(), low.tolist(), high.tolist(), step.tolist(), strict=True):
        assert round_price(*row) == slow(*row)


def test_a_price_outside_its_slot_is_brought_in_or_left() -> None:
    assert round_price(7, 10, 30, 2) == 10
    assert round_price(7, 11, 19, 2) == 7
    assert round_price(95, 20, 40, 3) == 35
