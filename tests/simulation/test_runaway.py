"""A market that sends far more orders than the real one is stopped, and nobody else is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from markets import start_at, two_days
from marsbench import results, runner
from marsbench.data.catalogue import Period, write_dataset
from marsbench.market.orders import orders
from marsbench.market.rules import MINUTE, MatchingRules
from marsbench.simulation.contracts import Artifact, Budget, RowOrders, Session, SessionGenerator, Start
from marsbench.simulation.rollout import simulate
from marsbench.simulation.runaway import FACTOR, LEAST, Guard, Runaway, busiest


class Ticking(Session):
    """One lot far from the touch at a fixed pace, which from some minute on is faster."""

    def __init__(self, starts: Sequence[Start], rollouts: int, pace_ns: int, later_ns: int, after_ns: int) -> None:
        begin = np.repeat([s.clock_ns for s in starts], rollouts)
        self.change, self.pace, self.later = begin + after_ns, pace_ns, later_ns
        self.lot = starts[0].rules.lot_shares

    def propose(self, rows: Any, book: Any) -> Any:
        return book.now_ns + np.where(book.now_ns < self.change[rows], self.pace, self.later)

    def decide(self, rows: Any, book: Any) -> RowOrders:
        price = np.maximum(book.quotes_ticks[1] - 5, 1)
        return RowOrders(rows, orders(kind=np.ones(len(rows), np.int64), price_ticks=price, size_shares=self.lot))

    def observe(self, events: Any) -> Any:
        return np.zeros(0, np.int64)


class Ticker(SessionGenerator):
    """Messages at a pace of so many a minute."""

    name = "ticker"

    def __init__(self, per_minute: int = 60, then: int = 60) -> None:
        self.per_minute, self.then = per_minute, then

    def parameters(self) -> dict[str, Any]:
        return {"per_minute": self.per_minute, "then": self.then}

    def fit(self, data: Any, folder: Path, *, seed: int, budget: Budget) -> Artifact:
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None: ...

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        return Ticking(starts, rollouts, MINUTE // self.per_minute, MINUTE // self.then, 3 * MINUTE)


def starts() -> list[Start]:
    return [start_at(two_days(profile)[1], "10:00") for profile in (0, 1)]


def test_the_busiest_stretches_are_those_of_a_count_by_hand() -> None:
    day = two_days()[0]
    (most,) = busiest([day]).values()
    minute = (day.rules.trading_ns(day.orders["time_ns"]) - day.rules.trading_ns(day.start_ns)) // MINUTE
    count = [int((minute == m).sum()) for m in range(90)]
    assert len(most) == 90
    for length in (1, 7, 90):
        assert most[length - 1] == max(sum(count[i : i + length]) for i in range(90 - length + 1))
    assert (busiest([day, day])[day.instrument] == most).all()


def guard(most: list[int], horizon: int = 30) -> tuple[Guard, Start, MatchingRules]:
    start = starts()[0]
    return Guard([start], 2, start.rules, horizon * MINUTE, {start.instrument: np.array(most)}), start, start.rules


@pytest.mark.parametrize(("minute", "limit"), [(0, 3000), (1, 4500), (3, 9000)])
def test_the_limit_is_a_multiple_of_the_busiest_stretch_of_that_length(minute: int, limit: int) -> None:
    """Beyond what training has, its pace goes on."""
    watched, start, rules = guard([1000, 1500])
    now = rules.clock_ns(np.full(2, rules.trading_ns(start.clock_ns) + minute * MINUTE + 1))
    watched.sent[:] = [limit, 0]
    watched.check(now)
    watched.sent[0] += 1
    with pytest.raises(Runaway, match=rf"rollout 0, runs away: {limit + 1:,} orders by .*busiest {minute + 1} minutes"):
        watched.check(now)


def test_a_quiet_market_may_have_an_order_a_second_and_more() -> None:
    watched, start, _ = guard([1])
    watched.sent[:] = FACTOR * LEAST
    watched.check(np.full(2, start.clock_ns))


def test_a_market_that_runs_away_is_stopped_when_it_does() -> None:
    most = busiest([two_days(profile)[0] for profile in (0, 1)])
    pace = int(FACTOR * max(own[0] for own in most.values()))
    calm = simulate(Ticker(60, 60), starts(), 2, 10 * MINUTE, key=0, most_orders=most)
    assert len(calm[0][0].orders) == pytest.approx(600, abs=2)
    fast = Ticker(60, 10 * pace)
    with pytest.raises(Runaway, match=r"runs away: .* orders by 10:0[3-6]"):
        simulate(fast, starts(), 2, 10 * MINUTE, key=0, most_orders=most)
    assert len(simulate(fast, starts(), 2, 4 * MINUTE, key=0)[0][0].orders) > 10 * pace - 2  # nobody watches


def test_a_run_says_who_ran_away(tmp_path: Path) -> None:
    days = [day for profile in (0, 1) for day in two_days(profile)]
    uses = ["train", "test"] * 2
    periods = [Period(d.instrument, d.date, d.start_ns, d.end_ns, use) for d, use in zip(days, uses, strict=True)]
    data = tmp_path / "data"
    data.mkdir()
    write_dataset(data, days, periods, name="two-days", version=1, summary="a market")
    report = runner.run(
        [Ticker(60, 60_000)], tasks=["realism,rollouts=1"], datasets=[str(data)], limit=2, results=tmp_path, track=False
    )
    (path,) = report.failed
    assert str(results.read(path).reason).startswith("Runaway: the simulation from ZI-A")
