"""One instrument of the reference market, day after day."""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.reference_market import day as days
from marsbench.data.reference_market.activity import NIGHT, draw
from marsbench.data.reference_market.portable_math import normal_quantile
from marsbench.data.reference_market.profiles import PROFILES, SHARED, Profile, Shared, profile_table
from marsbench.data.reference_market.state import METAORDER, SLOTS, Hidden, Snapshot, shared_table
from marsbench.market import _book as kb
from marsbench.market import _streams as streams
from marsbench.market._arrays import Books, Fills, extended
from marsbench.market.orders import ORDER
from marsbench.market.trajectory import BookState, Trajectory

SEED = 20_240_102
FIRST_DATE = datetime.date(2024, 1, 2)
TRUTH = 0xFFFFFFFF
"""Rollout number of what really happened: no rollout has it."""


@dataclass(frozen=True)
class Day:
    """What one instrument-day of the market leaves behind."""

    trajectory: Trajectory
    metaorders: NDArray[np.void]
    """``METAORDER`` records of those that traded: the completed in order of their end, then those given up."""
    morning: Snapshot
    """Hidden state before the opening auction: from it, the whole day follows."""


def trading_dates(count: int) -> list[str]:
    """The first ``count`` weekdays of the market, ISO."""
    out: list[str] = []
    day = FIRST_DATE
    while len(out) < count:
        if day.weekday() < 5:
            out.append(day.isoformat())
        day += datetime.timedelta(days=1)
    return out


def uid(instrument: str, date: str) -> int:
    """32-bit number of an instrument-day, for its random numbers."""
    return zlib.crc32(f"reference {instrument} {date}".encode())


def first_morning(name: str, profiles: NDArray[np.void], number: int, shared: Shared, seed: int, date: str) -> Hidden:
    """The hidden state before the market's first day."""
    hidden = Hidden.empty(1, profiles, shared_table(shared))
    s, p = hidden.arrays.state[0], profiles[number]
    s["key"], s["start"], s["rollout"], s["profile"] = seed, uid(name, date), TRUTH, number
    s["day_ticks"] = s["value"] = s["mid"] = p["price_ticks"]
    for k in range(4):
        s["waves"][k] = normal_quantile(draw(s, NIGHT, 16 + k)[0])
        s["norm"][k] = p["minute_ticks"] * p["minute_ticks"] * shared.coarse_minutes[k]
    return hidden


