"""A third party's plug-ins, found through entry points like anybody's: what the runner's tests run.

``toy-walk`` sends an order every few seconds, slowly enough to be killed in between.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marsbench.evidence import Evidence, Metric, Task, TaskContext, TrajectoryPairs
from marsbench.market.orders import orders
from marsbench.market.rules import MINUTE, SECOND
from marsbench.scores import Outcome, Score
from marsbench.simulation.contracts import Artifact, Generator, Kind, RowOrders, Session, SessionGenerator, Start


class _WalkSession(Session):
    def __init__(self, starts: Sequence[Start], rollouts: int, key: int, size: int) -> None:
        self._now = np.repeat([s.clock_ns for s in starts], rollouts)
        self._random = [np.random.default_rng([key, s.uid, r]) for s in starts for r in range(rollouts)]
        self._size = size

    def propose(self, rows: Any, book: Any) -> Any:
        self._now[rows] += 4 * SECOND
        return self._now[rows].copy()

    def decide(self, rows: Any, book: Any) -> RowOrders:
        ask, bid = book.quotes_ticks
        kind = np.array([self._random[r].integers(2) for r in rows])
        offset = np.array([self._random[r].integers(-1, 4) for r in rows])
        price = np.where(kind == 0, bid + 1 + offset, ask - 1 - offset)
        return RowOrders(rows, orders(kind=kind, price_ticks=price, size_shares=self._size))

    def observe(self, events: Any) -> Any:
        return np.zeros(0, np.int64)


class ToyWalk(SessionGenerator):
    name = "toy-walk"
    version = 3
    reacts = True
    summary = "one order every four seconds"

    def __init__(self, lots: int = 1, pause_s: float = 0.0) -> None:
        self.lots = lots
        self.pause_s = pause_s
        self.size = 0

    def parameters(self) -> Mapping[str, Any]:
        return {"lots": self.lots}

    def fit(self, data: Any, folder: Path, *, seed: int, budget: Any) -> Artifact:
        time.sleep(self.pause_s)
        (folder / "size.json").write_text(json.dumps(100 * self.lots))
        curve = {"loss": {"step": [0, 10, 20], "value": [3.0, 2.0, 1.5]}}
        (folder / "training.json").write_text(json.dumps(curve))
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        self.size = json.loads((artifact.folder / "size.json").read_text())

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        time.sleep(self.pause_s)
        if log := os.environ.get("TOY_LOG"):
            with open(log, "a") as file:
                file.write(f"{key} {' | '.join(s.name for s in starts)}\n")
        return _WalkSession(starts, rollouts, key, self.size)


class ToyBroken(SessionGenerator):
    name = "toy-broken"
    fits = False
    hidden = True

    def fit(self, data: Any, folder: Path, *, seed: int, budget: Any) -> Artifact:
        raise NotImplementedError

    def load(self, artifact: Artifact) -> None:
        raise NotImplementedError

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        raise RuntimeError("this generator never works")


class ToyPeek(ToyWalk):
    """Claims to have been trained on what it is tested on."""

    name = "toy-peek"
    hidden = True

    def fit(self, data: Any, folder: Path, *, seed: int, budget: Any) -> Artifact:
        (folder / "size.json").write_text("100")
        made = Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)
        head = json.loads((folder / "artifact.json").read_text())
        head["trained_on"] = [t.replace("2024-01-02", "2024-01-03") for t in head["trained_on"]]
        (folder / "artifact.json").write_text(json.dumps(head))
        return Artifact.read(made.folder)


class ToyForecast(Generator):
    name = "toy-forecast"
    kind = Kind.FORECAST
    fits = False
    hidden = True


@dataclass(frozen=True)
class ToyTask(Task):
    """One minute from every tenth minute of the test periods."""

    starts_per_period: int = 3
    rollouts: int = 64

    name = "toy"
    version = 2
    kinds = frozenset({Kind.SESSION, Kind.TRAJECTORIES})
    evidence = TrajectoryPairs
    conditions = ("starting sequence",)
    summary = "a minute of orders"

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (("toy-flow", {}), ("toy-flow", {"side": 1}))

    def starts(self, dataset: Any) -> list[Start]:
        out = []
        for period in dataset.split("test"):
            for i in range(self.starts_per_period):
                at = period.start_ns + (i + 1) * 10 * MINUTE
                book = dataset.window(period.instrument, period.date, at, at + MINUTE).book
                history = dataset.history(period.instrument, period.date, at)
                cluster = f"{period.instrument} {period.date}"
                out.append(
                    Start(period.instrument, period.date, dataset.rules(period), at, book, history, cluster=cluster)
                )
        return out

    def run(self, generator: Generator, dataset: Any, context: TaskContext) -> TrajectoryPairs:
        simulated = context.simulate(generator, context.starts, self.rollouts, MINUTE)
        replay = [dataset.window(s.instrument, s.date, s.clock_ns, s.clock_ns + MINUTE) for s in context.starts]
        return TrajectoryPairs(
            tuple(context.starts), tuple(replay), tuple(map(tuple, simulated)), 1, context.floors, dataset.single_day
        )


@dataclass(frozen=True)
class ToyFlow(Metric):
    """Mean price of the orders of one side, against the frozen floor."""

    side: int = 0

    name = "toy-flow"
    version = 4
    evidence = TrajectoryPairs
    summary = "mean order price"

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        key = f"toy.price.{'bid' if self.side else 'ask'}"
        per_start = [
            float(np.mean([self._mean(t) for t in row])) / self._mean(real) if self._mean(real) else 1.0
            for row, real in zip(evidence.simulated, evidence.replay, strict=True)
        ]
        draws = rng.choice(per_start, (200, len(per_start))).mean(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        value, floor = float(np.mean(per_start)), evidence.floors.get(key)
        informative = None if floor is None else abs(1.0 - floor) > 1e-9
        one = Score(
            key, value, "distributions", ci_low=float(low), ci_high=float(high), ci_method="bootstrap", floor=floor,
            ceiling=1.0, normalised=(value - floor) / (1.0 - floor) if informative and floor is not None else None,
            informative=informative, n=len(per_start), clusters=len(set(evidence.clusters.tolist())),
        )  # fmt: skip
        return Outcome((one,), {"by_start": {"start": list(range(len(per_start))), "ratio": per_start}}, ("a toy",))

    def _mean(self, trajectory: Any) -> float:
        own = trajectory.orders[trajectory.orders["kind"] == self.side]
        return float(own["price_ticks"].mean()) if len(own) else 0.0

    @classmethod
    def draw(cls, tables: Any) -> Any:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(4, 2))
        axes.plot(tables["by_start"]["start"], tables["by_start"]["ratio"], "o")
        return {"ratio": figure}


class OtherEvidence(Evidence):
    pass


@dataclass(frozen=True)
class ToyMismatch(Task):
    """A task whose metric cannot score what it produces."""

    name = "toy-mismatch"
    kinds = frozenset({Kind.SESSION})
    evidence = OtherEvidence

    @property
    def metrics(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return (("toy-flow", {}),)

    def starts(self, dataset: Any) -> list[Start]:
        return []

    def run(self, generator: Generator, dataset: Any, context: TaskContext) -> OtherEvidence:
        return OtherEvidence()
