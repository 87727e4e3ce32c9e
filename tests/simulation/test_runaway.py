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
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, MatchingRules
from marsbench.simulation.contracts import Artifact, Budget, RowOrders, Session, SessionGenerator, Start
from marsbench.simulation.rollout import simulate
from marsbench.simulation.runaway import FACTOR, LEAST, STRETCH, Guard, Runaway, busiest


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


def test_the_busiest_stretch_is_that_of_a_count_by_hand() -> None:
    day = two_days()[0]
    (most,) = busiest([day]).values()
    minute = (day.rules.trading_ns(day.orders["time_ns"]) - day.rules.trading_ns(day.start_ns)) // MINUTE
    count = [int((minute == m).sum()) for m in range(90)]
    assert most == max(sum(count[i : i + STRETCH]) for i in range(90 - STRETCH + 1))
    short = cut(day, day.start_ns, day.start_ns + 10 * MINUTE)
    assert busiest([short])[day.instrument] == pytest.approx(3 * sum(count[:10]), rel=0.02)
    assert busiest([short, day]) == {day.instrument: most}


def watched(most: int) -> tuple[Guard, Start, MatchingRules]:
    start = starts()[0]
    return Guard([start], 2, start.rules, 60 * MINUTE, {start.instrument: most}), start, start.rules


def test_what_counts_are_the_last_minutes_of_each_row() -> None:
    guard, start, rules = watched(2000)

    def at(minute: int, *sent: int) -> None:
        guard.sent[:] = sent
        guard.check(rules.clock_ns(np.full(2, rules.trading_ns(start.clock_ns) + minute * MINUTE + 1)))

    at(0, 6000, 0)
    at(20, 6000, 5000)
    at(35, 12_000, 6000)  # the first 6,000 are longer ago
    at(55, 12_000, 11_000)
    with pytest.raises(Runaway, match=r"rollout 1, runs away: 6,001 orders in the 30 minutes up to 10:56:00, .*6,000"):
        at(56, 12_000, 11_001)


def test_a_quiet_market_may_have_an_order_a_second_and_more() -> None:
    guard, start, _ = watched(1)
    guard.sent[:] = FACTOR * LEAST * STRETCH
    guard.check(np.full(2, start.clock_ns))
    guard.sent[1] += 1
    with pytest.raises(Runaway, match="rollout 1"):
        guard.check(np.full(2, start.clock_ns))


def test_a_market_that_runs_away_is_stopped_when_it_does() -> None:
    most = busiest([two_days(profile)[0] for profile in (0, 1)])
    pace = FACTOR * max(most.values()) // STRETCH
    calm = simulate(Ticker(60, 60), starts(), 2, 10 * MINUTE, key=0, most_orders=most)
    assert len(calm[0][0].orders) == pytest.approx(600, abs=2)
    fast = Ticker(60, 10 * pace)
    with pytest.raises(Runaway, match=r"runs away: .* orders in the 30 minutes up to 10:0[3-9]"):
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
