"""``market-impact``: the same moments with and without somebody who trades, same random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench import registry
from marsbench.data.metaorders import of_split
from marsbench.evidence import Task, TaskContext, measured
from marsbench.impact_runs import Arm, Example, ImpactRuns, Normalisers
from marsbench.market.orders import MARKET
from marsbench.market.orders import Kind as OrderKind
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.scores import Score
from marsbench.simulation.contracts import ORACLE, AgentFactory, Generator, Kind, Start
from marsbench.simulation.execution import BUY, SELL, Metaorder, Style, style_of
from marsbench.simulation.overlay import Overlay
from marsbench.stats.executions import Executed, executed
from marsbench.stats.metaorders import MidPath

from ._before import before, daily, window
from ._starts import GOLDEN, Read, all_clocks, replay_after, starts_of, validity_of

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK_MINUTES = 25
"""On a single day starts within so many minutes are one unit of inference."""
OWN_RANGE = (0.01, 0.999)
"""Quantiles of the market's own metaorders between which sizes are chosen."""
TRUTH_ROLLOUTS = 2
EXAMPLE_STEP_S = 5


@dataclass(frozen=True)
class Variant:
    """What is done at every start, once for each rollout."""

    agent: int
    side: int
    rank: int


@dataclass(frozen=True)
class MarketImpact(Task):
    """Send metaorders into a market, and compare with the same market without them.

    From every start each agent buys and sells several sizes, in a simulation with the same random numbers as the
    control arm's, which all metaorders of a start share: there the null agent wakes and sends nothing. Before the start
    all arms are one and the same history. One start in ``tail_every`` is followed for ``tail_minutes`` longer. The same
    metaorders are sent into recorded flow, which plays on (the overlay: impact without reaction), and, where a data set
    knows its hidden state, into the true market.

    Sizes are shares of a day's volume, even in the logarithm: where the market's own metaorders are known, between the
    1% and the 99.9% quantile of those of the instrument's training days, otherwise between ``lowest`` and ``highest``.
    A day's volume and volatility are those of the latest training days, scaled to a whole day from what of it was seen.
    """

    agents: str = "L1-P0.1+L5-P0.1+L1-P0.9+L5-P0.9"
    """Labels of execution styles (``marsbench.simulation.execution``), joined by +."""
    sizes: int = 5
    """Different sizes of each agent and side at a start."""
    lowest: float = 0.0003
    """Smallest metaorder, as a share of a day's volume, where the market's own are not known."""
    highest: float = 0.015
    """Largest."""
    metaorders: int = 4000
    """About so many: rollouts of each start are added until there are."""
    most_starts: int | None = 100
    """So many starts are taken, spread evenly; None takes all."""
    tail_every: int = 10
    trading_minutes: int = 5
    """Agents are done within so many minutes."""
    tail_minutes: int = 15

    name = "market-impact"
    version = 1
    kinds = frozenset({Kind.SESSION})
    evidence = ImpactRuns
    conditions = ("starting sequence (x_0, ..., x_m)", "orders of an agent", "matching rules MTCH_R")
    summary = "metaorders sent into the market, and the same market without them"
    source = "MarS (ICLR 2025) sections 3.2 and 4.3, appendices H.1 and K"

    def __post_init__(self) -> None:
        for name in ("sizes", "metaorders", "tail_every", "trading_minutes", "tail_minutes"):
            if getattr(self, name) < 1:
                raise ValueError(f"market-impact: {name} must be at least 1, got {getattr(self, name)}")
        if self.most_starts is not None and self.most_starts < 1:
            raise ValueError(f"market-impact: most_starts must be at least 1, or none for all; got {self.most_starts}")
        if not 0 < self.lowest < self.highest:
            raise ValueError(
                f"market-impact: sizes need 0 < lowest < highest, got {self.lowest:g} and {self.highest:g}"
            )
        for style in self.styles:
            if style.duration_s > self.trading_minutes * 60:
                raise ValueError(
                    f"market-impact: {style.label} trades for {style.duration_s:g} s, longer than trading_minutes="
                    f"{self.trading_minutes}"
                )

    @property
    def styles(self) -> tuple[Style, ...]:
        """How metaorders are worked off."""
        return tuple(style_of(label) for label in self.agents.split("+"))

    @property
    def minutes(self) -> int:
        """Of the longest run."""
        return self.trading_minutes + self.tail_minutes

    @property
    def metrics(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        return (("square-root-law", {}), ("impact-factors", {}), ("impact-ode", {}))

    def starts(self, dataset: Dataset) -> list[Start]:
        """One start of each test day from which the longest run fits; of a single day those that follow each other."""
        if not dataset.single_day:
            return starts_of(dataset, minutes=self.minutes, per_day=1, most=self.most_starts)
        found = starts_of(dataset, minutes=self.trading_minutes, per_day=1, most=self.most_starts)
        return [replace(s, cluster=_block(s)) for s in found]

    def run(self, generator: Generator, dataset: Dataset, context: TaskContext) -> ImpactRuns:
        """Simulate all arms and measure them."""
        starts = tuple(context.starts)
        known = before(starts)
        day = daily(dataset, starts)
        sizes = self._sizes(dataset, starts, day)
        variants = [
            Variant(a, side, rank) for a, side, rank in product(range(len(self.styles)), (BUY, SELL), range(self.sizes))
        ]
        rollouts = max(1, round(self.metaorders / (len(starts) * len(variants))))
        tails = self._tails(dataset, starts)
        experiment = _Experiment(self, starts, sizes, variants, tails, context)
        own = experiment.market(generator, starts, rollouts)
        recorded = experiment.recorded(dataset)
        asked = (dataset.content_hash, self, context.seed, rollouts, tuple(s.name for s in starts))
        if asked not in _YARDSTICKS:
            _YARDSTICKS[asked] = experiment.yardsticks(dataset, recorded, rollouts)
        yardsticks = _YARDSTICKS[asked]
        v, s, _ = (x.ravel() for x in np.indices((len(variants), len(starts), rollouts)))
        return ImpactRuns(
            starts=starts,
            agents=tuple(style.label for style in self.styles),
            trading_minutes=self.trading_minutes,
            minutes=self.minutes,
            start=s,
            agent=np.array([variants[i].agent for i in v]),
            side=np.array([variants[i].side for i in v]),
            rank=np.array([variants[i].rank for i in v]),
            target_shares=np.array([sizes[j, variants[i].rank] for i, j in zip(v, s, strict=True)]),
            daily=day,
            window=window(known, self.trading_minutes),
            replay_shares=np.array(
                [
                    _first(recorded[s.name], self.trading_minutes).fills["size_shares"].sum(dtype=np.float64)
                    for s in starts
                ]
            ),
            before=known,
            own=own.arm(0, rollouts),
            overlay=yardsticks.overlay,
            truth=yardsticks.truth,
            other_truth=yardsticks.other_truth,
            example=experiment.example(own, recorded),
            single_day=dataset.single_day,
            simulations=own.validity(recorded),
        )

    def _tails(self, dataset: Dataset, starts: Sequence[Start]) -> Ints:
        """Numbers of the starts that are followed further: one in ``tail_every`` of those where trading goes on."""
        places = {
            (p.instrument, p.date, clock)
            for p in dataset.split("test")
            for clock in all_clocks(dataset, p, minutes=self.minutes)
        }
        fits = [i for i, s in enumerate(starts) if (s.instrument, s.date, s.clock_ns) in places]
        return np.array(fits[:: self.tail_every], np.int64)

    def _sizes(self, dataset: Dataset, starts: Sequence[Start], day: Normalisers) -> Ints:
        """``[S, K]`` shares, ascending, in whole lots; where in each stratum a start's sizes lie moves on with it."""
        within = (np.arange(len(starts)) * GOLDEN) % 1.0
        quantile = (np.arange(self.sizes)[None, :] + within[:, None]) / self.sizes
        low, high = _range(dataset, starts, day, (self.lowest, self.highest))
        share = low[:, None] * (high / low)[:, None] ** quantile
        lots = np.array([s.rules.lot_shares for s in starts], np.float64)[:, None]
        whole = np.maximum(np.rint(share * day.shares[:, None] / lots), 1) * lots
        return whole.astype(np.int64)


def _block(start: Start) -> str:
    opened = start.rules.continuous[0].start_ns
    number = (start.rules.trading_ns(start.clock_ns) - start.rules.trading_ns(opened)) // (BLOCK_MINUTES * MINUTE)
    return f"{start.instrument} {start.date} block {int(number)}"


def _range(
    dataset: Dataset, starts: Sequence[Start], day: Normalisers, otherwise: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Smallest and largest share of a day's volume at each start, ``[S]``: the market's own where they are known."""
    found = dict.fromkeys((s.instrument for s in starts), otherwise)
    if dataset.metaorders() is not None:
        table = of_split(dataset, "train")
        volume = {s.instrument: v for s, v in zip(starts, day.shares, strict=True)}
        for name in found:
            own = table["executed_shares"][table["instrument"] == name] / volume[name]
            if len(own):
                low, high = np.quantile(own, OWN_RANGE)
                found[name] = (float(low), float(high))
    low, high = np.array([found[s.instrument] for s in starts]).T
    return low, high


@dataclass(frozen=True)
class _Yardsticks:
    """What every generator is held against."""

    overlay: Arm
    truth: Arm | None
    other_truth: Arm | None


_YARDSTICKS: dict[tuple[Any, ...], _Yardsticks] = {}
"""Measured for one generator, for the next one."""


@dataclass(frozen=True)
class _Market:
    """Everything that was measured in one market."""

    experiment: _Experiment
    runs: NDArray[np.object_]
    """``[V, S, R]`` ``Executed``."""
    controls: Floats
    """``[S, R, M + 1]`` log mid of the control arm."""
    control_runs: Sequence[Sequence[Trajectory]]
    """``[S][R]``."""
    shown: Trajectory | None
    """The metaorder of the example."""

    def arm(self, first: int, rollouts: int, *, repeat: int = 1) -> Arm:
        """Of the rollouts from number ``first`` on, each taken ``repeat`` times."""
        runs = np.repeat(self.runs[:, :, first : first + rollouts], repeat, axis=2)
        controls = np.repeat(self.controls[:, first : first + rollouts], repeat, axis=1)
        side = np.array([v.side for v in self.experiment.variants])[:, None, None, None]
        mids = np.array([[[run.log_mid for run in row] for row in block] for block in runs])  # [V, S, R, M + 1]
        drift = controls - controls[..., :1]
        flat = (-1, mids.shape[-1])
        return Arm(
            executed_shares=_column(runs, "shares").astype(np.int64),
            passive_shares=_column(runs, "passive_shares").astype(np.int64),
            price_ticks=_column(runs, "price_ticks"),
            path=(side * (mids - controls[None])).reshape(flat),
            drift=(side * drift[None]).reshape(flat),
            window_shares=_column(runs, "window_shares").astype(np.int64),
            rejected=_column(runs, "rejected").astype(np.int64),
        )

    def validity(self, recorded: dict[str, Trajectory]) -> tuple[Score, ...]:
        """Of the control arm beside replay, over the minutes of trading."""
        replayed: list[Read] = []
        simulated: list[Read] = []
        minutes = self.experiment.task.trading_minutes
        for start, row in zip(self.experiment.starts, self.control_runs, strict=True):
            replayed.append((start.instrument, *measured(start, _first(recorded[start.name], minutes))))
            simulated += [(start.instrument, *measured(start, _first(run, minutes))) for run in row]
        return validity_of(replayed, simulated, len({s.cluster for s in self.experiment.starts}))


def _first(trajectory: Trajectory, minutes: int) -> Trajectory:
    rules = trajectory.rules
    return cut(
        trajectory, trajectory.start_ns, int(rules.clock_ns(rules.trading_ns(trajectory.start_ns) + minutes * MINUTE))
    )


def _column(runs: NDArray[np.object_], name: str) -> Floats:
    return np.array([getattr(run, name) for run in runs.ravel()], np.float64)


def _joined(arms: Sequence[Arm]) -> Arm:
    """All metaorders of several rollouts, one after the other."""
    return Arm(**{f.name: np.concatenate([getattr(arm, f.name) for arm in arms]) for f in fields(Arm)})


@dataclass(frozen=True)
class _Experiment:
    """The metaorders of a run, and the market of the hour to send them into."""

    task: MarketImpact
    starts: tuple[Start, ...]
    sizes: Ints
    """``[S, K]``."""
    variants: Sequence[Variant]
    tails: Ints
    context: TaskContext

    def market(self, generator: Generator, starts: Sequence[Start], rollouts: int) -> _Market:
        """Send them all into one market: arm 0 is the null agent's, arm v + 1 that of variant v."""
        runs = np.empty((len(self.variants), len(starts), rollouts), object)
        controls = np.full((len(starts), rollouts, self.task.minutes + 1), np.nan)
        kept: list[Sequence[Trajectory]] = [()] * len(starts)
        shown: Trajectory | None = None
        for group, minutes in self._groups(len(starts)):
            arms = [replace(starts[i], arm=arm) for arm in range(len(self.variants) + 1) for i in group]
            agents = [self._agent(a, group) for a in range(len(self.task.styles))]
            rows = iter(self.context.simulate(generator, arms, rollouts, minutes * MINUTE, agents=agents))
            for i in group:
                kept[i] = next(rows)
                controls[i] = [self._measure(run, BUY).log_mid for run in kept[i]]
            for v, variant in enumerate(self.variants):
                for i in group:
                    row = next(rows)
                    runs[v, i] = [self._measure(run, variant.side) for run in row]
                    if (v, i) == self._shown():
                        shown = row[0]
        return _Market(self, runs, controls, kept, shown)

    def yardsticks(self, dataset: Dataset, recorded: dict[str, Trajectory], rollouts: int) -> _Yardsticks:
        """The same metaorders in recorded flow, and in the true market where its hidden state is known."""
        overlay = self.market(Overlay(recorded), self.starts, 1).arm(0, 1, repeat=rollouts)
        if not dataset.has_truth:
            return _Yardsticks(overlay, None, None)
        hidden = tuple(replace(s, oracle=dataset.truth(s.instrument, s.date, s.clock_ns)) for s in self.starts)
        again = self.market(registry.generator(ORACLE), hidden, rollouts * (2 + TRUTH_ROLLOUTS))
        truth = _joined([again.arm(rollouts * (2 + k), rollouts) for k in range(TRUTH_ROLLOUTS)])
        return _Yardsticks(overlay, truth, again.arm(rollouts, rollouts))

    def _groups(self, count: int) -> Iterator[tuple[Ints, int]]:
        """Numbers of starts, and for how many minutes they are followed."""
        short = np.setdiff1d(np.arange(count), self.tails)
        for group, minutes in ((short, self.task.trading_minutes), (self.tails, self.task.minutes)):
            if len(group):
                yield group, minutes

    def _agent(self, number: int, group: Ints) -> AgentFactory:
        """Whoever trades in style ``number``, in the arms that are its own; the first one is the null agent too."""
        own = {
            (self.starts[i].name, v + 1): Metaorder(variant.side, int(self.sizes[i, variant.rank]))
            for v, variant in enumerate(self.variants)
            if variant.agent == number
            for i in group
        }
        null = {(self.starts[i].name, 0): Metaorder(BUY, 0) for i in group} if number == 0 else {}
        return self.task.styles[number].trades({**null, **own})

    def _measure(self, run: Trajectory, side: int) -> Executed:
        return executed(run, side, trading_minutes=self.task.trading_minutes, minutes=self.task.minutes)

    def recorded(self, dataset: Dataset) -> dict[str, Trajectory]:
        """What really came after each start, as long as it is followed."""
        minutes = np.full(len(self.starts), self.task.trading_minutes)
        minutes[self.tails] = self.task.minutes
        return {
            s.name: replay_after(dataset, s.rules, s.instrument, s.date, s.clock_ns, int(m))
            for s, m in zip(self.starts, minutes, strict=True)
        }

    def _shown(self) -> tuple[int, int]:
        """Variant and start of the example: the first agent buys its largest size where it is followed longest."""
        wanted = Variant(0, BUY, self.task.sizes - 1)
        return self.variants.index(wanted), int(self.tails[0]) if len(self.tails) else 0

    def example(self, market: _Market, recorded: dict[str, Trajectory]) -> Example | None:
        """One metaorder in full."""
        if market.shown is None:
            return None
        v, i = self._shown()
        start, variant, run = self.starts[i], self.variants[v], market.shown
        rules = start.rules
        seconds = np.arange(0, (run.end_ns - run.start_ns) / SECOND + 1, EXAMPLE_STEP_S)
        at = rules.clock_ns(rules.trading_ns(run.start_ns) + (seconds * SECOND).astype(np.int64))
        paths = [np.exp(MidPath(t).after(at)) for t in (run, market.control_runs[i][0], recorded[start.name])]
        own = run.fills[run.fills["bid_owner" if variant.side > 0 else "ask_owner"] != MARKET]
        gone = run.orders[(run.orders["owner"] != MARKET) & (run.orders["kind"] == OrderKind.CANCEL)]
        times = np.concatenate([own["time_ns"], gone["time_ns"]])
        mids = np.exp(MidPath(run).after(gone["time_ns"]))
        return Example(
            start=start.name,
            agent=self.task.styles[variant.agent].label,
            side=variant.side,
            executed_shares=int(own["size_shares"].sum()),
            seconds=seconds,
            mid_with=paths[0],
            mid_without=paths[1],
            mid_replay=paths[2],
            event_seconds=(rules.trading_ns(times) - rules.trading_ns(run.start_ns)) / SECOND,
            event_price=np.concatenate([own["price_ticks"].astype(np.float64), mids]),
            event_shares=np.concatenate([own["size_shares"].astype(np.int64), np.zeros(len(gone), np.int64)]),
        )
