"""A slow and obvious exchange that also writes what it does in the formats of LOBSTER and Shanghai level 2.

It shares no code with the library, so that a file from here that ``verify`` finds perfect says
something about both.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ASK, BID = 0, 1
SIDES = "SB"
Fill = tuple[int, int, int]
"""Resting id, price, size."""


class Exchange:
    """Price-time priority with dictionaries. Prices and sizes are integers."""

    def __init__(self) -> None:
        self.live: dict[int, list[int]] = {}  # id -> side, price, size, in order of arrival

    def queue(self, side: int, price: int) -> list[int]:
        return [i for i, (s, p, _) in self.live.items() if (s, p) == (side, price)]

    def prices(self, side: int) -> list[int]:
        return sorted({p for s, p, _ in self.live.values() if s == side}, reverse=side == BID)

    def volume(self, side: int, price: int) -> int:
        return sum(z for s, p, z in self.live.values() if (s, p) == (side, price))

    def levels(self, side: int, count: int) -> list[tuple[int, int]]:
        return [(p, self.volume(side, p)) for p in self.prices(side)[:count]]

    def take(self, order_id: int, size: int) -> None:
        self.live[order_id][2] -= size
        if self.live[order_id][2] == 0:
            del self.live[order_id]

    def fills(self, side: int, price: int, size: int) -> Iterator[Fill]:
        """Trade step by step: the caller may look at the book between the steps."""
        other = BID if side == ASK else ASK
        for level in self.prices(other):
            if (level > price) if side == BID else (level < price):
                return
            for resting in self.queue(other, level):
                traded = min(size, self.live[resting][2])
                if traded == 0:
                    return
                self.take(resting, traded)
                size -= traded
                yield resting, level, traded

    def uncross(self) -> list[tuple[int, int, int, int]]:
        """Call auction: (bid id, ask id, price, size) of each trade. Shanghai's rule, by trying every price."""
        best: tuple[int, int] | None = None
        candidates: list[int] = []
        for p in sorted({p for _, p, _ in self.live.values()}):
            bids = sum(z for s, q, z in self.live.values() if s == BID and q >= p)
            asks = sum(z for s, q, z in self.live.values() if s == ASK and q <= p)
            above = sum(z for s, q, z in self.live.values() if s == BID and q > p)
            below = sum(z for s, q, z in self.live.values() if s == ASK and q < p)
            volume = min(bids, asks)
            if volume == 0 or above > volume or below > volume:
                continue
            rank = (-volume, abs(bids - asks))
            if best is None or rank < best:
                best, candidates = rank, [p]
            elif rank == best:
                candidates.append(p)
        if best is None:
            return []
        price, left, trades = (candidates[0] + candidates[-1] + 1) // 2, -best[0], []
        while left:
            bid = self.queue(BID, self.prices(BID)[0])[0]
            ask = self.queue(ASK, self.prices(ASK)[0])[0]
            size = min(left, self.live[bid][2], self.live[ask][2])
            self.take(bid, size)
            self.take(ask, size)
            left -= size
            trades.append((bid, ask, price, size))
        return trades


