"""``sessions``: nearly whole trading days simulated freely, for what shorter windows cannot carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marsbench.evidence import NoStarts, Task, TaskContext, TrajectoryPairs
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Generator, Kind, Start

from ._starts import paired, spread, start_at

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

LEAST_DAYS = 2


@dataclass(frozen=True)
class Sessions(Task):
    """Let generators run from the morning to the close, and judge the facts of whole days.

    A simulation starts ``warm_up`` minutes after continuous trading began on a test day (a generator knows the
    real orders until then) and runs freely until the last whole minute before the close, breaks skipped: nobody
    sets it back to the real market. One rollout per start; a day x instrument is the unit of inference. A data
    set with a single test day has no second session and is refused.
    """

    warm_up: int = 10
    """Minutes of real trading before a simulation begins."""
    most_sessions: int | None = 40
    """So many instrument-days, spread evenly over the test period; None takes all."""
    rollouts: int = 1

    name = "sessions"
    version = 1
    kinds = frozenset({Kind.SESSION, Kind.PATHS})
    evidence = TrajectoryPairs
    conditions = ("starting sequence (x_0, ..., x_m)", "matching rules MTCH_R")
    summary = "stylized facts of free-running whole sessions: intermittency, clustering, its slow decay"
    source = "MarS (ICLR 2025) appendix I; Cont (2001)"

    def __post_init__(self) -> None:
        for name in ("warm_up", "rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"sessions: {name} must be at least 1, got {getattr(self, name)}")
        if self.most_sessions is not None and self.most_sessions < LEAST_DAYS:
            raise ValueError(f"sessions: most_sessions must be at least 2, or none for all; got {self.most_sessions}")

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (("stylized-facts", {"family": "session_facts"}),)

    def starts(self, dataset: Dataset) -> list[Start]:
        """One for each test day and instrument, in time order.

        Raises
        ------
        NoStarts
            If the data set has no two whole test days.
        """
        whole = [period for period in dataset.split("test") if self._minutes(dataset, period) > 0]
        if dataset.single_day or len(whole) < LEAST_DAYS:
            raise NoStarts(
                f"task sessions needs at least {LEAST_DAYS} whole test days; {dataset.name} has {len(whole)} test "
                "period(s) of one day. Use the task realism there"
            )
        if self.most_sessions is not None and len(whole) > self.most_sessions:
            whole = spread(whole, self.most_sessions)
        minutes = self._shortest(dataset, whole)
        return [start_at(dataset, period, self._clock(dataset, period), minutes) for period in whole]

    def _clock(self, dataset: Dataset, period: Period) -> int:
        """Clock minute at which a simulation starts."""
        begin = max(period.start_ns, dataset.rules(period).continuous[0].start_ns)
        return -(-begin // MINUTE) * MINUTE + self.warm_up * MINUTE

    def _minutes(self, dataset: Dataset, period: Period) -> int:
        """Whole minutes of trading from there to the close."""
        rules = dataset.rules(period)
        end = min(period.end_ns, rules.continuous[-1].end_ns)
        return int((rules.trading_ns(end) - rules.trading_ns(self._clock(dataset, period))) // MINUTE)

    def _shortest(self, dataset: Dataset, periods: Sequence[Period]) -> int:
        return min(self._minutes(dataset, period) for period in periods)

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> TrajectoryPairs:
        """Simulate every session, all as long as the shortest, and pair with replay."""
        asked = {(s.instrument, s.date) for s in context.starts}
        minutes = self._shortest(dataset, [p for p in dataset.split("test") if (p.instrument, p.date) in asked])
        simulated = context.simulate(generator, context.starts, self.rollouts, minutes * MINUTE)
        return paired(dataset, context, simulated, minutes)
