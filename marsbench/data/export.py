"""Trajectories written in other people's formats, so that their tools can read what was simulated here.

LOBSTER's pair of CSV files is written by ``to_lobster``, book snapshots alone by ``to_books``. For our own
format there is nothing to add: ``marsbench.market.trajectory.save`` writes one or many trajectories as
Parquet without losing anything. Folders of each kind are scored by the generator ``files:DIR``.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsbench.data import book_export
from marsbench.data.lobster import ABSENT
from marsbench.data.lobster_window import ADD, DELETE, EXECUTE, PARTIAL
from marsbench.files import write_atomic
from marsbench.market.books import books_of
from marsbench.market.orders import AUCTION, Flag, Kind, Reason
from marsbench.market.replay import Replay, replay_trajectory
from marsbench.market.rules import SECOND, MatchingRules, SelfTrade
from marsbench.market.trajectory import BookState, Trajectory

MILLISECOND = 1_000_000
HALT = 7
TRADING_RESUMES = 1
"""What the price of a halt message says when trading goes on."""
_ASK, _BID, _CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
_IOC, _REPLACE, _BY_LEVEL, _SEEDED = (int(f) for f in (Flag.IOC, Flag.REPLACE, Flag.BY_LEVEL, Flag.SEEDED))


def price_unit(rules: MatchingRules) -> int:
    """How many 1e-4 dollars (of whatever currency) one tick is worth.

    Raises
    ------
    ValueError
        If it is not a whole number, so that LOBSTER's format cannot hold the prices.
    """
    unit = Decimal(rules.tick_size) * 10_000
    if unit != unit.to_integral_value():
        raise ValueError(
            f"a tick of {rules.tick_size} is no multiple of 0.0001, LOBSTER's unit of price; save the trajectory as "
            "Parquet instead (marsbench.market.trajectory.save)"
        )
    return int(unit)


def to_lobster(trajectory: Trajectory, folder: str | Path, *, levels: int = 10, suffix: str = "") -> tuple[Path, Path]:
    """Write a trajectory as a LOBSTER message file and order book file; returns their paths.

    As at LOBSTER, an aggressive order shows as its executions (and its rest as a new order), an event
    beyond the published levels gives no row, and a replaced order comes back under a new id. The first
    row is a message "trading resumes" at the start, which moves nothing, beside the starting book, so
    that no event is lost to the seed.

    What the format cannot say is lost: rejected messages, owners, the limit and the unfilled rest of
    an order that does not rest, where one aggressive order ends and the next begins if both come at
    the same nanosecond, the queue order of the starting book, and changes of place in a queue that a
    source file forced (``REPLACE | SEEDED`` at the same price).

    Parameters
    ----------
    trajectory
        Continuous trading only.
    levels
        Levels published on each side.
    suffix
        Tells several simulations of one period apart: ``..._message_10_SUFFIX.csv``.

    Raises
    ------
    FileExistsError
        If one of the files is there already.
    ValueError
        If the trajectory cannot be said in this format: auctions, a crossed book, a tick that is no
        multiple of 0.0001, prices that are not positive, a period that is not in whole milliseconds.
    """
    base = _name(trajectory, levels, suffix)
    tail = f"{levels}_{suffix}.csv" if suffix else f"{levels}.csv"
    paths = (Path(folder) / f"{base}_message_{tail}", Path(folder) / f"{base}_orderbook_{tail}")
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path}: exists already; give each simulation of a period its own suffix or folder")
    done = replay_trajectory(trajectory, levels=1)
    _check(trajectory, done)
    used = np.r_[trajectory.book.next_id - 1, trajectory.book.resting["order_id"], done.order_id]
    rows = _Rows(trajectory.book, levels, price_unit(trajectory.rules), fresh_id=int(used.max()) + 1)
    rows.start(trajectory.start_ns)
    _play(rows, trajectory.orders, done)
    write_atomic(paths[0], "".join(rows.messages))
    write_atomic(paths[1], "".join(rows.books))
    return paths


def to_books(
    trajectories: Trajectory | Sequence[Trajectory], folder: str | Path, *, levels: int = 10, form: str = "csv"
) -> list[Path]:
    """Write the visible book of trajectories, one file each, as ``marsbench.data.books`` describes; returns the paths.

    A row for the start and one for every change of the best ``levels`` price levels. Simulations of one
    period are numbered: ``..._book_10_0.csv``, ``..._book_10_1.csv``. Orders, trades and volume are lost.

    Parameters
    ----------
    form
        ``"csv"``, ``"csv.gz"`` or ``"parquet"``.

    Raises
    ------
    FileExistsError
        If one of the files is there already.
    ValueError
        If a period is not in whole milliseconds, or an instrument does not fit into a file name.
    """
    many = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    periods = [(t.instrument, t.date, t.start_ns, t.end_ns) for t in many]
    suffixes = [str(periods[:i].count(p)) if periods.count(p) > 1 else "" for i, p in enumerate(periods)]
    return [
        book_export.write(books_of(t, levels=levels), folder, suffix=suffix, form=form)
        for t, suffix in zip(many, suffixes, strict=True)
    ]


def _name(trajectory: Trajectory, levels: int, suffix: str) -> str:
    """The part of the file names before ``_message``, everything in it checked."""
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    for what, text in (("instrument", trajectory.instrument), ("suffix", suffix or "x")):
        allowed = "A-Za-z0-9.-" if what == "instrument" else "A-Za-z0-9._-"
        if not re.fullmatch(f"[{allowed}]+", text):
            raise ValueError(f"{what} {text!r} does not fit into a LOBSTER file name; use characters of {allowed}")
    start, end = trajectory.start_ns, trajectory.end_ns
    if start % MILLISECOND or end % MILLISECOND:
        raise ValueError(
            f"{trajectory}: LOBSTER file names give the period in whole milliseconds, this one is {start}-{end} ns; "
            "cut it first (marsbench.market.replay.cut)"
        )
    return f"{trajectory.instrument}_{trajectory.date}_{start // MILLISECOND}_{end // MILLISECOND}"


def _check(trajectory: Trajectory, done: Replay) -> None:
    """Raise a ``ValueError`` if something happens that the format cannot say."""
    rules, orders = trajectory.rules, trajectory.orders
    time = orders["time_ns"][done.reason == Reason.OK]
    inside = np.zeros(len(time), bool)
    for phase in rules.continuous:
        inside |= (time >= phase.start_ns) & (time < phase.end_ns)
    assert done.snapshots is not None
    ask, bid = done.snapshots.best()
    crossed = done.snapshots.two_sided & (ask <= bid)
    if not inside.all() or (done.fills["side"] == AUCTION).any() or crossed.any():
        raise ValueError(
            f"{trajectory}: holds a call auction or a halt, which LOBSTER files cannot show; cut it to continuous "
            "trading first (marsbench.market.replay.cut)"
        )
    agents = (orders["owner"] != 0).any() or (trajectory.book.resting["owner"] != 0).any()
    if rules.self_trade != SelfTrade.ALLOW and agents:
        raise ValueError(
            f"{trajectory}: agents under the self-trade rule {rules.self_trade.name} make cancels that are not in "
            "the record; save it as Parquet instead (marsbench.market.trajectory.save)"
        )


def _play(rows: _Rows, orders: NDArray[np.void], done: Replay) -> None:
    """Walk through the accepted messages and write the rows that each of them makes."""
    first = np.searchsorted(done.fills["seq"], np.arange(len(orders) + 1)).tolist()
    resting = np.where(done.fills["side"] == _BID, done.fills["ask_id"], done.fills["bid_id"]).tolist()
    parts: list[int] = done.fills["size_shares"].tolist()
    columns = [orders[n].tolist() for n in ("time_ns", "kind", "price_ticks", "size_shares", "owner", "flags")]
    columns += [c.tolist() for c in (done.order_id, done.cancelled_shares, done.cancelled_price_ticks)]
    columns += [done.cancelled_side.tolist(), done.traded_shares.tolist()]
    sent = list(zip(*columns, strict=True))
    for i in np.flatnonzero(done.reason == Reason.OK).tolist():
        time, kind, price, size, owner, flags, order_id, cancelled, at, side, traded = sent[i]
        rows.time_ns, rows.flags = time, flags
        if kind == _CANCEL and flags & _BY_LEVEL:
            rows.cancel_newest(side, at, cancelled, owner)
            continue
        if kind == _CANCEL:
            rows.take(order_id, cancelled)
            continue
        if flags & _REPLACE:
            if flags & _SEEDED and (at, cancelled, traded) == (price, size, 0):
                rows.requeue(order_id)
                continue
            rows.take(order_id, cancelled)
        for k in range(first[i], first[i + 1]):
            rows.take(resting[k], parts[k], execution=True)
        if traded < size and not flags & _IOC:
            rows.add(order_id, kind, price, size - traded, owner)


class _Rows:
    """The book as it goes along, and the rows that show it. Prices in ticks."""

    def __init__(self, book: BookState, levels: int, unit: int, *, fresh_id: int) -> None:
        self.levels, self.unit, self.fresh_id = levels, unit, fresh_id
        self.messages: list[str] = []
        self.books: list[str] = []
        self.time_ns = 0
        self.flags = 0
        """Of the message that is being played."""
        self.queues: tuple[dict[int, dict[int, int]], ...] = ({}, {})
        """By side and price: shares left by order id, oldest first."""
        self.totals: tuple[dict[int, int], ...] = ({}, {})
        self.keys: tuple[list[int], ...] = ([], [])
        """Prices of each side, best first: those of bids negative."""
        self.where: dict[int, tuple[int, int, int]] = {}
        """Side, price and owner of each live order."""
        self.shown_as: dict[int, int] = {}
        """Ids in the file that differ from ours: an id that was seen to go does not come back."""
        self.gone: set[int] = set()
        for order in book.resting:
            side, price = int(order["kind"]), int(order["price_ticks"])
            self._enter(int(order["order_id"]), side, price, int(order["size_shares"]), int(order["owner"]))

    def start(self, time_ns: int) -> None:
        """The row that shows the starting book."""
        self.time_ns = time_ns
        self._write(HALT, 0, 0, TRADING_RESUMES, -1)

    def add(self, order_id: int, side: int, price: int, size: int, owner: int) -> None:
        """A new order, or what is left of one, rests."""
        if order_id in self.gone:
            self.shown_as[order_id] = self.fresh_id
            self.fresh_id += 1
        self._enter(order_id, side, price, size, owner)
        if self._published(side, price):
            self._write(ADD, order_id, size, price * self.unit, 1 if side == _BID else -1)

    def take(self, order_id: int, size: int, *, execution: bool = False) -> None:
        """Shares of an order go."""
        side, price, _ = self.where[order_id]
        published = self._published(side, price)
        queue, totals = self.queues[side][price], self.totals[side]
        queue[order_id] -= size
        totals[price] -= size
        left = queue[order_id]
        if left == 0:
            del queue[order_id], self.where[order_id]
        if not queue:
            key = price if side == _ASK else -price
            del self.queues[side][price], totals[price]
            del self.keys[side][bisect_left(self.keys[side], key)]
        if published:
            kind = EXECUTE if execution else PARTIAL if left else DELETE
            self._write(kind, order_id, size, price * self.unit, 1 if side == _BID else -1)
            if left == 0:
                self.gone.add(order_id)

    def cancel_newest(self, side: int, price: int, size: int, owner: int) -> None:
        """The newest orders of an owner at a level lose ``size`` shares together."""
        for order_id, left in reversed(list(self.queues[side].get(price, {}).items())):
            if size > 0 and self.where[order_id][2] == owner:
                self.take(order_id, min(size, left))
                size -= min(size, left)

    def requeue(self, order_id: int) -> None:
        """An order goes to the back of its level; LOBSTER does not show it."""
        side, price, _ = self.where[order_id]
        queue = self.queues[side][price]
        queue[order_id] = queue.pop(order_id)

    def _enter(self, order_id: int, side: int, price: int, size: int, owner: int) -> None:
        if price <= 0:
            raise ValueError(f"order {order_id} rests at {price} ticks; LOBSTER files hold positive prices only")
        queue = self.queues[side].get(price)
        if queue is None:
            queue = self.queues[side][price] = {}
            self.totals[side][price] = 0
            insort(self.keys[side], price if side == _ASK else -price)
        queue[order_id] = size
        self.totals[side][price] += size
        self.where[order_id] = (side, price, owner)

    def _published(self, side: int, price: int) -> bool:
        return bisect_left(self.keys[side], price if side == _ASK else -price) < self.levels

    def _write(self, kind: int, order_id: int, size: int, price: int, direction: int) -> None:
        shown = self.shown_as.get(order_id, order_id)
        seconds, rest = divmod(self.time_ns, SECOND)
        self.messages.append(f"{seconds}.{rest:09d},{kind},{shown},{size},{price},{direction}\n")
        cells: list[int] = []
        asks, bids = self.keys[_ASK], self.keys[_BID]
        for k in range(self.levels):
            cells += (asks[k] * self.unit, self.totals[_ASK][asks[k]]) if k < len(asks) else (ABSENT, 0)
            cells += (-bids[k] * self.unit, self.totals[_BID][-bids[k]]) if k < len(bids) else (-ABSENT, 0)
        self.books.append(",".join(map(str, cells)) + "\n")
