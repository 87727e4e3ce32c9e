"""What tasks that pair simulations with replay share: starts, replay of the same minutes, the evidence of both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marsbench.evidence import TaskContext, TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.market.books import Market
from marsbench.market.rules import MINUTE, MatchingRules, clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.questions import clocks_within
from marsbench.scores import Score
from marsbench.simulation.contracts import Start
from marsbench.validity import Health, Side, order_scores

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

TRAINING_PERIODS = 10
"""So many of the latest training periods of an instrument are kept to recognise copies of them."""
GOLDEN = 0.6180339887498949
Read = tuple[str, MinuteBars, Health | None]
"""Instrument, bars and health of one market."""


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """One of each of ``count`` equal stretches; where in the stretch moves on irregularly, so that no rhythm of the
    list (two starts a day) meets that of the stretches."""
    edges = [i * len(items) // count for i in range(count + 1)]
    return [items[a + int((b - a) * (k * GOLDEN % 1.0))] for k, (a, b) in enumerate(itertools.pairwise(edges), 1)]


def all_clocks(dataset: Dataset, period: Period, *, minutes: int) -> list[int]:
    """Clock minutes of a period from which so many minutes fit into trading without a break in them."""
    return [int(t) for t in clocks_within(dataset.rules(period), period.start_ns, period.end_ns, minutes)]


def clocks(dataset: Dataset, period: Period, *, minutes: int, per_day: int) -> list[int]:
    """Some of ``all_clocks``: of many days ``per_day`` evenly spaced ones of each, of a single day those that follow
    each other without overlap."""
    fits, horizon = all_clocks(dataset, period, minutes=minutes), minutes * MINUTE
    if not dataset.single_day:
        want = min(per_day, len(fits))
        return [fits[int((i + 0.5) * len(fits) / want)] for i in range(want)]
    chosen: list[int] = []
    for clock in fits:
        if not chosen or clock >= chosen[-1] + horizon:
            chosen.append(clock)
    return chosen


def starts_of(dataset: Dataset, *, minutes: int, per_day: int, most: int | None) -> list[Start]:
    """Starts of the test periods at ``clocks``, in time order within each period; ``most`` of them, spread evenly."""
    places = [
        (period, clock)
        for period in dataset.split("test")
        for clock in clocks(dataset, period, minutes=minutes, per_day=per_day)
    ]
    if most is not None and len(places) > most:
        places = spread(places, most)
    return [start_at(dataset, period, clock, minutes) for period, clock in places]


def start_at(dataset: Dataset, period: Period, clock_ns: int, minutes: int) -> Start:
    """The start of so many minutes at a clock minute. Its cluster is the instrument-day, on a single day the block."""
    replay = replay_after(dataset, dataset.rules(period), period.instrument, period.date, clock_ns, minutes)
    day = f"{period.instrument} {period.date}"
    return Start(
        instrument=period.instrument,
        date=period.date,
        rules=replay.rules,
        clock_ns=clock_ns,
        book=replay.book,
        history=dataset.history(period.instrument, period.date, clock_ns),
        cluster=f"{day} {clock_text(clock_ns)}" if dataset.single_day else day,
    )


def replay_after(
    dataset: Dataset, rules: MatchingRules, instrument: str, date: str, clock_ns: int, minutes: int
) -> Trajectory:
    """What really happened in the so many minutes of trading after a clock time."""
    end_ns = int(rules.clock_ns(rules.trading_ns(clock_ns) + minutes * MINUTE))
    return dataset.window(instrument, date, clock_ns, end_ns)


def paired(
    dataset: Dataset, context: TaskContext, simulated: Sequence[Sequence[Market]], minutes: int
) -> TrajectoryPairs:
    """The evidence: simulations beside replay, with the training bars by which copies are recognised."""
    starts = tuple(context.starts)
    return TrajectoryPairs(
        starts=starts,
        replay=tuple(replay_after(dataset, s.rules, s.instrument, s.date, s.clock_ns, minutes) for s in starts),
        simulated=tuple(tuple(row) for row in simulated),
        minutes=minutes,
        floors=context.floors,
        ceilings=context.ceilings,
        single_day=dataset.single_day,
        training=_training(dataset),
    )


def _training(dataset: Dataset) -> dict[str, list[MinuteBars]]:
    """Bars of the last training periods of every instrument, as many as the baselines learn from."""
    periods: dict[str, list[Period]] = {}
    for period in sorted(dataset.split("train"), key=lambda p: (p.date, p.start_ns)):
        periods.setdefault(period.instrument, []).append(period)
    return {name: [dataset.bars(p) for p in own[-TRAINING_PERIODS:]] for name, own in periods.items()}


def validity_of(replayed: Sequence[Read], simulated: Sequence[Read], clusters: int) -> tuple[Score, ...]:
    """Validity of simulations beside replay of the same starts, from what was read off them."""
    replay, simulations = (
        Side(MinuteBars.stack([bars for _, bars, _ in side]), [h for *_, h in side if h], [name for name, *_ in side])
        for side in (replayed, simulated)
    )
    return order_scores(replay, simulations, clusters)