class DayRun:
    """One instrument-day under way, from its opening auction on.

    Parameters
    ----------
    hidden
        State before the opening auction, in row 0.
    reference_ticks
        Yesterday's close, which the price limits refer to.
    """

    def __init__(self, name: str, date: str, hidden: Hidden, reference_ticks: int) -> None:
        self.name, self.date, self.hidden = name, date, hidden
        self.morning = hidden.snapshot(0)
        self.book = BookState(reference_ticks=reference_ticks, time_ns=days.AUCTION_NS)
        self.books = Books(days.RULES, 1, orders=4096, levels=2048)
        self.books.load(0, self.book)
        self.fills = Fills(self.books, 1 << 16)
        self.fills.reset()
        self.sent = np.zeros(1 << 17, ORDER)
        self.count = 0
        self.finished = np.zeros(1 << 11, METAORDER)
        self.finished_count = 0

    def _until_done(self, step: Callable[[], int]) -> None:
        """Call a kernel until it is done, making the room that it asks for."""
        while True:
            status = step()
            if status == days.FINISHED:
                return
            if status == kb.GROW_BOOK:
                self.books.grow()
            elif status == kb.GROW_FILLS:
                self.fills.grow()
            elif status == days.GROW_ORDERS:
                self.sent = extended(self.sent, 2 * len(self.sent))
            elif status == days.GROW_METAORDERS:
                self.finished = extended(self.finished, 2 * len(self.finished))
            else:
                self.hidden.grow(2 * self.hidden.arrays.capacity)

    @property
    def _records(self) -> tuple[Any, Any, Any]:
        """State, profile and shared parameters."""
        a = self.hidden.arrays
        return a.state[0], a.profiles[a.state[0]["profile"]], a.shared[0]

    def _auction(self, times: NDArray[np.int64], kernel: Any, *before: int) -> None:
        s, p, _ = self._records
        rank = np.argsort(times, kind="stable")
        times = times[rank]
        first = 0

        def step() -> int:
            nonlocal first
            books = self.books
            status, first = kernel(
                s, p, times, rank, *books.arrays, *books.capacities, books.code, self.fills.fills, self.sent,
                *before, first,
            )  # fmt: skip
            return int(status)

        self._until_done(step)
        self.count += len(times)

    def _let_pass(self, until_ns: int) -> None:
        """Close the phases that end by then, auctions included."""
        books = self.books
        self._until_done(
            lambda: int(
                streams.close_phases(
                    *books.arrays, *books.capacities, books.code, self.fills.fills, until_ns, self.count
                )
            )
        )

    def open(self) -> None:
        """Hold the opening auction."""
        s, p, _ = self._records
        times = np.empty(int(p["auction_orders"]), np.int64)
        days.auction_times(s, times)
        self._auction(times, days.opening_auction)
        self._let_pass(days.UNCROSS_NS)
        head, nodes, levels, keys, slots, _ = self.books.arrays
        self.hidden.grow(2 * int(head[0, kb.LIVE]))
        a = self.hidden.arrays
        days.take_places(
            a.state[0], p, a.when, a.who, a.capacity, head, nodes, levels, keys, slots, *self.books.capacities[:2]
        )

    def trade(self, until_ns: int) -> None:
        """Trade until a time in nanoseconds of continuous trading."""

        def step() -> int:
            a, books = self.hidden.arrays, self.books
            status, self.count, self.finished_count = days.continuous(
                *self._records, a.metaorders, a.when, a.who, a.capacity, a.mids, self.finished, self.finished_count,
                *books.arrays, *books.capacities, books.code, self.fills.fills, self.sent, self.count, until_ns,
            )  # fmt: skip
            return int(status)

        self._until_done(step)

    def close(self) -> Day:
        """Hold the closing auction; what is left of metaorders is given up."""
        a = self.hidden.arrays
        for slot in range(SLOTS):
            if a.metaorders["id"][slot] != 0 and a.metaorders["fills"][slot] > 0:
                self.finished = np.append(self.finished[: self.finished_count], a.metaorders[slot])
                self.finished_count += 1
        s, p, _ = self._records
        times = np.empty(int(p["auction_orders"] / 3), np.int64)
        days.closing_times(s, times)
        self._auction(times, days.closing_auction, self.count)
        self._let_pass(days.END_NS)
        trajectory = Trajectory(
            instrument=self.name,
            date=self.date,
            rules=days.RULES,
            start_ns=days.AUCTION_NS,
            end_ns=days.END_NS,
            book=self.book,
            orders=self.sent[: self.count].copy(),
            fills=self.fills.fills[: self.books.head[0, kb.N_FILLS]].copy(),
            labels={"source": "reference"},
        )
        return Day(trajectory, self.finished[: self.finished_count].copy(), self.morning)

    @property
    def last_trade_ticks(self) -> int:
        """The last price, or yesterday's close if nothing traded."""
        return int(self.books.head[0, kb.LAST_TRADE]) or self.book.reference_ticks


def run(
    name: str,
    count: int,
    *,
    profiles: dict[str, Profile] = PROFILES,
    shared: Shared = SHARED,
    seed: int = SEED,
) -> Iterator[Day]:
    """The first ``count`` days of one instrument, in order."""
    number = list(profiles).index(name)
    table = profile_table(profiles)
    close = int(table[number]["price_ticks"])
    dates = trading_dates(count)
    hidden = first_morning(name, table, number, shared, seed, dates[0])
    for date in dates:
        a = hidden.arrays
        a.state["start"] = uid(name, date)
        days.night(a.state[0], table[number], a.shared[0], close, a.metaorders)
        day = DayRun(name, date, hidden, close)
        day.open()
        day.trade(days.TRADING_NS)
        yield day.close()
        close = day.last_trade_ticks
