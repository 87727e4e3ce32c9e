"""When ``validate`` says that orders far from the touch change the rate of a market: it must not cry wolf."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from marsbench.market.orders import ORDER
from marsbench.simulation.validate import _far

ROWS, EVENTS, VARIANCE = 4, 450, 25.0
"""A few minutes of a market that excites itself: the number of its events has so many times a Poisson variance."""
DRAWS = 400


def runs(rng: np.random.Generator, mean: float, agents: int = 0) -> Any:
    """One start of rows with numbers of market events of that mean, and orders of an agent among them."""
    counts = rng.negative_binomial(mean / (VARIANCE - 1), 1 / VARIANCE, ROWS)
    out = []
    for count in counts:
        orders = np.zeros(count + agents, ORDER)
        orders["owner"][:agents] = 1
        out.append(SimpleNamespace(orders=orders))
    return [out]


def alarms(rate: float) -> float:
    """How often a market is stopped that keeps this share of its rate beside 1,000 foreign orders."""
    rng = np.random.default_rng(0)
    found = [_far(runs(rng, EVENTS), runs(rng, rate * EVENTS, agents=1000), reacts=True) for _ in range(DRAWS)]
    return 1.0 - float(np.mean([check.passed for check in found]))


def test_a_market_that_excites_itself_is_rarely_stopped_for_another_path() -> None:
    assert alarms(1.0) < 0.05


def test_a_clock_that_starts_anew_with_each_foreign_order_is_always_stopped() -> None:
    assert alarms(0.08) == 1.0


def test_half_a_rate_is_mostly_stopped() -> None:
    assert alarms(0.5) > 0.7


@pytest.mark.parametrize("extra", [0, 1])
def test_a_market_that_does_not_react_keeps_every_event(extra: int) -> None:
    rng = np.random.default_rng(1)
    base = runs(rng, EVENTS)
    far = [[SimpleNamespace(orders=np.append(t.orders, np.zeros(extra, ORDER))) for t in base[0]]]
    assert _far(base, far, reacts=False).passed == (extra == 0)
