"""``lob-bench``: message sequences as LOB-Bench judges them, from its folders or from our own data and generators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsbench.data.export import price_unit
from marsbench.data.lob_bench_folder import is_lob_bench_folder, read
from marsbench.data.lobster_rows import lobster_sequence
from marsbench.evidence import NotApplicable, Task, TaskContext
from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.market.rules import MINUTE, clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Generator, Kind, Start

from ._starts import paired, starts_of

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset


@dataclass(frozen=True)
class LobBenchTask(Task):
    """The first messages after each start, in LOBSTER's rows, beside those that really came.

    Simulations have the same length in time; of both sides at most ``messages`` rows are kept. Generated sequences
    of fewer are used as they are. A folder in LOB-Bench's layout is read instead by ``marsbench score files:DIR``.
    """

    messages: int = 500
    minutes: int = 5
    """Length of a rollout; long enough for so many messages, or sequences are short."""
    starts_per_day: int = 4
    """Of every test day; on a single day starts follow each other without overlap."""
    most_starts: int | None = 100
    """So many starts are taken, spread evenly; None takes all."""
    rollouts: int = 1
    tick: float = 100.0
    """One tick of a folder's prices, in 1e-4 of the currency; data sets of ours know theirs."""

    name = "lob-bench"
    version = 2
    kinds = frozenset({Kind.SESSION, Kind.TRAJECTORIES})
    evidence = LobSequences
    conditions = ("starting sequence (x_0, ..., x_m)", "matching rules MTCH_R")
    summary = "LOB-Bench's scores of 500-message sequences, of its folder layout or of our generators"
    source = "Nagy et al. (2025), arXiv 2502.09172"

    def __post_init__(self) -> None:
        for name in ("messages", "minutes", "starts_per_day", "rollouts", "tick"):
            if not getattr(self, name) > 0:
                raise ValueError(f"lob-bench: {name} must be positive, got {getattr(self, name)}")
        if self.most_starts is not None and self.most_starts < 1:
            raise ValueError(f"lob-bench: most_starts must be at least 1, or none for all; got {self.most_starts}")

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (("lob-bench", {}),)

    def has_layout(self, folder: Path) -> bool:
        """Whether it holds ``data_real`` and ``data_gen``."""
        return is_lob_bench_folder(folder)

    def read_folder(self, folder: Path) -> LobSequences:
        """The sequences of a folder in LOB-Bench's layout, whole."""
        return read(folder, tick=self.tick)

    def starts(self, dataset: Dataset) -> list[Start]:
        """Starts of the test periods, in time order within each period."""
        return starts_of(dataset, minutes=self.minutes, per_day=self.starts_per_day, most=self.most_starts)

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> LobSequences:
        """Simulate from every start, and write both sides in LOBSTER's rows.

        Raises
        ------
        NotApplicable
            If simulations are book snapshots alone.
        ValueError
            If they cannot be said in LOBSTER's format.
        """
        simulated = context.simulate(generator, context.starts, self.rollouts, self.minutes * MINUTE)
        both = paired(dataset, context, simulated, self.minutes)
        pairs = []
        for start, real, row in zip(both.starts, both.replay, both.simulated, strict=True):
            if not all(isinstance(market, Trajectory) for market in row):
                raise NotApplicable("simulations are book snapshots alone; lob-bench scores messages")
            first = both.starts[0]
            if price_unit(start.rules) != price_unit(first.rules):
                raise ValueError(f"{start.instrument} has another tick than {first.instrument}; score one at a time")
            made = tuple(lobster_sequence(t, messages=self.messages) for t in row if isinstance(t, Trajectory))
            name = f"{start.instrument} {start.date} {clock_text(start.clock_ns)}"
            day = f"{start.instrument} {start.date}"
            pairs.append(LobPair(name, day, lobster_sequence(real, messages=self.messages), made))
        tick = float(price_unit(both.starts[0].rules))
        return LobSequences(tuple(pairs), tick=tick, floors=context.floors, simulations=both.validity())
