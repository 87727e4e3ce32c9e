"""Starts within training data, from which generators are tried out while they are fitted."""

from __future__ import annotations

import numpy as np

from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Start


def clocks_within(period: Trajectory, *, minutes: int, every: int) -> list[int]:
    """Clock times, one every ``every`` minutes of trading, after which a period goes on for ``minutes``."""
    rules = period.rules
    begin, end = int(rules.trading_ns(period.start_ns)), int(rules.trading_ns(period.end_ns))
    clocks = rules.clock_ns(np.arange(begin, end - minutes * MINUTE + 1, every * MINUTE) + 1) - 1
    return [int(c) for c in clocks if any(p.start_ns <= c < p.end_ns for p in rules.continuous)]


def start_within(period: Trajectory, clock_ns: int, history_minutes: int | None = None) -> Start:
    """The start at a time of a period, with all of the past that the period has, or so many minutes."""
    first = period.start_ns if history_minutes is None else clock_ns - history_minutes * MINUTE
    history = cut(period, max(period.start_ns, first), clock_ns)
    book = cut(period, clock_ns, clock_ns).book
    return Start(period.instrument, period.date, period.rules, clock_ns, book, history)
