"""A few days of the reference market, made once for all tests of a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from marsbench.data import reference
from marsbench.data.reference_market.market import Day, run
from marsbench.market.replay import cut
from marsbench.market.rules import clock
from marsbench.simulation.contracts import Start


@cache
def days(name: str = "REF-D", count: int = 2) -> tuple[Day, ...]:
    """The first days of an instrument."""
    return tuple(run(name, count))


def start_at(day: Day, text: str) -> Start:
    """A start with its hidden state."""
    trajectory, at = day.trajectory, clock(text)
    state, close = day.morning.state[0], trajectory.book.reference_ticks
    return Start(
        trajectory.instrument,
        trajectory.date,
        trajectory.rules,
        at,
        cut(trajectory, at, at).book,
        cut(trajectory, clock("09:30"), at),
        cluster=f"{trajectory.instrument} {trajectory.date}",
        oracle=reference.state_at(state, trajectory.instrument, trajectory.date, close, at),
    )


def small_data_set(folder: Path, names: tuple[str, ...], test_days: int) -> Path:
    """A reference data set with a day to train, a day to validate and some to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "NAMES", names)
        patch.setattr(reference, "TRAINING_DAYS", 1)
        patch.setattr(reference, "VALIDATION_DAYS", 1)
        folder.mkdir()
        reference.build(folder, days=2 + test_days)
    return folder
