"""``realism``: does a simulated market look like the real one? MarS section 3.1, appendices I and J."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marsbench.evidence import Task, TaskContext, TrajectoryPairs
from marsbench.market.rules import MINUTE
from marsbench.quantities import TABLE_7, resolve
from marsbench.simulation.contracts import Generator, Kind, Start

from ._starts import paired, starts_of

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset


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
    quantities: str = TABLE_7
    """What distributions and 3-class accuracy are about: names joined by ``+`` (``marsbench list quantities``)."""

    name = "realism"
    version = 1
    kinds = frozenset({Kind.SESSION, Kind.TRAJECTORIES, Kind.PATHS})
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
        resolve(self.quantities)

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        named = {} if self.quantities == TABLE_7 else {"quantities": self.quantities}
        return (
            ("stylized-facts", {}),
            ("distribution-similarity", named),
            ("three-class-accuracy", named),
            ("memorisation", {}),
        )

    def starts(self, dataset: Dataset) -> list[Start]:
        """Starts of the test periods, in time order within each period."""
        most = None if dataset.single_day else self.most_starts
        return starts_of(dataset, minutes=self.minutes, per_day=self.starts_per_day, most=most)

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> TrajectoryPairs:
        """Simulate from every start and pair with replay."""
        rollouts = self.single_day_rollouts if dataset.single_day else self.rollouts
        simulated = context.simulate(generator, context.starts, rollouts, self.minutes * MINUTE)
        return paired(dataset, context, simulated, self.minutes)
