"""The slow exchange's day as a table of order events, and the same day as LOBSTER would publish it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from paper_exchange import ASK, BID, Exchange, LobsterFile, random_event

Book = tuple[list[tuple[int, int]], list[tuple[int, int]]]
"""Asks and bids: (price in ticks, size), best first."""
HEADER = "ts,event,order,side,px,qty"
OPEN_NS = 34_200 * 10**9
MAPPING = """\
instrument: TEST
date: 2012-06-21
files: {file}
columns: {{time: ts, action: event, id: order, side: side, price: px, size: qty}}
actions: {{new: A, cancel: [X, D], modify: M, execute: E, trade: P, clear: R}}
sides: {{bid: B, ask: S}}
time: {{format: s}}
rules: NASDAQ
"""


@dataclass
class TableDay:
    """Rows of a table, and the true book after each."""

    rows: list[tuple[int, str, int, str, int, int]] = field(default_factory=list)
    """time_ns, event, order id, side, price in ticks, size."""
    books: list[Book] = field(default_factory=list)
    lobster: LobsterFile = field(default_factory=lambda: LobsterFile(60))
    ends: list[tuple[int, int]] = field(default_factory=list)
    """After each event: index of its last row in the table, and in the LOBSTER file."""

    def lines(self) -> list[str]:
        return [
            f"{t // 10**9}.{t % 10**9:09d},{event},{order},{side},{px // 100}.{px % 100:02d},{qty}"
            for t, event, order, side, px, qty in self.rows
        ]

    def write_csv(self, folder: Path, *, mapping: str = MAPPING, name: str = "day") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.csv").write_text("\n".join([HEADER, *self.lines()]) + "\n")
        path = folder / f"{name}.yaml"
        path.write_text(mapping.format(file=f"{name}.csv"))
        return path

    def table(self, *, price: str = "float") -> pa.Table:
        """As Parquet would hold it; ``price``: float, decimal, text or integer (of 0.0001)."""
        time, event, order, side, px, qty = (list(column) for column in zip(*self.rows, strict=True))
        prices = {
            "float": pa.array([p / 100 for p in px]),
            "decimal": pa.array([f"{p / 100:.2f}" for p in px]).cast(pa.decimal128(12, 4)),
            "text": pa.array([f"{p / 100:.4f}" for p in px]),
            "integer": pa.array([p * 100 for p in px], pa.int64()),
        }[price]
        return pa.table(
            {
                "ts": pa.array(time, pa.int64()), "event": event, "order": order, "side": side, "px": prices,
                "qty": pa.array(qty, pa.int32()),
            }
        )  # fmt: skip

    def write_parquet(self, folder: Path, *, price: str = "float") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.table(price=price), folder / "day.parquet")
        text = MAPPING.format(file="day.parquet").replace("format: s", "format: ns")
        path = folder / "day.yaml"
        path.write_text(text + ('price: {unit: "0.0001"}\n' if price == "integer" else ""))
        return path


class _Day:
    def __init__(self) -> None:
        self.exchange, self.out, self.time = Exchange(), TableDay(), OPEN_NS
        self.next_id = 1
        self.lobster_id: dict[int, int] = {}  # of orders that LOBSTER shows as new ones, because they were modified

    def row(self, event: str, order_id: int, side: int, price: int, size: int) -> None:
        self.out.rows.append((self.time, event, order_id, "SB"[side], price, size))
        self.out.books.append((self.exchange.levels(ASK, 99), self.exchange.levels(BID, 99)))

    def message(self, kind: int, order_id: int, size: int, price: int, side: int) -> None:
        direction = 1 if side == BID else -1
        order_id = self.lobster_id.get(order_id, order_id)
        book = self.out.lobster.book(self.exchange)
        self.out.lobster.add(self.time, kind, order_id, size, price * 100, direction, book)

    def done(self) -> None:
        self.out.ends.append((len(self.out.rows) - 1, len(self.out.lobster.messages) - 1))

    def execute(self, side: int, price: int, size: int) -> int:
        """Trade what crosses; returns what is left."""
        for resting, level, part in self.exchange.fills(side, price, size):
            size -= part
            self.row("E", resting, 1 - side, level, part)
            self.message(4, resting, part, level, 1 - side)
        return size

    def new(self, side: int, price: int, size: int) -> None:
        left = self.execute(side, price, size)
        if left:
            self.exchange.live[self.next_id] = [side, price, left]
            self.row("A", self.next_id, side, price, left)
            self.message(1, self.next_id, left, price, side)
        self.next_id += 1

    def cancel(self, order_id: int, size: int) -> None:
        side, price, left = self.exchange.live[order_id]
        self.exchange.take(order_id, size)
        self.row("X", order_id, side, price, size)
        self.message(3 if size == left else 2, order_id, size, price, side)

    def modify(self, order_id: int, price: int, size: int) -> None:
        """As an exchange does it: smaller keeps its place, anything else goes to the back and may trade."""
        side, was, left = self.exchange.live[order_id]
        if self.exchange.prices(1 - side) and self.crosses(side, price):
            price = self.exchange.prices(1 - side)[0] + (1 if side == ASK else -1)  # stays passive
        if (price, size) == (was, left):
            return  # nothing is modified
        if price == was and size < left:
            self.exchange.take(order_id, left - size)
            self.row("M", order_id, side, price, size)
            self.message(2, order_id, left - size, price, side)
            return
        self.exchange.take(order_id, left)
        self.message(3, order_id, left, was, side)
        self.exchange.live[order_id] = [side, price, size]
        self.row("M", order_id, side, price, size)
        self.lobster_id[order_id] = self.next_id
        self.next_id += 1
        self.message(1, order_id, size, price, side)

    def crosses(self, side: int, price: int) -> bool:
        best = self.exchange.prices(1 - side)[0]
        return price >= best if side == BID else price <= best


def table_day(seed: int, *, events: int = 300, modify: bool = True) -> TableDay:
    """A random day: an order book at the open, then new, cancelled, modified and executed orders."""
    rng = np.random.default_rng(seed)
    day = _Day()
    day.time = OPEN_NS - 60 * 10**9
    for k in range(24):
        side = k % 2
        day.exchange.live[k + 1] = [
            side, 1000 + (1 if side == ASK else -1) * int(rng.integers(1, 12)), int(rng.integers(1, 9)),
        ]  # fmt: skip
        day.row("A", k + 1, *day.exchange.live[k + 1])
    day.next_id, day.time, mid = 25, OPEN_NS, 1000
    day.out.lobster.add(OPEN_NS, 7, 0, 0, 1, -1, day.out.lobster.book(day.exchange))
    day.done()
    for _ in range(events):
        day.time += int(rng.integers(1, 40_000_000_000))
        mid += int(rng.integers(-3, 4)) if rng.random() < 0.05 else 0
        live = list(day.exchange.live)
        if modify and live and rng.random() < 0.2:
            order_id = live[int(rng.integers(len(live)))]
            _, price, size = day.exchange.live[order_id]
            other = price + int(rng.integers(-2, 3)), max(size + int(rng.integers(-3, 4)), 1)
            if other != (price, size):
                day.modify(order_id, *other)
                day.done()
            continue
        kind, first, price, size = random_event(rng, day.exchange, mid)
        if kind == "cancel":
            day.cancel(first, size)
        else:
            day.new(first, price, size)
        day.done()
    return day.out
