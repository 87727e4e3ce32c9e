"""``reference``: the embedded reference market, a market whose truth is known.

Five independent instruments under Shanghai rules, with both auctions, price limits and lunch. Their
traders hold a hidden fundamental value, split large orders, answer to news and to coarse price moves;
activity has a daily shape and a long memory. Prices come from their orders alone, through the clearing
house. The same version gives the same bytes on every machine; the hidden state at any time can be had
(``truth``), and the large orders are listed (``metaorders``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsbench.data.dataset import Dataset, Period, write_dataset
from marsbench.data.reference_market.day import RULES
from marsbench.data.reference_market.market import SEED, Day, DayRun, run, trading_dates
from marsbench.data.reference_market.profiles import NAMES, PROFILES, SHARED, profile_table
from marsbench.data.reference_market.state import STATE, Hidden, Snapshot, shared_table
from marsbench.market.rules import clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.progress import bar

VERSION = 2
DAYS = 110
TRAINING_DAYS, VALIDATION_DAYS = 60, 10
"""The first days train, the next validate, all others test."""
RESEMBLES = {"REF-A": "600536-2023-07-11", "REF-D": "600519-2023-02-07"}
"""Real days that two of the instruments are made to look like."""
TRUTH = "truth.npy"
METAORDERS = "metaorders.npy"
MORNING = np.dtype([("instrument", "U8"), ("date", "U10"), ("reference_ticks", "<i8"), ("state", STATE)])
"""Hidden state before each day's opening auction; the rest of the day follows from it."""
LISTED = np.dtype(
    [
        ("instrument", "U8"),
        ("date", "U10"),
        ("side", "<i8"),  # +1 buy, -1 sell
        ("start_ns", "<i8"),  # clock of the first ...
        ("end_ns", "<i8"),  # ... and the last execution
        ("planned_shares", "<i8"),
        ("executed_shares", "<i8"),
        ("fills", "<i8"),  # orders that traded
    ]
)
"""One large order, as ``metaorders`` lists it."""


def split_of(number: int) -> str:
    """Split of day ``number`` (0, 1, ...).

    >>> [split_of(n) for n in (59, 60, 70)]
    ['train', 'validation', 'test']
    """
    if number < TRAINING_DAYS:
        return "train"
    return "validation" if number < TRAINING_DAYS + VALIDATION_DAYS else "test"


def build(folder: Path, *, days: int = DAYS) -> None:
    """Simulate the market and write the data set into ``folder``.

    Parameters
    ----------
    days
        How many; the first ones are the same whatever their number.

    Raises
    ------
    ValueError
        If there would be no test day.
    """
    past = TRAINING_DAYS + VALIDATION_DAYS
    if days <= past:
        raise ValueError(f"reference: days is {days}; {past} are for training and validation, so at least {past + 1}")
    mornings: dict[str, list[NDArray[np.void]]] = {name: [] for name in NAMES}
    listed: dict[str, list[NDArray[np.void]]] = {name: [] for name in NAMES}
    session = RULES.continuous
    periods = [
        Period(name, date, session[0].start_ns, session[-1].end_ns, split_of(k))
        for name in NAMES
        for k, date in enumerate(trading_dates(days))
    ]

    def trajectories() -> Iterator[Trajectory]:
        """Date by date, the instruments side by side."""
        runs = [run(name, days) for name in NAMES]
        with (
            bar(total=len(NAMES) * days, desc="  reference market", unit="day") as progress,
            ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="marsbench-market") as pool,
        ):
            for _ in range(days):
                for name, day in zip(NAMES, pool.map(next, runs), strict=True):
                    mornings[name].append(_morning(day))
                    listed[name].append(listing(day))
                    progress.update()
                    yield day.trajectory

    write_dataset(
        folder,
        trajectories(),
        periods,
        name="reference" if days == DAYS else f"reference,days={days}",
        version=VERSION,
        summary=f"embedded: five instruments, truth known, {TRAINING_DAYS} + {VALIDATION_DAYS} + {days - past} days",
        facts={"truth": "marsbench.data.reference", "seed": SEED, "resembles": RESEMBLES},
        beside=lambda: {TRUTH: _joined(mornings), METAORDERS: _joined(listed)},
    )


def _joined(records: dict[str, list[NDArray[np.void]]]) -> NDArray[np.void]:
    return np.concatenate([array for own in records.values() for array in own])


def _morning(day: Day) -> NDArray[np.void]:
    out = np.zeros(1, MORNING)
    out["instrument"], out["date"] = day.trajectory.instrument, day.trajectory.date
    out["reference_ticks"] = day.trajectory.book.reference_ticks
    out["state"] = day.morning.state[0]
    return out


def listing(day: Day) -> NDArray[np.void]:
    """A day's metaorders that traded, by the time of their first execution, ``LISTED`` records."""
    own = day.metaorders[np.argsort(day.metaorders["start_ns"], kind="stable")]
    out = np.zeros(len(own), LISTED)
    out["instrument"], out["date"] = day.trajectory.instrument, day.trajectory.date
    out["side"] = 2 * own["side"] - 1
    out["start_ns"], out["end_ns"] = RULES.clock_ns(own["start_ns"]), RULES.clock_ns(own["end_ns"])
    out["planned_shares"] = own["target"] * RULES.lot_shares
    out["executed_shares"], out["fills"] = own["executed"], own["fills"]
    return out


def metaorders(data: Dataset) -> NDArray[np.void]:
    """All metaorders of a data set that ``build`` wrote, ``LISTED`` records by instrument and time."""
    return data.beside(METAORDERS)


def truth(data: Dataset, instrument: str, date: str, clock_ns: int) -> Snapshot:
    """Hidden state at a clock time: fundamental value, activity, metaorders, who queues where.

    It is the state before the opening auction, which is stored, moved on to that time by the same steps
    with the same random numbers as when the data set was made.

    Raises
    ------
    ValueError
        If there is no such day, the time does not lie in continuous trading, or another version made the data.
    """
    if data.version != VERSION:
        raise ValueError(
            f"{data.folder}: made by version {data.version} of the market, this is {VERSION}; build it again"
        )
    if not any(p.start_ns <= clock_ns < p.end_ns for p in RULES.continuous):
        raise ValueError(f"reference: {clock_text(clock_ns)} does not lie in continuous trading")
    mornings = data.beside(TRUTH)
    found = np.flatnonzero((mornings["instrument"] == instrument) & (mornings["date"] == date))
    if len(found) != 1:
        raise ValueError(f"reference: there is no day {instrument} {date} in {data.folder}")
    morning = mornings[found[0]]
    return state_at(morning["state"], instrument, date, int(morning["reference_ticks"]), clock_ns)


def state_at(morning: NDArray[np.void], instrument: str, date: str, reference_ticks: int, clock_ns: int) -> Snapshot:
    """Hidden state at a clock time of a day whose ``STATE`` before the opening auction is given."""
    hidden = Hidden.empty(1, profile_table(PROFILES), shared_table(SHARED))
    hidden.arrays.state[0] = morning
    day = DayRun(instrument, date, hidden, reference_ticks)
    day.open()
    day.trade(int(RULES.trading_ns(clock_ns)))
    return hidden.snapshot(0)
