"""Lockstep rollouts: time, agents, breaks, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController, threadpool_limits

from markets import known_generator, opening, start_at, two_days
from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import ORDER, Kind
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, SECOND, SSE_A_SHARE, clock
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.agents import PeriodicAgent, market_buyer
from marsbench.simulation.contracts import (
    NEVER,
    AgentFactory,
    Artifact,
    Budget,
    RowOrders,
    Rows,
    Session,
    SessionGenerator,
    Start,
)
from marsbench.simulation.rollout import simulate, skip_breaks


class Metronome(Session):
    """A bid every ten seconds; remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Events] = []
        self.decided: list[int] = []

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        return book.now_ns + 10 * SECOND

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        self.decided.extend(book.now_ns.tolist())
        out = np.zeros(len(rows), ORDER)
        out["kind"], out["price_ticks"], out["size_shares"] = Kind.BID, book.quotes_ticks[1], 100
        return RowOrders(rows, out)

    def observe(self, events: Events) -> Rows:
        self.seen.append(events)
        return np.zeros(0, np.int64)


class MetronomeGenerator(SessionGenerator):
    name = "metronome"

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        raise AssertionError("not needed")

    def load(self, artifact: Artifact) -> None:
        raise AssertionError("not needed")

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        self.session = Metronome()
        return self.session


def test_the_clock_jumps_over_lunch() -> None:
    start = replace(opening(), clock_ns=clock("11:29:45"), book=replace(opening().book, time_ns=clock("11:29:45")))
    run = simulate(MetronomeGenerator(), [start], 1, MINUTE, key=0)[0][0]
    times = [(t - clock("00:00")) // SECOND for t in run.orders["time_ns"].tolist()]
    assert times == [
        clock(t) // SECOND for t in ("11:29:55", "13:00:05", "13:00:15", "13:00:25", "13:00:35", "13:00:45")
    ]
    assert run.end_ns == clock("13:00:45")


def test_breaks_move_only_what_falls_into_them() -> None:
    times = np.array([clock("11:29:59"), clock("11:30"), clock("12:59:59"), clock("13:00"), clock("14:57"), NEVER])
    moved = skip_breaks(SSE_A_SHARE, times).tolist()
    expected = [clock("11:29:59"), clock("13:00"), clock("14:29:59"), clock("13:00"), NEVER, NEVER]
    assert moved == expected


def test_agents_act_before_the_market_at_equal_times_and_the_generator_sees_them() -> None:
    class Lot(PeriodicAgent):
        def act(self, rows: Rows, book: BookView) -> RowOrders:
            super().act(rows, book)
            out = np.zeros(len(rows), ORDER)
            out["kind"], out["price_ticks"], out["size_shares"] = Kind.BID, 1900, 100
            return RowOrders(rows, out)

    generator = MetronomeGenerator()
    agent = AgentFactory(lambda s, r: Lot(s, r, every_ns=10 * SECOND), "lot")
    run = simulate(generator, [opening()], 1, 30 * SECOND, key=0, agents=[agent])[0][0]
    assert run.orders["owner"].tolist() == [1, 0, 1, 0, 1, 0]
    assert [e.orders["owner"][0] for e in generator.session.seen] == [1, 0, 1, 0, 1, 0]
    assert (np.diff(run.orders["time_ns"]) >= 0).all()


def test_two_agents_act_in_the_order_in_which_they_are_given() -> None:
    agents = [market_buyer(100), market_buyer(200)]
    run = simulate(MetronomeGenerator(), [opening()], 1, 5 * SECOND, key=0, agents=agents)[0][0]
    assert run.orders["owner"].tolist() == [1, 2]
    assert run.orders["size_shares"].tolist() == [100, 200]


def test_an_agent_is_told_of_its_fills() -> None:
    made: list[Any] = []

    def make(starts: Sequence[Start], rollouts: int) -> Any:
        made.append(market_buyer(700).make(starts, rollouts))
        return made[0]

    runs = simulate(MetronomeGenerator(), [opening()], 3, 5 * SECOND, key=0, agents=[AgentFactory(make)])[0]
    in_record = [int(t.fills["size_shares"][t.fills["bid_owner"] == 1].sum()) for t in runs]
    assert made[0].executed.tolist() == in_record == [700, 700, 700]


def test_products_within_a_simulation_are_those_of_one_thread() -> None:
    """Threads that wait for each other on a busy machine made steps of 20 rows thirty times as slow."""
    blas = ThreadpoolController().select(user_api="blas")
    within: list[int] = []

    class Watching(MetronomeGenerator):
        def open(self, *given: Any, **more: Any) -> Session:
            within.extend(one["num_threads"] for one in blas.info())
            return super().open(*given, **more)

    with threadpool_limits(2, user_api="blas"):
        before = [one["num_threads"] for one in blas.info()]
        simulate(Watching(), [opening()], 1, 5 * SECOND, key=0)
        after = [one["num_threads"] for one in blas.info()]
    assert before == after
    assert within
    assert set(within) == {1}


def test_replaying_a_rollout_gives_its_fills_and_its_period_is_the_horizon() -> None:
    run = simulate(known_generator(), [start_at(two_days()[1], "10:00")], 2, 5 * MINUTE, key=0)[0][1]
    assert np.array_equal(replay_trajectory(run).fills, run.fills)
    assert (run.start_ns, run.end_ns) == (clock("10:00"), clock("10:05"))
    assert run.labels["rollout"] == 1


def test_a_proposal_in_the_past_is_the_generators_error() -> None:
    class Late(Metronome):
        def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
            return book.now_ns - 1

    class LateGenerator(MetronomeGenerator):
        def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
            return Late()

    with pytest.raises(ValueError, match="before now"):
        simulate(LateGenerator(), [opening()], 1, MINUTE, key=0)


@pytest.mark.parametrize(
    ("start", "horizon", "message"),
    [
        ("12:00", MINUTE, "continuous trading"),
        ("14:50", 10 * MINUTE, "after the close"),
        ("09:30", 0, "positive horizon"),
    ],
)
def test_a_start_or_horizon_that_cannot_be_is_refused(start: str, horizon: int, message: str) -> None:
    moved = replace(opening(), clock_ns=clock(start))
    with pytest.raises(ValueError, match=message):
        simulate(MetronomeGenerator(), [moved], 1, horizon, key=0)
