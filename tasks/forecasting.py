"""``forecasting``: which way the price goes, and how much it moves, foretold by rollouts or by a forecaster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Task, TaskContext, measured
from marsbench.fitting import latest_days
from marsbench.forecasts import Forecasts
from marsbench.labels import Mids
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.questions import TRAINING_DAYS, Question, Target, numbers, targets_up_to, timed_labels
from marsbench.scores import Score
from marsbench.simulation.contracts import ForecastGenerator, Generator, Kind, Start
from marsbench.stats.classes import classify

from ._starts import Read, replay_after, starts_of, validity_of

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_ASKED: dict[tuple[Any, ...], Question] = {}
"""What was frozen on the training periods of a data set, for the next generator."""


@dataclass(frozen=True)
class Forecasting(Task):
    """Foretell the class of the trend and of the realised volatility over the minutes after each start.

    All horizons and both kinds of target come from the same rollouts; a forecaster states the probabilities of each
    class itself, for the targets that it knows. Classes are terciles of each instrument's training periods, frozen;
    shares of the test period are reported, and are not thirds. Moves begin at every clock minute of the latest training
    days. A generator knows the orders up to the start and has learned from training periods only.
    """

    minutes: int = 3
    """Horizons are 1, 2, ... up to so many minutes."""
    label: str = "mars"
    """How a trend is measured, one of ``marsbench.labels.LABELS`` that counts in minutes."""
    rollouts: int = 32
    starts_per_day: int = 6
    """Of every test day; on a single day starts follow each other without overlap."""
    most_starts: int | None = 150
    """So many starts are taken, spread evenly; None takes all."""
    training_days: int = TRAINING_DAYS
    """So many of an instrument's latest training days freeze the classes."""

    name = "forecasting"
    version = 2
    kinds = frozenset({Kind.SESSION, Kind.FORECAST})
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
        if self.label not in timed_labels():
            raise ValueError(f"forecasting: label={self.label!r}; choose one of {', '.join(timed_labels())}")

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (("forecast-accuracy", {}),)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Both kinds over each horizon."""
        return targets_up_to(self.minutes)

    def starts(self, dataset: Dataset) -> list[Start]:
        """Starts of the test periods, in time order within each period."""
        return starts_of(dataset, minutes=self.minutes, per_day=self.starts_per_day, most=self.most_starts)

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> Forecasts:
        """Simulate from every start, or ask a forecaster, and class what was foretold, and what really came.

        Raises
        ------
        ValueError
            If an instrument has no training period to take classes from, or a forecaster gives no probabilities.
        """
        question = self._question(dataset)
        own = np.stack([question.edges[s.instrument] for s in context.starts])  # [S, T, 2]
        came, before = self._really(dataset, context.starts)
        known = Forecasts(
            starts=tuple(context.starts),
            targets=self.targets,
            observed=classify(came, own),
            training_shares=question.training_shares,
            before=classify(before, own),
            stated=np.full((*came.shape, 3), np.nan),
            single_day=dataset.single_day,
            ceilings=context.ceilings,
        )
        if isinstance(generator, ForecastGenerator):
            began = time.process_time()
            stated = _checked(generator.forecast(context.starts, question), known)
            return replace(known, stated=stated, seconds_per_start=(time.process_time() - began) / len(own))
        simulated = context.simulate(generator, context.starts, self.rollouts, self.minutes * MINUTE)
        votes, validity = self._rolled(dataset, context.starts, simulated)
        return replace(known, stated=None, votes=classify(votes, own[:, None]), simulations=validity)

    def _rolled(
        self, dataset: Dataset, starts: Sequence[Start], simulated: Sequence[Sequence[Trajectory]]
    ) -> tuple[Floats, tuple[Score, ...]]:
        """``[S, R, T]`` of the rollouts, and their validity, from one replay of each."""
        numbers: list[Floats] = []
        replayed: list[Read] = []
        rolled: list[Read] = []
        for start, row in zip(starts, simulated, strict=True):
            at = np.array([start.rules.trading_ns(start.clock_ns)])
            for rollout in row:
                done = replay_trajectory(rollout, levels=1)
                numbers.append(self._numbers(Mids.of(rollout, done=done), at)[0])
                rolled.append((start.instrument, *measured(start, rollout, done)))
            window = replay_after(dataset, start.rules, start.instrument, start.date, start.clock_ns, self.minutes)
            replayed.append((start.instrument, *measured(start, window)))
        validity = validity_of(replayed, rolled, len({start.cluster for start in starts}))
        return np.reshape(numbers, (len(starts), self.rollouts, -1)), validity

    def _numbers(self, mids: Mids, at: Ints) -> Floats:
        return numbers(self.label, self.targets, mids, at)

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

    def _question(self, dataset: Dataset) -> Question:
        """The targets, with classes of the training periods."""
        key = (dataset.content_hash, self.label, self.minutes, self.training_days)
        if key not in _ASKED:
            latest = latest_days(dataset.split("train"), self.training_days)
            found = Question.freeze(self.label, self.targets, (dataset.trajectory(p) for p in latest))
            frozen = {name for name, edges in found.edges.items() if np.isfinite(edges).all()}
            if without := {p.instrument for p in dataset.split("test")} - frozen:
                raise ValueError(
                    f"forecasting: {dataset.name} has no training minutes of {sorted(without)} to take classes from"
                )
            _ASKED[key] = found
        return _ASKED[key]


def _checked(stated: Floats, asked: Forecasts) -> Floats:
    """Probabilities ``[S, T, 3]``, each all NaN or a distribution."""
    shape = (*asked.observed.shape, 3)
    if np.shape(stated) != shape:
        raise ValueError(f"a forecaster gives probabilities {shape} (starts, targets, classes), got {np.shape(stated)}")
    there = ~np.isnan(stated).all(axis=2)
    wrong = there & ~((stated >= 0).all(axis=2) & (np.abs(stated.sum(axis=2) - 1) < 1e-6))
    if wrong.any():
        s, t = np.argwhere(wrong)[0]
        raise ValueError(
            f"start {asked.starts[s].name}, {asked.targets[t].key}: {stated[s, t].tolist()} are no probabilities"
        )
    return np.asarray(stated, np.float64)
