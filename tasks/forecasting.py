"""``forecasting``: which way the price goes, and how much it moves, foretold by rolling the market forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Task, TaskContext, measured
from marsbench.forecasts import KINDS, Forecasts, Target
from marsbench.labels import LABELS, Label, Mids, realised_volatility, shares
from marsbench.market.bars import MinuteBars
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.scores import Score
from marsbench.simulation.contracts import Generator, Kind, Start
from marsbench.stats.classes import classify, tercile_edges
from marsbench.validity import Health, Side, order_scores

from ._starts import all_clocks, replay_after, starts_of

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Edges = dict[str, Floats]
"""Instrument -> ``[T, 2]``."""

_Read = tuple[str, MinuteBars, Health | None]
"""Instrument, bars and health of one market."""
_TRAINING: dict[tuple[Any, ...], tuple[Edges, Floats]] = {}
"""What was learned from the training periods of a data set, for the next generator."""


@dataclass(frozen=True)
class Forecasting(Task):
    """Foretell the class of the trend and of the realised volatility over the minutes after each start.

    All horizons and both kinds of target come from the same rollouts. Classes are terciles of each instrument's
    training periods, frozen; shares of the test period are reported, and are not thirds. Moves begin at every clock
    minute of the latest training days. A generator knows the orders up to the start and has learned from training
    periods only.
    """

    minutes: int = 3
    """Horizons are 1, 2, ... up to so many minutes."""
    label: str = "mars"
    """How a trend is measured, a key of ``marsbench.labels.LABELS`` that counts in minutes."""
    rollouts: int = 32
    starts_per_day: int = 6
    """Of every test day; on a single day starts follow each other without overlap."""
    most_starts: int | None = 150
    """So many starts are taken, spread evenly; None takes all."""
    training_days: int = 20
    """So many of an instrument's latest training days freeze the classes."""

    name = "forecasting"
    version = 1
    kinds = frozenset({Kind.SESSION})
    evidence = Forecasts
    conditions = ("starting sequence (x_0, ..., x_m)", "matching rules MTCH_R")
    summary = "trend and volatility classes of the next minutes, foretold by rollouts from each start"
    source = "MarS (ICLR 2025) section 4.1, Figure 7a"

    def __post_init__(self) -> None:
        for name in ("minutes", "rollouts", "starts_per_day", "training_days"):
            if getattr(self, name) < 1:
                raise ValueError(f"forecasting: {name} must be at least 1, got {getattr(self, name)}")
        if self.most_starts is not None and self.most_starts < 1:
            raise ValueError(f"forecasting: most_starts must be at least 1, or none for all; got {self.most_starts}")
        timed = [name for name, label in LABELS.items() if label.unit == "minutes"]
        if self.label not in timed:
            raise ValueError(f"forecasting: label={self.label!r}; choose one of {', '.join(timed)}")

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (("forecast-accuracy", {}),)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Both kinds over each horizon."""
        return tuple(Target(kind, k) for kind in KINDS for k in range(1, self.minutes + 1))

    def starts(self, dataset: Dataset) -> list[Start]:
        """Starts of the test periods, in time order within each period."""
        return starts_of(dataset, minutes=self.minutes, per_day=self.starts_per_day, most=self.most_starts)

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> Forecasts:
        """Simulate from every start and class what came out of it, and what really came.

        Raises
        ------
        ValueError
            If an instrument has no training period to take classes from.
        """
        edges, training_shares = self._training(dataset)
        simulated = context.simulate(generator, context.starts, self.rollouts, self.minutes * MINUTE)
        own = np.stack([edges[s.instrument] for s in context.starts])  # [S, T, 2]
        votes, validity = self._rolled(dataset, context.starts, simulated)
        came, before = self._really(dataset, context.starts)
        return Forecasts(
            starts=tuple(context.starts),
            targets=self.targets,
            observed=classify(came, own),
            training_shares=training_shares,
            before=classify(before, own),
            votes=classify(votes, own[:, None]),
            single_day=dataset.single_day,
            ceilings=context.ceilings,
            simulations=validity,
        )

    def _rolled(
        self, dataset: Dataset, starts: Sequence[Start], simulated: Sequence[Sequence[Trajectory]]
    ) -> tuple[Floats, tuple[Score, ...]]:
        """``[S, R, T]`` of the rollouts, and their validity, from one replay of each."""
        numbers: list[Floats] = []
        sides: tuple[list[_Read], list[_Read]] = ([], [])
        for start, row in zip(starts, simulated, strict=True):
            at = np.array([start.rules.trading_ns(start.clock_ns)])
            for rollout in row:
                done = replay_trajectory(rollout, levels=1)
                numbers.append(self._numbers(Mids.of(rollout, done=done), at)[0])
                sides[1].append((start.instrument, *measured(start, rollout, done)))
            window = replay_after(dataset, start.rules, start.instrument, start.date, start.clock_ns, self.minutes)
            sides[0].append((start.instrument, *measured(start, window)))
        replay, rollouts = (
            Side(
                MinuteBars.stack([bars for _, bars, _ in side]), [h for *_, h in side if h], [name for name, *_ in side]
            )
            for side in sides
        )
        clusters = len({start.cluster for start in starts})
        return np.reshape(numbers, (len(starts), self.rollouts, -1)), order_scores(replay, rollouts, clusters)

    def _numbers(self, mids: Mids, at: Ints) -> Floats:
        """``[m, T]``: what the targets are about, after times of trading ``[m]``."""
        label: Label = LABELS[self.label]
        found = [
            label.moves(mids, at, t.minutes) if t.kind == "trend" else realised_volatility(mids, at, t.minutes)
            for t in self.targets
        ]
        return np.stack(found, axis=-1)

    def _really(self, dataset: Dataset, starts: Sequence[Start]) -> tuple[Floats, Floats]:
        """What came after each start, and what had come in as many minutes before it, each ``[S, T]``."""
        came, before = (np.full((len(starts), len(self.targets)), np.nan) for _ in range(2))
        days: dict[tuple[str, str], list[int]] = {}
        for i, start in enumerate(starts):
            days.setdefault((start.instrument, start.date), []).append(i)
        longest = self.minutes * MINUTE
        for (instrument, date), own in days.items():
            rules = starts[own[0]].rules
            clock = [starts[i].clock_ns for i in own]
            end = int(rules.clock_ns(rules.trading_ns(max(clock)) + longest))
            history = dataset.history(instrument, date, end)
            mids, at = Mids.of(history), np.asarray(rules.trading_ns(np.array(clock)), np.int64)
            came[own] = self._numbers(mids, at)
            for j, target in enumerate(self.targets):
                before[own, j] = self._numbers(mids, at - target.minutes * MINUTE)[:, j]
        return came, before

    def _training(self, dataset: Dataset) -> tuple[Edges, Floats]:
        """Edges of each instrument, and the class shares ``[T, 3]`` that they give in training."""
        key = (dataset.content_hash, self.label, self.minutes, self.training_days)
        if key not in _TRAINING:
            found: dict[str, list[Floats]] = {}
            for period in self._latest(dataset):
                at = np.array(all_clocks(dataset, period, minutes=self.minutes), np.int64)
                if len(at):
                    mids = Mids.of(dataset.trajectory(period))
                    times = np.asarray(dataset.rules(period).trading_ns(at), np.int64)
                    found.setdefault(period.instrument, []).append(self._numbers(mids, times))
            without = {p.instrument for p in dataset.split("test")} - set(found)
            if without or not found:
                raise ValueError(
                    f"forecasting: {dataset.name} has no training minutes of {sorted(without)} to take classes from"
                )
            numbers = {name: np.concatenate(rows) for name, rows in found.items()}
            edges = {name: self._edges(rows) for name, rows in numbers.items()}
            classes = np.concatenate([classify(rows, edges[name]) for name, rows in numbers.items()])
            _TRAINING[key] = edges, np.stack([shares(column) for column in classes.T])
        return _TRAINING[key]

    def _edges(self, numbers: Floats) -> Floats:
        """``[T, 2]`` of numbers ``[n, T]``."""
        label = LABELS[self.label]
        return np.stack(
            [
                label.edges(column) if target.kind == "trend" else tercile_edges(column)
                for target, column in zip(self.targets, numbers.T, strict=True)
            ]
        )

    def _latest(self, dataset: Dataset) -> list[Period]:
        """The training periods of the latest days of each instrument."""
        periods = dataset.split("train")
        dates: dict[str, set[str]] = {}
        for period in periods:
            dates.setdefault(period.instrument, set()).add(period.date)
        latest = {name: sorted(own)[-self.training_days :] for name, own in dates.items()}
        return [p for p in periods if p.date in latest[p.instrument]]