def random_event(rng: np.random.Generator, book: Exchange, mid: int, lot: int = 1) -> tuple[str, int, int, int]:
    """``("new", side, price, size)`` or ``("cancel", id, 0, size)``; keeps about forty orders alive."""
    live = list(book.live)
    if len(live) > 12 and rng.random() < 0.25 + 0.01 * len(live):
        order_id = live[int(rng.integers(len(live)))]
        size = book.live[order_id][2]
        whole = size < 2 * lot or rng.random() < 0.7
        return "cancel", order_id, 0, size if whole else lot * int(rng.integers(1, size // lot))
    side = int(rng.integers(2))
    away = 1 if side == ASK else -1
    distance = -int(rng.integers(1, 8)) if rng.random() < 0.25 else int(rng.geometric(0.25))
    return "new", side, mid + away * distance, lot * int(rng.integers(1, 9))


class LobsterFile:
    """Collects LOBSTER rows. Prices are given in units of 1e-4 dollar."""

    def __init__(self, levels: int, *, instrument: str = "TEST", date: str = "2012-06-21") -> None:
        self.levels = levels
        self.name = f"{instrument}_{date}_34200000_57600000"
        self.messages: list[list[object]] = []
        self.books: list[list[int]] = []

    def add(
        self, time_ns: int, kind: int, order_id: int, size: int, price: int, direction: int, book: list[int]
    ) -> None:
        self.messages.append([f"{time_ns // 10**9}.{time_ns % 10**9:09d}", kind, order_id, size, price, direction])
        self.books.append(book)

    def book(self, exchange: Exchange, unit: int = 100) -> list[int]:
        """The exchange's book as a row of this file; ``unit`` is the tick in 1e-4 dollar."""
        row = []
        sides = [exchange.levels(side, self.levels) for side in (ASK, BID)]
        for k in range(self.levels):
            for side, padding in ((ASK, 9999999999), (BID, -9999999999)):
                price, size = sides[side][k] if k < len(sides[side]) else (None, 0)
                row += [padding if price is None else price * unit, size]
        return row

    def texts(self) -> dict[str, str]:
        out = {}
        for what, rows in (("message", self.messages), ("orderbook", self.books)):
            text = "".join(",".join(map(str, row)) + "\n" for row in rows)
            out[f"{self.name}_{what}_{self.levels}.csv"] = text
        return out

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.texts().items():
            (folder / name).write_text(text)
        return folder

    def write_zip(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in self.texts().items():
                archive.writestr(name, text)
        return path


def lobster_day(
    seed: int, *, events: int = 600, levels: int = 10
) -> tuple[LobsterFile, list[tuple[str, int, int, int, int]]]:
    """A random day, and what was really sent: (new or cancel, id or 0, side, price, size) per visible event.

    As at LOBSTER, only events within the published levels (before or after them) give a row.
    """
    rng = np.random.default_rng(seed)
    exchange, file, sent = Exchange(), LobsterFile(levels), []
    for k in range(40):
        side = k % 2
        exchange.live[k + 1] = [
            side,
            1000 + (1 if side == ASK else -1) * int(rng.integers(1, 12)),
            int(rng.integers(1, 9)),
        ]
    next_id, time, mid = 41, 34_200_000_000_000, 1000
    for _ in range(events):
        time += int(rng.integers(1, 30_000_000_000))
        if rng.random() < 0.05:
            mid += int(rng.integers(-3, 4))
        kind, first, price, size = random_event(rng, exchange, mid)
        before = len(file.messages)
        if rng.random() < 0.05 and before:
            file.add(time, 5, 0, 7, 100_050, 1, file.books[-1])  # a hidden order between the ticks
        if kind == "cancel":
            side, level, left = exchange.live[first]
            seen = (level, exchange.volume(side, level)) in exchange.levels(side, levels)
            exchange.take(first, size)
            if seen:
                direction = 1 if side == BID else -1
                file.add(time, 3 if size == left else 2, first, size, level * 100, direction, file.book(exchange))
                sent.append(("cancel", first, side, level, size))
            continue
        side, traded = first, 0
        for resting, level, part in exchange.fills(side, price, size):
            traded += part
            file.add(time, 4, resting, part, level * 100, 1 if side == ASK else -1, file.book(exchange))
        if traded < size:
            exchange.live[next_id] = [side, price, size - traded]
            if price in [p for p, _ in exchange.levels(side, levels)]:
                file.add(time, 1, next_id, size - traded, price * 100, 1 if side == BID else -1, file.book(exchange))
        if any(row[1] != 5 for row in file.messages[before:]):
            sent.append(("new", next_id if traded < size else 0, side, price, size))
        next_id += 1
    return file, sent


def shanghai_day(folder: Path, seed: int, *, layout: str, events: int = 500, snapshots: bool = True) -> Path:
    """Write a random day of Shanghai level 2 with both auctions, and return the order file.

    ``layout``: ``"exchange"`` (BizIndex) or ``"vendor"`` (MDTime ...). Snapshots, of the first only, follow
    every seventh row of the continuous session.
    """
    rng = np.random.default_rng(seed)
    exchange, rows, pictures, trades = Exchange(), [], [], 0
    next_id, close, mid = 1, 5000, 5000

    def clock(start: str, minutes: float, part: float) -> int:
        hours, minute = map(int, start.split(":"))
        return int(((hours * 60 + minute) * 60 + minutes * 60 * part) * 100)  # hundredths of a second

    parts = [("09:15", 10, events // 5), ("09:30", 120, events), ("13:00", 117, events), ("14:57", 3, events // 5)]
    rows.append((clock("09:15", 0, 0), "A", ASK, 1, 5500, 100))
    rows.append((clock("09:15", 0, 0), "A", BID, 2, 4500, 100))
    exchange.live |= {1: [ASK, 5500, 100], 2: [BID, 4500, 100]}
    next_id = 3
    for number, (start, minutes, count) in enumerate(parts):
        auction = number in (0, 3)
        for k in range(count):
            time = clock(start, minutes, k / count)
            kind, first, price, size = random_event(rng, exchange, mid, 100)
            if kind == "cancel" and (number == 3 or (number == 0 and k >= count // 2)):
                continue  # inside the no-cancel window
            if kind == "cancel":
                side, level, left = exchange.live[first]
                exchange.take(first, left)  # this exchange knows no partial cancels
                rows.append((time, "D", side, first, level, left))
            else:
                side = first
                if side == ASK and rng.random() < 0.1:
                    size += 37  # odd lots may be sold
                left = size
                for resting, level, part in [] if auction else exchange.fills(side, price, size):
                    left -= part
                    trades += 1
                    pair = (next_id, resting) if side == BID else (resting, next_id)
                    rows.append((time, "T", SIDES[side], *pair, level, part))
                    mid = level
                if left:
                    exchange.live[next_id] = [side, price, left]
                    rows.append((time, "A", side, next_id, price, left))
                next_id += 1
            if not auction and k % 7 == 0:
                pictures.append((time, trades, exchange.levels(ASK, 10), exchange.levels(BID, 10)))
        if auction:
            for bid, ask, price, size in exchange.uncross():
                trades += 1
                mid = price
                rows.append((clock(start, minutes, 1) + 30, "T", "N", bid, ask, price, size))
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_exchange if layout == "exchange" else _write_vendor
    path = write(folder, rows)
    if layout == "exchange" and snapshots:
        _write_snapshots(folder, pictures, close)
    return path


def _stamp(time: int) -> int:
    seconds = time // 100
    return seconds // 3600 * 1_000_000 + seconds // 60 % 60 * 10_000 + seconds % 60 * 100 + time % 100


def _text(time: int) -> str:
    seconds = time // 100
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{time % 100:02d}0"


def gzipped(path: Path, lines: list[str]) -> Path:
    with gzip.open(path, "wt", newline="\n") as file:
        file.write("".join(line + "\n" for line in lines))
    return path


def _write_exchange(folder: Path, rows: list[tuple]) -> Path:
    orders = ["TransactTime,ApplSeqNum,BizIndex,OrderNo,OrdType,Side,Price,OrderQty"]
    trades = ["TransactTime,ApplSeqNum,BizIndex,BidApplSeqNum,OfferApplSeqNum,LastPx,LastQty,ExecType"]
    for k, (time, kind, *rest) in enumerate(rows):
        if kind == "T":
            flag, bid, ask, price, size = rest
            trades.append(f"{_stamp(time)},{len(trades)},{k * 3 + 10},{bid},{ask},{price / 100:.2f},{size}.0,{flag}")
        else:
            side, order_id, price, size = rest
            line = (
                f"{_stamp(time)},{len(orders)},{k * 3 + 10},{order_id},{kind},{SIDES[side]},{price / 100:.2f},{size}.0"
            )
            orders.append(line)
    gzipped(folder / "600000_2023-02-07_trades.csv.gz", trades)
    return gzipped(folder / "600000_2023-02-07_orders.csv.gz", orders)


def _write_vendor(folder: Path, rows: list[tuple]) -> Path:
    head = "MDDate,MDTime,SecurityType"
    orders = [f"{head},OrderIndex,OrderType,OrderPrice,OrderQty,OrderBSFlag,ChannelNo,ApplSeqNum,OrderNO,SecurityID"]
    trades = [
        f"{head},TradeIndex,TradeBuyNo,TradeSellNo,TradeBSFlag,TradePrice,TradeQty,ChannelNo,ApplSeqNum,SecurityID"
    ]
    for k, (time, kind, *rest) in enumerate(rows):
        start = f"2023.07.11,{_text(time)},2"
        if kind == "T":
            flag, bid, ask, price, size = rest
            code = {"N": 0, "B": 1, "S": 2}[flag]
            trades.append(f"{start},{len(trades)},{bid},{ask},{code},{price / 100},{size},1,{k + 5},600000.SH")
        else:
            side, order_id, price, size = rest
            code, way = 2 if kind == "A" else 10, 1 if side == BID else 2
            orders.append(f"{start},{len(orders)},{code},{price / 100},{size},{way},1,{k + 5},{order_id},600000.SH")
    gzipped(folder / "600000_2023-07-11_trades.csv.gz", trades)
    return gzipped(folder / "600000_2023-07-11_orders.csv.gz", orders)


def _write_snapshots(folder: Path, pictures: list[tuple], close: int) -> None:
    names = [f"{side}Level[{k}].{what}" for side in ("Bid", "Ask") for k in range(10) for what in ("Price", "Qty")]
    lines = [",".join(["SecurityID", "NumTrades", "PrevClosePx", "DataTimeStamp", *names])]
    for time, trades, asks, bids in pictures:
        cells = [600000, trades, close * 10, _stamp(time) // 100]
        for levels in (bids, asks):
            for price, size in levels + [(0, 0)] * (10 - len(levels)):
                cells += [price * 10, size * 1000]
        lines.append(",".join(map(str, cells)))
    gzipped(folder / "600000_2023-02-07_snapshots.csv.gz", lines)
