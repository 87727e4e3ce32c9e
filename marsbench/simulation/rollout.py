"""Lockstep rollouts: many simulations side by side, agents among them, one clearing house for all.

Rows advance event by event, each on its own clock. Where an agent and the market are due at the
same time, the agent acts first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from marsbench.market.clearing_house import ClearingHouse, Events
from marsbench.market.orders import FILL, MARKET, ORDER
from marsbench.market.rules import MatchingRules, clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import NEVER, Agent, AgentFactory, Rows, SessionGenerator, Start
from marsbench.simulation.runaway import Guard

_NOBODY: tuple[AgentFactory, ...] = ()
_UNWATCHED: Mapping[str, int] = {}


@dataclass
class _Record:
    """Everything that was sent, in the order of processing."""

    rows: list[NDArray[np.int64]] = field(default_factory=list)
    orders: list[NDArray[np.void]] = field(default_factory=list)
    fills: list[NDArray[np.void]] = field(default_factory=list)
    fill_rows: list[NDArray[np.int64]] = field(default_factory=list)
    count: int = 0

    def add(self, events: Events) -> None:
        self.rows.append(events.rows)
        self.orders.append(events.orders)
        if len(events.fills):
            fills = events.fills.copy()
            fills["seq"] += self.count
            self.fills.append(fills)
            self.fill_rows.append(events.fill_rows)
        self.count += len(events.rows)

    def by_row(self, total: int) -> list[tuple[NDArray[np.void], NDArray[np.void]]]:
        """Orders and fills of each row, ``seq`` pointing into the row's own orders."""
        rows = np.concatenate([*self.rows, np.zeros(0, np.int64)])
        orders = np.concatenate([*self.orders, np.zeros(0, ORDER)])
        fills = np.concatenate([*self.fills, np.zeros(0, FILL)])
        fill_rows = np.concatenate([*self.fill_rows, np.zeros(0, np.int64)])
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(total + 1))
        place = np.empty(len(rows), np.int64)
        place[order] = np.arange(len(rows)) - bounds[rows[order]]
        fills["seq"] = place[fills["seq"]]
        fill_order = np.argsort(fill_rows, kind="stable")
        fill_bounds = np.searchsorted(fill_rows[fill_order], np.arange(total + 1))
        orders, fills = orders[order], fills[fill_order]
        return [
            (orders[bounds[r] : bounds[r + 1]].copy(), fills[fill_bounds[r] : fill_bounds[r + 1]].copy())
            for r in range(total)
        ]


