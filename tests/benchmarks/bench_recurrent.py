"""Speed of recurrent models in rollouts on one core, with compiled layers and with torch's.

Weights are random. Run it alone: ``make bench``, or this file with the same options.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest
import torch
from bench_order_model import line, orders_per_second

from markets import start_at, two_days
from marsbench import registry
from marsbench.generators.lob_rnn import network
from marsbench.learning import order_steps, recurrent
from marsbench.learning.order_stream import order_stream
from marsbench.learning.tokeniser import Tokeniser

NAMES = ("lob-rnn", "cgan")
ROWS = (4, 20, 128)
ROUNDS = 3


def generator(name: str) -> Any:
    """With random weights, and the bins of one day."""
    made: Any = registry.generator(name)
    made.tokeniser = Tokeniser.fit([order_stream(two_days()[0])], made.layout)
    made.model = made.network(1).eval().requires_grad_(False)
    return made


def test_orders_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in one run, in turn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = start_at(two_days()[1], "10:50")
    places, plain = (network, order_steps, recurrent), order_steps.can_step
    print("\n  orders/s of so many rollouts, one core; compiled; by torch")
    for name in NAMES:
        made = generator(name)
        for rows in ROWS:
            reached: dict[bool, list[float]] = {True: [], False: []}
            for compiled in (True, False) * ROUNDS:
                for place in places:
                    monkeypatch.setattr(place, "can_step", plain if compiled else lambda _: False)
                reached[compiled].append(orders_per_second(made, start, rows))
            ways = [median(reached[compiled][1:]) for compiled in (True, False)]
            line(f"{name}, {rows} rows", f"{ways[0]:,.0f}; {ways[1]:,.0f}", f"{ways[0] / ways[1]:.1f} x")
