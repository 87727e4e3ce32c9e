"""The oracle: exact where it keeps the truth's random numbers, alive where it draws anew, and it reacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from markets import start_at as start_elsewhere
from markets import two_days
from marsbench import registry
from marsbench.data.reference_market.session import ReferenceSession
from marsbench.market.clearing_house import BookView
from marsbench.market.orders import MARKET, ORDER, Flag, Kind
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, SECOND, clock
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.agents import PeriodicAgent, far_orders, market_buyer, periodic
from marsbench.simulation.contracts import AgentFactory, RowOrders, Rows, Session, SessionGenerator, Start
from marsbench.simulation.rollout import simulate
from marsbench.simulation.validate import validate
from reference import days, start_at


def oracle() -> SessionGenerator:
    made = registry.generator("reference")
    assert isinstance(made, SessionGenerator)
    return made


class Truth(SessionGenerator):
    """The oracle with the random numbers of what really happened."""

    name = "truth"

    def fit(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def load(self, artifact: Any) -> None: ...

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        return ReferenceSession([s.oracle for s in starts], [s.clock_ns for s in starts], rollouts, None)


@pytest.mark.parametrize(("name", "at", "end"), [("REF-A", "09:31", "10:01"), ("REF-D", "11:20", "13:15")])
def test_with_the_random_numbers_of_the_truth_it_repeats_what_happened(name: str, at: str, end: str) -> None:
    day = days(name)[1]
    start = start_at(day, at)
    rules = start.rules
    horizon = int(rules.trading_ns(clock(end)) - rules.trading_ns(clock(at)))
    again = simulate(Truth(), [start], 1, horizon, key=0)[0][0]
    real = cut(day.trajectory, clock(at), clock(end))
    assert len(real.orders) > 1000
    assert np.array_equal(again.orders, real.orders)
    assert np.array_equal(again.fills, real.fills)


def test_it_keeps_the_contract_of_sessions() -> None:
    day = days("REF-A")[1]
    report = validate(oracle(), [start_at(day, "10:00"), start_at(day, "13:30")], minutes=3)
    assert report.passed, str(report)


def test_what_is_still_to_come_is_drawn_anew_and_looks_like_what_came() -> None:
    day = days("REF-A")[1]
    start = start_at(day, "10:00")
    rows = simulate(oracle(), [start], 16, 10 * MINUTE, key=3)[0]
    real = cut(day.trajectory, clock("10:00"), clock("10:10"))
    assert len({t.content_hash() for t in rows}) == 16
    first = [t.orders["time_ns"][0] for t in rows]
    assert len(set(first)) == 16, "no rollout inherits a waiting time of the truth"
    counts = np.array([len(t.orders) for t in rows])
    assert 0.4 < len(real.orders) / counts.mean() < 2.5


def test_no_rollout_knows_which_resting_orders_will_really_be_cancelled() -> None:
    """Cancellations of the orders that rest at the start come at fresh times in each rollout."""
    day = days("REF-A")[1]
    start = start_at(day, "10:00")
    known = set(start.book.resting["order_id"].tolist())
    rows = simulate(oracle(), [start], 4, 5 * MINUTE, key=3)[0]

    def cancelled(t: Trajectory) -> dict[int, int]:
        cancels = t.orders[t.orders["kind"] == Kind.CANCEL]
        return {int(o): int(w) for o, w in zip(cancels["order_id"], cancels["time_ns"], strict=True) if o in known}

    times = [cancelled(t) for t in [*rows, cut(day.trajectory, clock("10:00"), clock("10:05"))]]
    for i in range(len(times)):
        for j in range(i):
            shared = times[i].keys() & times[j].keys()
            assert not any(times[i][o] == times[j][o] for o in shared)


def market_orders(t: Trajectory) -> list[tuple[int, ...]]:
    own = t.orders[t.orders["owner"] == MARKET]
    return list(zip(own["time_ns"].tolist(), own["kind"].tolist(), own["size_shares"].tolist(), strict=True))


def test_an_agent_that_only_looks_changes_nothing() -> None:
    start = start_at(days("REF-A")[1], "10:00")
    plain = simulate(oracle(), [start], 4, 3 * MINUTE, key=3)[0]
    watched = simulate(oracle(), [start], 4, 3 * MINUTE, key=3, agents=[periodic(SECOND // 4)])[0]
    assert [t.content_hash() for t in plain] == [t.content_hash() for t in watched]


def test_an_injected_order_that_nobody_notices_leaves_the_other_draws_paired() -> None:
    start = start_at(days("REF-A")[1], "10:00")
    plain = simulate(oracle(), [start], 4, 3 * MINUTE, key=3)[0]
    far = simulate(oracle(), [start], 4, 3 * MINUTE, key=3, agents=[far_orders(10 * SECOND)])[0]
    for one, two in zip(plain, far, strict=True):
        a, b = market_orders(one), market_orders(two)
        assert len(a) == len(b)
        assert [x[1:] for x in a] == [x[1:] for x in b]
        assert max(abs(x[0] - y[0]) for x, y in zip(a, b, strict=True)) < 1000, "times differ by rounding at most"


class Buyer(PeriodicAgent):
    """Buys one size at the touch again and again."""

    def __init__(self, starts: Sequence[Start], rollouts: int, *, size_shares: int) -> None:
        super().__init__(starts, rollouts, every_ns=5 * SECOND)
        self.size_shares = size_shares
        self.left = np.full(len(starts) * rollouts, 24)

    def act(self, rows: Rows, book: BookView) -> RowOrders:
        super().act(rows, book)
        rows = rows[self.left[rows] > 0]
        self.left[rows] -= 1
        out = np.zeros(len(rows), ORDER)
        out["kind"], out["price_ticks"], out["size_shares"] = Kind.BID, book.limits_ticks[1][0], self.size_shares
        out["flags"] = Flag.IOC
        return RowOrders(rows, out)


def test_buying_raises_prices_and_part_of_it_stays() -> None:
    start = start_at(days("REF-A")[1], "10:00")
    plain = simulate(oracle(), [start], 24, 12 * MINUTE, key=3)[0]
    buyer = AgentFactory(lambda s, r: Buyer(s, r, size_shares=20_000), "buyer", {})
    bought = simulate(oracle(), [start], 24, 12 * MINUTE, key=3, agents=[buyer])[0]

    def price(t: Trajectory, at_ns: int) -> float:
        return float(t.fills["price_ticks"][np.searchsorted(t.fills["time_ns"], at_ns) - 1])

    def impact(minutes: int) -> tuple[float, float]:
        at_ns = start.clock_ns + minutes * MINUTE
        gaps = np.array([price(b, at_ns) - price(p, at_ns) for p, b in zip(plain, bought, strict=True)])
        return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))

    during, error = impact(2)
    after, error_after = impact(12)
    assert during > 4 * error
    assert during > after > 2 * error_after


def test_a_single_market_order_trades_and_is_answered() -> None:
    start = start_at(days("REF-A")[1], "10:00")
    rows = simulate(oracle(), [start], 4, 2 * MINUTE, key=3, agents=[market_buyer(50_000)])[0]
    for t in rows:
        assert t.fills["size_shares"][t.fills["bid_owner"] == 1].sum() == 50_000
        assert t.orders["time_ns"][t.orders["owner"] == MARKET][-1] > start.clock_ns + MINUTE


def test_a_start_without_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="has no hidden state"):
        simulate(oracle(), [start_elsewhere(two_days()[1], "10:00")], 1, MINUTE, key=0)


def test_a_truth_of_another_market_is_refused() -> None:
    one, two = (start_at(day, "10:00") for day in days("REF-A")[:2])
    with pytest.raises(ValueError, match="resting orders belong to nobody in the hidden state"):
        simulate(oracle(), [replace(one, oracle=two.oracle)], 1, MINUTE, key=0)


@pytest.mark.parametrize("at", ["09:30", "10:00", "13:00"])
def test_every_waiting_time_under_way_is_drawn_anew_in_every_rollout(at: str) -> None:
    start = start_at(days("REF-A")[1], at)
    session = oracle().open([start], 3, key=3)
    assert isinstance(session, ReferenceSession)
    truth = start.oracle
    states = [session.hidden.snapshot(row) for row in range(3)]
    for i, one in enumerate(states):
        for other in [truth, *states[:i]]:
            assert not (one.state["left"] == other.state["left"]).any()
            active = truth.metaorders["id"] != 0
            assert not (one.metaorders["left"] == other.metaorders["left"])[active].any()
            for k in range(len(truth.who)):
                # what is left until each cancellation, by order
                wait, before = (
                    dict(zip(s.who[k].tolist(), (s.when[k] - s.state["hazard"][0, k]).tolist(), strict=True))
                    for s in (one, other)
                )
                assert wait.keys() == before.keys()
                assert min(wait.values(), default=0.0) >= 0
                assert not any(abs(wait[order_id] - before[order_id]) < 1e-12 for order_id in wait)
