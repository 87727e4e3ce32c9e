"""A small market of our own making for tests: two days of a zero-intelligence book."""

from __future__ import annotations

from functools import cache
from typing import Any

from marsbench import registry
from marsbench.data import zi_market
from marsbench.data.zi_market import PROFILES, published_rates
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, SSE_A_SHARE, clock
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Start
from marsbench.simulation.rollout import simulate

OPEN = clock("09:30")


def opening(profile: int = 0, date: str = "2024-01-02") -> Start:
    """The open of one instrument-day of the embedded market."""
    return zi_market.opening(PROFILES[profile], date)


def known_generator() -> Any:
    """Zero-intelligence with the published rates."""
    generator: Any = registry.generator("zero-intelligence")
    generator.publish({p.name: published_rates(p) for p in PROFILES})
    return generator


@cache
def two_days(profile: int = 0, minutes: int = 90) -> tuple[Trajectory, ...]:
    """A training day and a test day, from the open."""
    starts = [opening(profile, "2024-01-02"), opening(profile, "2024-01-03")]
    return tuple(row[0] for row in simulate(known_generator(), starts, 1, minutes * MINUTE, key=1))


def start_at(day: Trajectory, text: str) -> Start:
    """A start in the middle of a day."""
    at = clock(text)
    history = cut(day, day.start_ns, at)
    book = cut(day, at, at).book
    return Start(day.instrument, day.date, SSE_A_SHARE, at, book, history, cluster=f"{day.instrument} {day.date}")