def skip_breaks(rules: MatchingRules, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move times that fall into a break (lunch) by its length; after the last phase ``NEVER``."""
    then_ns = times_ns.copy()
    phases = rules.continuous
    for before, after in itertools.pairwise(phases):
        inside = (then_ns >= before.end_ns) & (then_ns < after.start_ns)
        then_ns[inside] += after.start_ns - before.end_ns
    then_ns[then_ns >= phases[-1].end_ns] = NEVER
    return then_ns


def _check(starts: Sequence[Start], rollouts: int, horizon_ns: int) -> MatchingRules:
    if not starts or rollouts < 1 or horizon_ns <= 0:
        raise ValueError(
            f"a rollout needs starts, rollouts >= 1 and a positive horizon; "
            f"got {len(starts)} starts, {rollouts} rollouts, {horizon_ns} ns"
        )
    rules = starts[0].rules
    for start in starts:
        if start.rules != rules:
            raise ValueError(f"starts of one batch share their rules; {start.name} has {start.rules.name}")
        inside = rules.trading_ns(start.clock_ns) + horizon_ns
        if not any(p.start_ns <= start.clock_ns < p.end_ns for p in rules.continuous):
            raise ValueError(f"start {start.name} does not lie in continuous trading")
        if inside > rules.trading_ns(rules.continuous[-1].end_ns):
            raise ValueError(f"start {start.name}: a horizon of {horizon_ns / 60e9:g} minutes ends after the close")
    return rules.without_auctions()


class _Rollout:
    """The state of one batch under way."""

    def __init__(
        self,
        generator: SessionGenerator,
        starts: Sequence[Start],
        rollouts: int,
        horizon_ns: int,
        key: int,
        agents: Sequence[AgentFactory],
        control: Any,
        most_orders: Mapping[str, int],
    ) -> None:
        self.rules = _check(starts, rollouts, horizon_ns)
        self.starts, self.rollouts = starts, rollouts
        self.total = len(starts) * rollouts
        self.house = ClearingHouse(self.rules, self.total)
        for s, start in enumerate(starts):
            self.house.load(s * rollouts, start.book)
            self.house.fork(s * rollouts, np.arange(s * rollouts, (s + 1) * rollouts))
        clocks = np.array([s.clock_ns for s in starts], np.int64)
        ends = self.rules.clock_ns(self.rules.trading_ns(clocks) + horizon_ns)
        self.ends_by_start = ends
        self.now = np.repeat(clocks, rollouts)
        self.end = np.repeat(ends, rollouts)
        self.session = generator.open(starts, rollouts, key=key, control=control)
        self.agents: list[Agent] = [f.make(starts, rollouts) for f in agents]
        for number, agent in enumerate(self.agents, 1):
            agent.owner = number
        everybody = np.arange(self.total)
        self.due = np.full(self.total, NEVER, np.int64)
        self.wakes = np.full((len(self.agents), self.total), NEVER, np.int64)
        self.record = _Record()
        self.guard = Guard(starts, rollouts, self.rules, horizon_ns, most_orders)
        self.propose(everybody)
        for a in range(len(self.agents)):
            self.ask_agent(a, everybody)

    def propose(self, rows: Rows) -> None:
        if len(rows) == 0:
            return
        times = self.session.propose(rows, self.house.view(rows, self.now[rows]))
        if (times < self.now[rows]).any():
            bad = int(rows[np.argmax(times < self.now[rows])])
            raise ValueError(
                f"{type(self.session).__name__} proposed a time before now in row {bad}: "
                f"{int(times.min())} ns, now {int(self.now[bad])} ns"
            )
        self.due[rows] = skip_breaks(self.rules, times)

    def ask_agent(self, a: int, rows: Rows) -> None:
        if len(rows):
            times = np.maximum(self.agents[a].next_wake(rows), self.now[rows])
            self.wakes[a, rows] = skip_breaks(self.rules, times)

    def send(self, rows: Rows, orders: NDArray[np.void], owner: int) -> Rows:
        """Submit, record, tell everybody; returns the rows whose proposal was withdrawn."""
        orders = orders.copy()
        orders["owner"] = owner
        orders["time_ns"] = self.now[rows]
        events = self.house.submit(np.asarray(rows, np.int64), orders)
        self.record.add(events)
        for agent in self.agents:
            agent.notify(events)
        return self.session.observe(events)

    def agent_turn(self, a: int) -> bool:
        rows = np.flatnonzero((self.wakes[a] <= self.due) & (self.wakes[a] <= self.end))
        if len(rows) == 0:
            return False
        self.now[rows] = self.wakes[a, rows]
        sent = self.agents[a].act(rows, self.house.view(rows, self.now[rows]))
        if len(sent.rows):
            self.propose(self.send(sent.rows, sent.orders, self.agents[a].owner))
        self.ask_agent(a, rows)
        return True

    def market_turn(self) -> bool:
        waiting = self.wakes.min(axis=0) if len(self.agents) else NEVER
        rows = np.flatnonzero((self.due <= self.end) & (self.due < waiting))
        if len(rows) == 0:
            return False
        self.now[rows] = self.due[rows]
        sent = self.session.decide(rows, self.house.view(rows, self.now[rows]))
        if len(sent.rows):
            self.guard.count(sent.rows)
            withdrawn = self.send(sent.rows, sent.orders, MARKET)
            if len(withdrawn):
                rows = np.union1d(rows, withdrawn)
        self.propose(rows)
        return True

    def run(self, progress: Callable[[float], None] | None) -> None:
        steps = 0
        while True:
            acted = [self.agent_turn(a) for a in range(len(self.agents))]
            moved = self.market_turn()
            if not moved and not any(acted):
                return
            steps += 1
            if steps % 256:
                continue
            self.guard.check(self.now)
            if progress is not None:
                progress(float(np.mean(np.minimum(self.now, self.end) >= self.end)))

    def trajectories(self, labels: dict[str, Any]) -> list[list[Trajectory]]:
        parts = self.record.by_row(self.total)
        return [
            [
                Trajectory(
                    instrument=start.instrument,
                    date=start.date,
                    rules=self.rules,
                    start_ns=start.clock_ns,
                    end_ns=int(self.ends_by_start[s]),
                    book=start.book,
                    orders=parts[s * self.rollouts + r][0],
                    fills=parts[s * self.rollouts + r][1],
                    labels={**labels, "rollout": r, "start": clock_text(start.clock_ns)},
                )
                for r in range(self.rollouts)
            ]
            for s, start in enumerate(self.starts)
        ]


def simulate(
    generator: SessionGenerator,
    starts: Sequence[Start],
    rollouts: int,
    horizon_ns: int,
    *,
    key: int,
    agents: Sequence[AgentFactory] = _NOBODY,
    control: Any = None,
    most_orders: Mapping[str, int] = _UNWATCHED,
    progress: Callable[[float], None] | None = None,
) -> list[list[Trajectory]]:
    """Roll a generator forward from each start; returns trajectories ``[len(starts)][rollouts]``.

    What the session has to say about itself stands in the first one's labels under ``notes``.

    Parameters
    ----------
    horizon_ns
        Length in trading time (lunch does not count).
    key
        Seed of all randomness; the same key gives the same trajectories, bit for bit.
    agents
        Who else trades, in the order in which they act at equal times.
    most_orders
        Most orders of each instrument in a stretch of real trading (``runaway.busiest``), for those who watch over it.
    progress
        Called now and then with the finished share of the rows.

    Raises
    ------
    ValueError
        If a start does not lie in continuous trading, the horizon ends after the close, or the
        generator proposes a time that is over.
    Runaway
        If a market sends far more orders than ``most_orders``.
    """
    with threadpool_limits(1, user_api="blas"):  # of a few rows' products; on a busy machine threads wait endlessly
        rollout = _Rollout(generator, starts, rollouts, horizon_ns, key, agents, control, most_orders)
        rollout.run(progress)
        rows = rollout.trajectories({"generator": generator.name, "key": key})
    if notes := rollout.session.notes():
        rows[0][0] = rows[0][0].with_labels(notes=dict(notes))
    return rows
