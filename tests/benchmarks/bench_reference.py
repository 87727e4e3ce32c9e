"""Speed of the reference market and of its oracle, in CPU time of one core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marsbench import registry
from marsbench.data.reference_market.market import run
from marsbench.data.reference_market.profiles import NAMES
from marsbench.market.rules import MINUTE
from marsbench.simulation.rollout import simulate
from reference import days, start_at

DAYS = 3


@pytest.mark.parametrize("name", NAMES)
def test_days_of_the_reference_market(benchmark: Any, name: str) -> None:
    """Whole days with both auctions, through the clearing house; the target is 300,000 events a second."""
    made = list(run(name, DAYS))
    events = sum(len(d.trajectory.orders) for d in made)
    benchmark.pedantic(lambda: list(run(name, DAYS)), rounds=5, warmup_rounds=1)
    benchmark.extra_info["events"] = events
    print(f"\n  {name}: {events / benchmark.stats.stats.median:,.0f} events/s ({events:,} events in {DAYS} days)")


def test_rollouts_of_the_oracle(benchmark: Any) -> None:
    """128 rollouts in lockstep, five minutes each."""
    generator: Any = registry.generator("reference")
    start = start_at(days("REF-A")[1], "10:00")
    (rows,) = simulate(generator, [start], 128, 5 * MINUTE, key=1)
    orders = int(np.sum([len(t.orders) for t in rows]))
    benchmark.pedantic(lambda: simulate(generator, [start], 128, 5 * MINUTE, key=1), rounds=3, warmup_rounds=1)
    print(f"\n  oracle: {orders / benchmark.stats.stats.median:,.0f} orders/s in 128 rollouts")
