"""Round prices: traders prefer multiples of ten and of a hundred ticks, which distances from a quote do not show.

A price belongs to the largest step that divides it. How often each step comes is known for every price slot of new
orders; decoding draws the step beside the distance, and takes the nearest price of that step within the slot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

STEPS = (100, 50, 10, 5, 1)
"""In ticks, each a multiple of a later one."""
_STEPS = np.array(STEPS)


def classes(price_ticks: Any) -> Ints:
    """Which of ``STEPS`` each price belongs to, by number."""
    return np.asarray((np.asarray(price_ticks, np.int64)[..., None] % _STEPS == 0).argmax(axis=-1))


@njit(cache=True)
def _step_of(price):  # type: ignore[no-untyped-def]
    """Number of the largest step that divides a price."""
    number = 0
    while price % _STEPS[number] != 0:
        number += 1
    return number


@njit(cache=True)
def round_price(price, low, high, number):  # type: ignore[no-untyped-def]
    """The nearest price of a step between two bounds, of two the lower; the price itself if there is none."""
    for away in range(max(price - low, high - price) + 1):
        if low <= price - away <= high and _step_of(price - away) == number:
            return price - away
        if low <= price + away <= high and _step_of(price + away) == number:
            return price + away
    return price
