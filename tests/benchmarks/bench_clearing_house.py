"""Speed of the clearing house, in CPU time of one core. Different streams per book in lockstep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from marsbench.market.clearing_house import ClearingHouse
from marsbench.market.orders import ORDER, Flag, Kind
from marsbench.market.replay import cut, replay
from marsbench.market.rules import CONTINUOUS, clock
from marsbench.market.trajectory import BookState

BOOKS = 128
STEPS = 2_000
DATA = Path(os.environ.get("MARSBENCH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def stream(messages: int, seed: int, *, live: int = 400) -> NDArray[np.void]:
    """A book of bounded size: orders near the touch, a fifth of them aggressive, cancels by id."""
    rng = np.random.default_rng(seed)
    out = np.zeros(messages, ORDER)
    out["time_ns"] = np.arange(1, messages + 1)
    ids: list[int] = []
    for i in range(messages):
        if ids and (rng.random() < 0.45 or len(ids) > live):
            k = int(rng.integers(len(ids)))
            ids[k], ids[-1] = ids[-1], ids[k]
            out[i]["kind"], out[i]["order_id"] = Kind.CANCEL, ids.pop()
            continue
        side = int(rng.random() < 0.5)
        distance = int(rng.geometric(0.1)) - 2
        out[i]["kind"], out[i]["order_id"] = side, i + 1
        out[i]["price_ticks"] = 10_000 + (distance if side == Kind.ASK else -distance)
        out[i]["size_shares"] = int(rng.integers(1, 100))
        ids.append(i + 1)
    return out


def by_level(orders: NDArray[np.void]) -> NDArray[np.void]:
    """The same stream as a generator sends it: no ids, cancels by price level."""
    new = orders[orders["kind"] != Kind.CANCEL]
    placed = {int(o["order_id"]): (int(o["price_ticks"]), int(o["size_shares"])) for o in new}
    out = orders.copy()
    for row in out:
        if row["kind"] == Kind.CANCEL:
            row["price_ticks"], row["size_shares"] = placed[int(row["order_id"])]
            row["flags"] = Flag.BY_LEVEL
        row["order_id"] = 0
    return out


def per_message(benchmark: Any, messages: int) -> None:
    benchmark.extra_info["messages"] = messages
    each = benchmark.stats.stats.median / messages
    print(f"\n{benchmark.name}: {each * 1e9:.0f} ns per message, {1e-6 / each:.2f} M messages/s")


@pytest.mark.parametrize("levels", [0, 1, 10])
def test_replay_of_a_random_stream(benchmark: Any, levels: int) -> None:
    orders = stream(200_000, 0)
    benchmark.pedantic(lambda: replay(CONTINUOUS, BookState(), orders, levels=levels), rounds=7, warmup_rounds=2)
    per_message(benchmark, len(orders))


@pytest.mark.parametrize(
    "file", ["lobster/LOBSTER_SampleFile_GOOG_2012-06-21_10.zip", "sse/600519_2023-02-07_orders.csv.gz"]
)
def test_replay_of_a_real_day_with_ten_levels(benchmark: Any, file: str) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"{file} is not in {DATA} (set MARSBENCH_DATA)")
    from marsbench.data.sources import read

    day = read(DATA / file).trajectory()
    benchmark.pedantic(lambda: replay(day.rules, day.book, day.orders, levels=10), rounds=9, warmup_rounds=3)
    per_message(benchmark, len(day.orders))


@pytest.mark.parametrize("form", ["ids", "levels"])
def test_books_in_lockstep(benchmark: Any, form: str) -> None:
    streams = [stream(STEPS, seed) for seed in range(BOOKS)]
    if form == "levels":
        streams = [by_level(s) for s in streams]
    steps, rows = np.ascontiguousarray(np.stack(streams, 1)), np.arange(BOOKS)

    def run() -> None:
        house = ClearingHouse(CONTINUOUS, BOOKS)
        for step in steps:
            house.submit(rows, step)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    per_message(benchmark, STEPS * BOOKS)


def fork_time(benchmark: Any, house: ClearingHouse) -> None:
    rows = np.arange(BOOKS)
    house.fork(0, rows)
    benchmark.pedantic(lambda: house.fork(0, rows), rounds=50, iterations=4, warmup_rounds=5)
    live = len(house.state(0).resting)
    print(f"\n{benchmark.name}: {benchmark.stats.stats.median * 1e3:.3f} ms for {BOOKS} books of {live} live orders")


def test_fork_of_a_book_with_512_live_orders(benchmark: Any) -> None:
    resting = np.zeros(512, ORDER)
    resting["kind"] = np.arange(512) % 2
    resting["order_id"] = np.arange(1, 513)
    resting["size_shares"] = 100
    away = 1 + np.arange(512) // 8
    resting["price_ticks"] = 10_000 + np.where(resting["kind"] == Kind.ASK, away, -away)
    house = ClearingHouse(CONTINUOUS, BOOKS)
    house.load(0, BookState(resting=resting))
    fork_time(benchmark, house)


def test_fork_of_600519s_midday_book(benchmark: Any) -> None:
    path = DATA / "sse/600519_2023-02-07_orders.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {DATA} (set MARSBENCH_DATA)")
    from marsbench.data.sources import read

    day = read(path).trajectory()
    house = ClearingHouse(day.rules, BOOKS)
    house.load(0, cut(day, clock("11:30"), clock("11:30")).book)
    fork_time(benchmark, house)
