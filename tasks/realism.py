"""``realism``: does a simulated market look like the real one? MarS section 3.1, appendices I and J."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marsbench.evidence import Task, TaskContext, TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.market.rules import MINUTE, clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Generator, Kind, Start

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

TRAINING_PERIODS = 10
"""So many of the latest training periods of an instrument are kept to recognise copies of them."""
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Realism(Task):
    """Roll the market forward from real starts and compare minute by minute with what happened.

    On a data set of many days every test day gives ``starts_per_day`` evenly spaced starts and a
    day x instrument is one unit of inference. On a single day, the starts follow each other without
    overlap through the test period, each block is a unit, and more rollouts make up for fewer starts.
    """

    minutes: int = 25
    """Length of a rollout in minutes of trading."""
    starts_per_day: int = 2
    """Of every test day, at fixed times."""
    most_starts: int | None = 64
    """Of many days, so many starts are taken, spread evenly over them; None takes all."""
    rollouts: int = 4
    single_day_rollouts: int = 16
    """Rollouts per start on a data set of one day."""

    name = "realism"
    version = 1
    kinds = frozenset({Kind.SESSION, Kind.TRAJECTORIES})
    evidence = TrajectoryPairs
    conditions = ("starting sequence (x_0, ..., x_m)", "matching rules MTCH_R")
    summary = "stylized facts, distributions and 3-class accuracy of 25-minute rollouts against replay"
    source = "MarS (ICLR 2025) section 3.1, appendices I and J; Cont (2001)"

    def __post_init__(self) -> None:
        for name in ("minutes", "starts_per_day", "rollouts", "single_day_rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"realism: {name} must be at least 1, got {getattr(self, name)}")
        if self.most_starts is not None and self.most_starts < 1:
            raise ValueError(f"realism: most_starts must be at least 1, or none for all; got {self.most_starts}")

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (
            ("stylized-facts", {}),
            ("distribution-similarity", {}),
            ("three-class-accuracy", {}),
            ("memorisation", {}),
        )

    def starts(self, dataset: Dataset) -> list[Start]:
        """Starts of the test periods, in time order within each period."""
        places = [(period, clock) for period in dataset.split("test") for clock in self._clocks(dataset, period)]
        if self.most_starts is not None and len(places) > self.most_starts and not dataset.single_day:
            places = _spread(places, self.most_starts)
        return [self._start(dataset, period, clock) for period, clock in places]

    def _clocks(self, dataset: Dataset, period: Period) -> list[int]:
        """Clock minutes from which a whole window fits into the period without a break in it."""
        horizon = self.minutes * MINUTE
        first = -(-period.start_ns // MINUTE) * MINUTE
        phases = dataset.rules(period).continuous
        fits = [
            clock
            for clock in range(first, period.end_ns - horizon + 1, MINUTE)
            if any(p.start_ns <= clock and clock + horizon <= p.end_ns for p in phases)
        ]
        if not dataset.single_day:
            want = min(self.starts_per_day, len(fits))
            return [fits[int((i + 0.5) * len(fits) / want)] for i in range(want)]
        chosen: list[int] = []
        for clock in fits:
            if not chosen or clock >= chosen[-1] + horizon:
                chosen.append(clock)
        return chosen

    def _start(self, dataset: Dataset, period: Period, clock_ns: int) -> Start:
        history = dataset.history(period.instrument, period.date, clock_ns)
        replay = self._replay(dataset, period.instrument, period.date, clock_ns)
        day = f"{period.instrument} {period.date}"
        return Start(
            instrument=period.instrument,
            date=period.date,
            rules=replay.rules,
            clock_ns=clock_ns,
            book=replay.book,
            history=history,
            cluster=f"{day} {clock_text(clock_ns)}" if dataset.single_day else day,
        )

    def _replay(self, dataset: Dataset, instrument: str, date: str, clock_ns: int) -> Trajectory:
        return dataset.window(instrument, date, clock_ns, clock_ns + self.minutes * MINUTE)

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> TrajectoryPairs:
        """Simulate from every start and pair with replay."""
        starts = context.starts
        rollouts = self.single_day_rollouts if dataset.single_day else self.rollouts
        simulated = context.simulate(generator, starts, rollouts, self.minutes * MINUTE)
        return TrajectoryPairs(
            starts=tuple(starts),
            replay=tuple(self._replay(dataset, s.instrument, s.date, s.clock_ns) for s in starts),
            simulated=tuple(tuple(row) for row in simulated),
            minutes=self.minutes,
            floors=context.floors,
            single_day=dataset.single_day,
            training=_training(dataset),
        )


def _training(dataset: Dataset) -> dict[str, list[MinuteBars]]:
    """Bars of the last training periods of every instrument, as many as the baselines learn from."""
    periods: dict[str, list[Period]] = {}
    for period in sorted(dataset.split("train"), key=lambda p: (p.date, p.start_ns)):
        periods.setdefault(period.instrument, []).append(period)
    return {name: [dataset.bars(p) for p in own[-TRAINING_PERIODS:]] for name, own in periods.items()}


def _spread(items: list[Any], count: int) -> list[Any]:
    """One of each of ``count`` equal stretches; where in the stretch moves on irregularly, so that no rhythm of the
    list (two starts a day) meets that of the stretches."""
    edges = [i * len(items) // count for i in range(count + 1)]
    return [items[a + int((b - a) * (k * GOLDEN % 1.0))] for k, (a, b) in enumerate(itertools.pairwise(edges), 1)]
