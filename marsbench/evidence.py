"""What tasks hand to metrics, and the contracts of both.

A task is a versioned recipe (data split, starts, rollouts, horizon, agents) that produces one type
of evidence. A metric is a function from that evidence to an ``Outcome``. A task names its metrics
by string, and the registry refuses a metric whose evidence type is another, before anything runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.books import BookSeries, Market, book_bars
from marsbench.market.paths import PathSeries, path_bars
from marsbench.market.replay import Replay, replay_trajectory
from marsbench.market.trajectory import Trajectory
from marsbench.scores import Outcome, Score
from marsbench.simulation.contracts import Generator, Kind, Start
from marsbench.validity import Health, Side, book_scores, health, order_scores, path_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.data.catalogue import Dataset
    from marsbench.known_answers import KnownAnswer


@dataclass(frozen=True)
class Ceiling:
    """What the oracle scores, frozen: the best that anybody can do but by luck."""

    value: float
    replicates: tuple[float | None, ...] = ()
    """The value without unit g of inference, for each g, as in ``Score``."""
    units: str | None = None
    """Which units were left out."""


class Evidence:
    """Base of the evidence types."""

    def validity(self) -> tuple[Score, ...]:
        """What is wrong with the simulations whatever the metrics make of them: scores of group ``validity``."""
        return ()


@dataclass(frozen=True)
class TrajectoryPairs(Evidence):
    """Replay (what really happened) and simulations of it, paired by start. S starts, R rollouts.

    A simulation is a ``Trajectory``, or a ``BookSeries`` where nothing but book snapshots is known, or a
    ``PathSeries`` where nothing but the price is.
    """

    starts: tuple[Start, ...]
    replay: tuple[Trajectory, ...]
    """``[S]``, one per start, over the same period as its simulations."""
    simulated: tuple[tuple[Market, ...], ...]
    """``[S][R]``."""
    minutes: int
    """Whole minutes in the period."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Frozen floor values by score key (METHODS: the calibrated zero-intelligence generator)."""
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)
    """Frozen scores of the oracle by score key, for scores paired by start; empty where there is no oracle."""
    single_day: bool = False
    """True where all starts lie on one instrument-day: within-day inference only."""
    training: Mapping[str, Sequence[MinuteBars]] = field(default_factory=dict)
    """Bars of the latest training periods by instrument, one ``[M]`` for each; empty where there are none. What a
    generator may have learned by heart; no metric of closeness may look at them."""

    @property
    def rollouts(self) -> int:
        return len(self.simulated[0])

    @cached_property
    def measured(self) -> dict[str, Any]:
        """Per-minute series that metrics have computed from these markets, by name; kept for the next metric."""
        return {}

    @cached_property
    def lacking(self) -> Mapping[str, str]:
        """Series of the bars that the simulations cannot give -> why; empty where they hold orders."""
        return {name: why for row in self.simulated for market in row for name, why in market.lacks.items()}

    @property
    def prices_alone(self) -> bool:
        """Whether the simulations are price paths: mid prices at the ends of minutes, and nothing else."""
        return any(isinstance(market, PathSeries) for row in self.simulated for market in row)

    @property
    def alone(self) -> str:
        """What the simulations are, where they do not hold orders."""
        return "price paths" if self.prices_alone else "book snapshots"

    def validity(self) -> tuple[Score, ...]:
        """Faults of the simulations beside replay of the same starts (``marsbench.validity``)."""
        names = [name for name in self.instruments for _ in range(self.rollouts)]
        replay = Side(self.replay_bars, [h for _, h in self._replayed if h], self.instruments)
        simulated = Side(self.simulated_bars, [h for row in self._simulated for _, h in row if h], names)
        clusters = int(self.clusters.max()) + 1
        if self.prices_alone:
            return path_scores(replay, simulated, clusters)
        series = [m for row in self.simulated for m in row if isinstance(m, BookSeries)]
        if series:
            return book_scores(series, replay, simulated, clusters)
        return order_scores(replay, simulated, clusters)

    @cached_property
    def instruments(self) -> tuple[str, ...]:
        """Instrument of each start, ``[S]``."""
        return tuple(s.instrument for s in self.starts)

    @cached_property
    def clusters(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Cluster number of each start, ``[S]``: the unit of inference."""
        names = {c: i for i, c in enumerate(dict.fromkeys(s.cluster for s in self.starts))}
        return np.array([names[s.cluster] for s in self.starts], np.int64)

    @cached_property
    def replay_bars(self) -> MinuteBars:
        """One-minute bars of replay, stacked ``[S, ...]``; computed once for all metrics."""
        return MinuteBars.stack([bars for bars, _ in self._replayed])

    @cached_property
    def simulated_bars(self) -> MinuteBars:
        """One-minute bars of the simulations, stacked ``[S, R, ...]``; computed once for all metrics."""
        return MinuteBars.stack([MinuteBars.stack([bars for bars, _ in row]) for row in self._simulated])

    @cached_property
    def _replayed(self) -> list[tuple[MinuteBars, Health | None]]:
        return [measured(s, t) for s, t in zip(self.starts, self.replay, strict=True)]

    @cached_property
    def _simulated(self) -> list[list[tuple[MinuteBars, Health | None]]]:
        return [[measured(s, t) for t in row] for s, row in zip(self.starts, self.simulated, strict=True)]


def measured(start: Start, market: Market, done: Replay | None = None) -> tuple[MinuteBars, Health | None]:
    """Bars and health of one market, from one replay: ``done``, with a level, where it is there already."""
    if isinstance(market, BookSeries):
        return book_bars(market), None
    if isinstance(market, PathSeries):
        return path_bars(market), None
    done = done or replay_trajectory(market, levels=1)
    return minute_bars(market, last_trade_ticks=start.book.last_trade_ticks, done=done), health(market, done)


@dataclass(frozen=True)
class Landing:
    """Where a control or the oracle must land on one score of a metric, with replay of many days."""

    generator: str
    """``control-constant``, ``control-copy``, ``control-shuffled`` or ``reference``, the oracle."""
    score: str
    """Key of a score that shows it."""
    low: float = -np.inf
    high: float = np.inf
    of: Literal["value", "above_ceiling"] = "value"
    """What must lie within ``[low, high]``: the value, or value - ceiling."""
    missing: bool = False
    """Instead: there must be no value."""
    task: str = "realism"
    """In whose results it is looked for."""

    def problem(self, score: Score) -> str | None:
        """What is wrong with where the generator landed; None where nothing is."""
        place = f"{self.generator} on {self.score}"
        if self.missing or score.value is None:
            if self.missing == (score.value is None):
                return None
            return f"{place}: {'no value' if score.value is None else f'value {score.value:.4g}'} ({score.reason})"
        if self.of == "above_ceiling" and score.ceiling is None:
            return f"{place}: there is no ceiling to land above or below"
        found = score.value - (score.ceiling or 0.0) if self.of == "above_ceiling" else score.value
        inside = self.low <= found <= self.high
        return None if inside else f"{place}: {self.of} is {found:.4g}, must lie in [{self.low:g}, {self.high:g}]"


class Metric(ABC):
    """A metric family. Subclasses are frozen dataclasses whose fields are its parameters."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    evidence: ClassVar[type[Evidence]]
    takes_books: ClassVar[bool] = False
    """Whether it can judge simulations that are book snapshots or price paths alone (``TrajectoryPairs.lacking``);
    where it cannot, it is not asked and counts as not applicable."""
    summary: ClassVar[str] = ""
    landings: ClassVar[tuple[Landing, ...]] = ()
    """Where the three controls and the oracle must land, in each task that has the metric; tests hold it to that."""
    ceiling_from_oracle: ClassVar[bool] = False
    """Whether its scores take what the oracle scores as their ceiling (``TrajectoryPairs.ceilings``)."""
    floor_from_baseline: ClassVar[bool] = True
    """Whether its scores take frozen floors (``TrajectoryPairs.floors``); False where it measures all floors itself."""
    replay_alone: ClassVar[Mapping[str, str]] = {}
    """Key of a score that depends on replay alone -> the score whose ceiling it is. A leaderboard shows it as that."""

    @abstractmethod
    def evaluate(self, evidence: Any, rng: np.random.Generator) -> Outcome:
        """Score the evidence. All randomness (resampling, training) comes from ``rng``."""

    def outside_code(self) -> Mapping[str, str]:
        """Code outside the package that its scores depend on: name -> hash. A result made by other code is outdated."""
        return {}

    @classmethod
    def gains(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> Mapping[str, tuple[float, float]]:
        """Key -> 95% interval of (value - floor), paired, where the floor is measured on the same units and so has an
        error of its own; from the outcome's tables. A floor without an entry is taken as exact."""
        return {}

    @classmethod
    def known_answers(cls) -> Sequence[KnownAnswer]:
        """Processes whose truth is known, for ``marsbench check``; none for a metric that claims nothing."""
        return ()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        """Figures by name, drawn from the outcome's tables alone."""
        return {}


class NoStarts(ValueError):
    """Raised by ``Task.starts`` where a data set has no moment from which the task can begin."""


class NotApplicable(ValueError):
    """Raised by ``Task.run`` where a generator's simulations are sound but lack what the task is about."""


@dataclass(frozen=True)
class TaskContext:
    """What the runner lends to a task while it runs."""

    seed: int
    starts: Sequence[Start]
    """Where to simulate from: those of ``Task.starts``, or the first of them in a limited run."""
    simulate: Callable[..., Any]
    """Cached rollouts: ``simulate(generator, starts, rollouts, horizon_ns, agents=())`` -> ``[S][R]`` trajectories."""
    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)


class Task(ABC):
    """A versioned recipe. Subclasses are frozen dataclasses whose fields are its parameters."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    kinds: ClassVar[frozenset[Kind]]
    evidence: ClassVar[type[Evidence]]
    conditions: ClassVar[tuple[str, ...]] = ()
    """Inputs it conditions on, in the words of MarS tables 1 and 4."""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @property
    @abstractmethod
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Names and parameters of the metrics that score its evidence."""

    @abstractmethod
    def starts(self, dataset: Dataset) -> list[Start]:
        """The starts that it simulates from."""

    @abstractmethod
    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> Any:
        """Produce the evidence."""
