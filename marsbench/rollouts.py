"""Simulations in fixed work chunks, kept on disk by content and made by any number of processes.

A chunk is a fixed number of starts (128 rows, if the generator asks for no other number, or one
start): which rows are simulated together changes floating-point results, so it must not depend on
the number of processes or on where a run was interrupted. A chunk is written in one step; one that
is there is never simulated again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import marsbench
from marsbench.files import digest, set_aside
from marsbench.fitting import identity
from marsbench.market.books import Market
from marsbench.market.paths import PathSeries, load_paths, save_paths
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory, load_all, save
from marsbench.parallel import in_processes
from marsbench.progress import bar
from marsbench.simulation.contracts import (
    ROWS_TOGETHER,
    AgentFactory,
    Artifact,
    Generator,
    PathGenerator,
    SessionGenerator,
    Start,
    TrajectoryGenerator,
)

Made = SessionGenerator | PathGenerator
"""What is simulated here, start by start."""
Mode = Literal["cached", "fresh", "stored"]
"""Use what is stored and simulate the rest; simulate all of it anew; use what is stored only."""


@dataclass(frozen=True)
class Source:
    """How a worker process gets the generator: an instance, and what it has to load."""

    generator: Generator
    artifact: Path | None
    key: str


@dataclass
class Rollouts:
    """Cached simulation for one unit of work; ``simulate`` is what a task calls."""

    generator: Generator
    """Loaded, and the one that the unit is about."""
    source: Source
    artifact: Artifact | None
    dataset_hash: str
    seed: int
    folder: Path
    jobs: int = 1
    mode: Mode = "cached"
    say: Callable[[str], None] = print
    label: str = ""
    busiest: Callable[[], Mapping[str, int]] = dict
    """Gives the most orders in a stretch of training (``runaway.busiest``); asked where something is simulated."""
    rates: list[float] = field(default_factory=list)
    """Orders per second of each chunk. This and what is counted of orders, time and notes are of the unit's own
    generator, not of others that the task simulates beside it."""
    orders: int | None = 0
    """Messages in all trajectories; None where book snapshots or prices are all there is."""
    simulate_s: float = 0.0
    simulate_cpu_s: float = 0.0
    """CPU time of the same: what it costs, whatever else runs on the machine."""
    notes: dict[str, float] = field(default_factory=dict)
    """What sessions said about themselves, the mean over all orders."""
    worker_cpu_s: float = 0.0
    """CPU time of worker processes for chunks that were simulated now."""
    simulated: set[str] = field(default_factory=set)
    """Names of the chunks that this run has simulated; they are not simulated anew again."""

    def simulate(
        self,
        generator: Generator,
        starts: Sequence[Start],
        rollouts: int,
        horizon_ns: int,
        agents: Sequence[AgentFactory] = (),
    ) -> Sequence[Sequence[Market]]:
        """Simulations ``[S][R]`` of ``horizon_ns`` from every start.

        Raises
        ------
        FileNotFoundError
            If only stored trajectories may be used and some are missing.
        TypeError
            If the generator simulates nothing, or makes prices alone and agents are to trade.
        ValueError
            If files that were made elsewhere lack a start.
        """
        if isinstance(generator, TrajectoryGenerator):
            return self._from_files(generator, starts, horizon_ns)
        if not isinstance(generator, (SessionGenerator, PathGenerator)):
            raise TypeError(
                f"generator {generator.name!r} is of kind {generator.kind}; only sessions and price paths are simulated"
            )
        if isinstance(generator, PathGenerator) and agents:
            raise TypeError(f"generator {generator.name!r} makes price paths only: no agent can trade in them")
        chunks = chunked(starts, rollouts, ROWS_TOGETHER)
        known = {_moment(s): start_hash(s) for s in {_moment(s): s for s in starts}.values()}
        paths = [self.path(generator, chunk, rollouts, horizon_ns, agents, known) for chunk in chunks]
        found: dict[Path, Sequence[Market]] = {}
        for path in paths:
            ready = self._read(generator, path)
            if ready is not None:
                found[path] = ready
        todo = [(c, p) for c, p in zip(chunks, paths, strict=True) if p not in found]
        if todo and self.mode == "stored":
            raise FileNotFoundError(
                f"{self.label}: {len(todo)} of {len(chunks)} chunks of trajectories are not stored; "
                "`marsbench run` simulates them"
            )
        found.update(self._make(generator, todo, rollouts, horizon_ns, agents, total=len(chunks)))
        out: list[Sequence[Market]] = []
        for chunk, path in zip(chunks, paths, strict=True):
            if generator is self.generator:
                self._account(found[path])
            out.extend(found[path][i * rollouts : (i + 1) * rollouts] for i in range(len(chunk)))
        return out

    def path(
        self,
        generator: Generator,
        starts: Sequence[Start],
        rollouts: int,
        horizon_ns: int,
        agents: Sequence[AgentFactory] = (),
        known: Mapping[tuple[str, int, int], str] | None = None,
    ) -> Path:
        """Where a chunk is kept: a hash of everything that its content depends on.

        ``known`` holds hashes of starts that need not be computed again for each arm.
        """
        own = generator is self.generator
        content = {
            "marsbench": marsbench.__version__,
            "generator": identity(generator),
            "artifact": self.artifact.content_hash if own and self.artifact else None,
            "dataset": self.dataset_hash,
            "starts": [
                (s.name, (known or {}).get(_moment(s)) or start_hash(s), *([s.arm] if s.arm else [])) for s in starts
            ],
            "rollouts": rollouts,
            "horizon_ns": int(horizon_ns),
            "seed": self.seed,
            "agents": [(a.name, dict(a.parameters)) for a in agents],
        }
        return self.folder / f"{digest(content)}.parquet"

    def _read(self, generator: Made, path: Path) -> Sequence[Market] | None:
        if not path.exists() or (self.mode == "fresh" and path.name not in self.simulated):
            return None
        try:
            return _load(generator, path)
        except Exception as error:  # a damaged file can make its reader raise anything
            if self.mode == "stored":
                raise ValueError(
                    f"{path}: stored trajectories are damaged; `marsbench run` makes them again"
                ) from error
            self.say(f"stored trajectories are damaged, set aside as {set_aside(path).name}, simulated again: {error}")
            return None

    def _make(
        self,
        generator: Made,
        todo: Sequence[tuple[list[Start], Path]],
        rollouts: int,
        horizon_ns: int,
        agents: Sequence[AgentFactory],
        *,
        total: int,
    ) -> Iterator[tuple[Path, Sequence[Market]]]:
        """Simulate the chunks that are missing, here or in worker processes; each is saved when it is done."""
        if not todo:
            return
        settings = {"rollouts": rollouts, "horizon_ns": horizon_ns, "key": self.seed, "agents": tuple(agents)}
        settings["most_orders"] = self.busiest() if isinstance(generator, SessionGenerator) else {}
        with bar(total=total, initial=total - len(todo), desc=f"  {self.label}", unit="chunk") as progress:
            if self.jobs == 1 or len(todo) == 1:
                for starts, path in todo:
                    done = progress.n

                    def within(share: float, done: float = done) -> None:
                        progress.update(max(0.0, done + share - progress.n))

                    made = _simulate(generator, starts, path, progress=within, **settings)
                    within(1.0)
                    self.simulated.add(path.name)
                    yield path, made
                return
            source = self.source if generator is self.generator else Source(generator, None, "")
            for path, cpu_s in self._in_workers(source, todo, settings):
                self.worker_cpu_s += cpu_s
                self.simulated.add(path.name)
                progress.update()
                yield path, _load(generator, path, check=False)

    def _in_workers(
        self, source: Source, todo: Sequence[tuple[list[Start], Path]], settings: dict[str, Any]
    ) -> Iterator[tuple[Path, float]]:
        calls = ((source, starts, path, settings) for starts, path in todo)
        yield from in_processes(self.jobs, _work, calls, ordered=False)

    def _from_files(
        self, generator: TrajectoryGenerator, starts: Sequence[Start], horizon_ns: int
    ) -> Sequence[Sequence[Market]]:
        many = [generator.trajectories(start, horizon_ns) for start in starts]
        without = [s.name for s, t in zip(starts, many, strict=True) if not t]
        if without:
            raise ValueError(
                f"{self.label}: no trajectory for {len(without)} of {len(starts)} starts, the first is {without[0]!r}; "
                "provide one file per start, or limit the starts"
            )
        rollouts = min(map(len, many))
        if max(map(len, many)) > rollouts:
            self.say(
                f"{self.label}: some starts have up to {max(map(len, many))} trajectories, others {rollouts}; "
                f"the first {rollouts} of every start are used, so that all starts count alike"
            )
        counts = [market.n_orders for row in many for market in row[:rollouts]]
        self.orders = None if None in counts else sum(n or 0 for n in counts) + (self.orders or 0)
        return [row[:rollouts] for row in many]

    def _account(self, chunk: Sequence[Market]) -> None:
        seconds = float(chunk[0].labels.get("chunk_wall_s", 0.0)) if chunk else 0.0
        self.simulate_s += seconds
        self.simulate_cpu_s += float(chunk[0].labels.get("chunk_cpu_s", 0.0)) if chunk else 0.0
        counts = [market.n_orders for market in chunk]
        if None in counts:
            self.orders = None
            return
        orders = sum(n or 0 for n in counts)
        before, self.orders = self.orders or 0, (self.orders or 0) + orders
        for name, value in (chunk[0].labels.get("notes", {}) if chunk else {}).items():
            self.notes[name] = (self.notes.get(name, 0.0) * before + value * orders) / max(self.orders, 1)
        if seconds > 0:
            self.rates.append(orders / seconds)

    def orders_per_s(self) -> float | None:
        """Orders per second of one process: the median over chunks (the higher of two: the first one compiles)."""
        return sorted(self.rates)[len(self.rates) // 2] if self.rates else None


def chunked(starts: Sequence[Start], rollouts: int, rows: int) -> list[list[Start]]:
    """Starts in work chunks: in order, at most so many rows or one start, all under the same rules."""
    size = max(1, rows // rollouts)
    chunks: list[list[Start]] = []
    for start in starts:
        if chunks and len(chunks[-1]) < size and chunks[-1][0].rules == start.rules:
            chunks[-1].append(start)
        else:
            chunks.append([start])
    return chunks


def _moment(start: Start) -> tuple[str, int, int]:
    """The same for all arms of a start: name, and which objects its history and its book are."""
    return start.name, id(start.history), id(start.book)


def start_hash(start: Start) -> str:
    """SHA-256 (hex) of everything that a simulation knows at its start."""
    book = start.book
    head = [start.clock_ns, book.last_trade_ticks, book.reference_ticks, book.next_id, book.time_ns]
    content = hashlib.sha256(repr([int(v) for v in head]).encode())
    content.update(repr(start.rules.to_dict()).encode())
    content.update(book.resting.tobytes())
    content.update(start.history.content_hash().encode())
    return content.hexdigest()


def _load(generator: Made, path: Path, *, check: bool = True) -> Sequence[Market]:
    """The simulations of a chunk."""
    return load_paths(path) if isinstance(generator, PathGenerator) else load_all(path, check=check)


def _simulate(
    generator: Made,
    starts: Sequence[Start],
    path: Path,
    *,
    progress: Callable[[float], None] | None = None,
    **settings: Any,
) -> Sequence[Market]:
    """Simulate one chunk and save it; the labels of the first simulation say what it cost."""
    wall, cpu = time.perf_counter(), time.process_time()

    def cost() -> dict[str, float]:
        return {"chunk_wall_s": time.perf_counter() - wall, "chunk_cpu_s": time.process_time() - cpu}

    if isinstance(generator, PathGenerator):
        paths = make_paths(generator, starts, settings["rollouts"], settings["horizon_ns"], key=settings["key"])
        paths[0] = paths[0].with_labels(**cost())
        save_paths(paths, path)
        return paths
    trajectories = _sessions(generator, starts, progress, **settings)
    trajectories[0] = trajectories[0].with_labels(**cost())
    save(trajectories, path)
    return trajectories


def _sessions(
    generator: SessionGenerator, starts: Sequence[Start], progress: Callable[[float], None] | None, **settings: Any
) -> list[Trajectory]:
    from marsbench.simulation.rollout import simulate

    rows = simulate(
        generator,
        starts,
        settings["rollouts"],
        settings["horizon_ns"],
        key=settings["key"],
        agents=settings["agents"],
        most_orders=settings["most_orders"],
        progress=progress,
    )
    return [t for row in rows for t in row]


def make_paths(
    generator: PathGenerator, starts: Sequence[Start], rollouts: int, horizon_ns: int, *, key: int
) -> list[PathSeries]:
    """The paths of a generator as markets, start by start, each departing from the mid price of its start.

    Raises
    ------
    ValueError
        If they are not of the shape that was asked for, or a price is not finite or not above 0.
    """
    minutes = horizon_ns // MINUTE
    prices = np.asarray(generator.paths(starts, rollouts, minutes, key=key), np.float64)
    if prices.shape != (wanted := (len(starts), rollouts, minutes)):
        raise ValueError(f"generator {generator.name!r}: paths of shape {prices.shape}, must be {wanted}")
    out = []
    for start, own in zip(starts, prices, strict=True):
        end_ns = int(start.rules.clock_ns(start.rules.trading_ns(start.clock_ns) + horizon_ns))
        for r, path in enumerate(own):
            mids = np.concatenate([[start.mid_ticks], path])
            labels = {"generator": generator.name, "rollout": r}
            out.append(
                PathSeries(start.instrument, start.date, start.rules, start.clock_ns, end_ns, mids, labels=labels)
            )
    return out


_LOADED: dict[str, Made] = {}
"""The generator that a worker process loaded last, by its source's key."""


def _work(source: Source, starts: Sequence[Start], path: Path, settings: dict[str, Any]) -> tuple[Path, float]:
    """One chunk in a worker process; returns where it is, and the CPU seconds that it took."""
    before = os.times()
    assert isinstance(source.generator, (SessionGenerator, PathGenerator))
    generator = _LOADED.get(source.key) if source.key else source.generator
    if generator is None:
        generator = source.generator
        if source.artifact is not None:
            generator.load(Artifact.read(source.artifact))
        _LOADED.clear()
        _LOADED[source.key] = generator
    _simulate(generator, starts, path, **settings)
    after = os.times()
    return path, after.user + after.system - before.user - before.system
