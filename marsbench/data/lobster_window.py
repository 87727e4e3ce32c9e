"""Rebuilding a NASDAQ order stream from LOBSTER messages and the published window of levels.

LOBSTER shows the best L levels only. What happens outside is invisible, so a level that comes into
the window (because a better one went away) brings volume that no message explained. That volume is
**taken over** as orders flagged SEEDED, or, where we still hold volume that is gone by now, as
cancels flagged SEEDED; never for a level that was within the window a row earlier.

Who stands in the queue of such a level is partly known from the future: while the level stays in
view, every order that is cancelled or executed is named, and its size follows from its reductions.
Those come first, by ascending id (NASDAQ gives ids in time order); the volume that no later message
names never trades while in view, so it stands at the end, as one anonymous order.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.day import PublishedBooks, published_fills
from marsbench.data.lobster_queues import LevelQueues, to_the_back
from marsbench.market.orders import ORDER, Flag, Kind
from marsbench.market.trajectory import BookState

if TYPE_CHECKING:
    from marsbench.data.lobster import Raw

ADD, PARTIAL, DELETE, EXECUTE, HIDDEN = 1, 2, 3, 4, 5
SEEDED = int(Flag.SEEDED)
ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
Key = tuple[int, int]
"""(side, price in ticks)."""


def rebuild(raw: Raw, books: PublishedBooks, tick: int) -> dict[str, Any]:
    """The parts of a ``VenueDay`` that describe the order stream (its fields by name)."""
    return _Rebuilder(raw, books, tick).run()


def window_edges(books: PublishedBooks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How far each published book reaches: worst ask and worst bid in view, each ``[rows]``.

    A side with fewer levels than the file has room for is in view entirely: its edge is at
    the end of the price range.
    """
    last = books.price_ticks[:, :, -1].astype(np.int64)
    full = books.size_shares[:, :, -1] > 0
    far = np.iinfo(np.int32)
    return np.where(full[:, 0], last[:, 0], far.max), np.where(full[:, 1], last[:, 1], far.min)


class _Rebuilder:
    def __init__(self, raw: Raw, books: PublishedBooks, tick: int) -> None:
        self.rows = len(raw.type)
        self.time: list[int] = raw.time_ns.tolist()
        self.type: list[int] = raw.type.tolist()
        self.id: list[int] = raw.id.tolist()
        self.size: list[int] = raw.size.tolist()
        self.price: list[int] = (raw.price // tick).tolist()
        self.side: list[int] = np.where(raw.direction == 1, BID, ASK).tolist()
        self.books = books
        self.next_id = int(max(raw.id.max(), 0)) + 1
        self.held = LevelQueues()
        self.orders: list[tuple[int, int, int, int, int, int]] = []
        self.seeds: list[tuple[int, int]] = []
        self.requeued: list[int] = []
        self.row_message = [-1] * self.rows
        self.row_fills = [-1] * self.rows
        self.trade_rows: list[tuple[int, int]] = []
        self._index_future(raw)
        self._index_entries()

    def _index_future(self, raw: Raw) -> None:
        """For each row what its order will still lose from here on, and the rows of each level."""
        loses = np.where(np.isin(raw.type, (PARTIAL, DELETE, EXECUTE)), raw.size, 0)
        order = np.lexsort((-np.arange(self.rows), raw.id))
        ids, total = raw.id[order], np.cumsum(loses[order])
        first = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        base = np.repeat(total[first] - loses[order][first], np.diff(np.r_[first, self.rows]))
        future = np.zeros(self.rows, np.int64)
        future[order] = total - base
        self.future: list[int] = future.tolist()
        self.key_rows: dict[Key, list[int]] = {}
        for row, kind in enumerate(self.type):
            if kind <= EXECUTE and row > 0:
                self.key_rows.setdefault((self.side[row], self.price[row]), []).append(row)

    def _index_entries(self) -> None:
        """Levels that come into the window: by row ``(side, price, published size)``, and by level the rows."""
        price, size = self.books.price_ticks.astype(np.int64), self.books.size_shares
        ask_edge, bid_edge = window_edges(self.books)
        new = np.zeros(price.shape, bool)
        new[1:, 0] = price[1:, 0] > ask_edge[:-1, None]
        new[1:, 1] = price[1:, 1] < bid_edge[:-1, None]
        new[0] = True
        new &= size > 0
        self.entries: dict[int, list[tuple[int, int, int]]] = {}
        self.entry_rows: dict[Key, list[int]] = {}
        row, side, _ = np.nonzero(new)
        for r, s, p, v in zip(row.tolist(), side.tolist(), price[new].tolist(), size[new].tolist(), strict=True):
            self.entries.setdefault(r, []).append((s, p, v))
            self.entry_rows.setdefault((s, p), []).append(r)
        # In a row where the edge moves away from the touch, volume that we hold there may be gone.
        self.edges = (ask_edge.tolist(), bid_edge.tolist())
        widened = np.zeros(self.rows, bool)
        widened[1:] = (ask_edge[1:] > ask_edge[:-1]) | (bid_edge[1:] < bid_edge[:-1])
        self.touched = widened
        self.touched[list(self.entries)] = True

    def run(self) -> dict[str, Any]:
        book = self._seed_start()
        row = 1
        while row < self.rows:
            last = self._aggressive_end(row) if self.type[row] == EXECUTE else row
            for r in range(row, last + 1):
                if self.touched[r]:
                    self._take_over(r, self.time[row])
            if self.type[row] == EXECUTE:
                self._aggressive(row, last)
            else:
                self._passive(row)
            row = last + 1
        return self._result(book)

    def _seed_start(self) -> BookState:
        resting = []
        for side, price, size in self.entries.get(0, ()):
            for order_id, part in self._queue(side, price, size, {}, 0):
                resting.append((self.time[0], order_id, price, part, 0, side, SEEDED, 0))
                self.held.add(side, price, order_id, part)
        return BookState(
            resting=np.array(resting, ORDER),
            last_trade_ticks=self.price[0] if self.type[0] == EXECUTE else 0,
            time_ns=self.time[0],
        )

    def _aggressive_end(self, row: int) -> int:
        """Last row of the aggressive order whose executions begin at ``row`` (its rest included).

        It meets every resting order once: an order that trades again at that time meets another one.
        """
        time, side, price = self.time[row], self.side[row], self.price[row]
        last = at = row
        met = {self.id[row]}
        while (at := at + 1) < self.rows and self.time[at] == time:
            if self.side[at] == side and self.type[at] == HIDDEN:
                continue
            worse = self.price[at] >= price if side == ASK else self.price[at] <= price
            if worse and self.side[at] == side and self.type[at] == EXECUTE and self.id[at] not in met:
                last, price = at, self.price[at]
                met.add(self.id[at])
                continue
            return at if worse and self.side[at] != side and self.type[at] == ADD else last
        return last

    def _aggressive(self, row: int, last: int) -> None:
        side, done = self.side[row], 0
        executed = [r for r in range(row, last + 1) if self.type[r] == EXECUTE]
        rests = self.type[last] == ADD
        self._requeue(row, executed)
        message = len(self.orders)
        total = sum(self.size[r] for r in executed) + (self.size[last] if rests else 0)
        order_id = self.id[last] if rests else self._fresh_id()
        self._emit(row, order_id, self.price[last], total, BID if side == ASK else ASK, 0)
        for r in range(row, last + 1):
            if self.type[r] == EXECUTE:
                done += 1
                self.held.reduce(side, self.price[r], self.id[r], self.size[r])
                self.trade_rows.append((r, message))
            self.row_message[r], self.row_fills[r] = message, done
        self.row_fills[last] = -1
        if rests:
            self.held.add(self.side[last], self.price[last], order_id, self.size[last])

    def _requeue(self, row: int, executed: list[int]) -> None:
        """Send orders to the back of their level where the venue passed them over.

        Time priority has exceptions that no message explains (an aggressor does not trade with its
        own member's order, for one). The orders that were passed over give up their place, without
        any change of volume, so that those that traded are met.
        """
        side = self.side[row]
        by_price: dict[int, dict[int, None]] = {}
        for r in executed:
            by_price.setdefault(self.price[r], {})[self.id[r]] = None
        for price, traded in by_price.items():
            level = self.held.level(side, price)
            for order_id in to_the_back(list(level), list(traded)):
                size = level.pop(order_id)
                level[order_id] = size
                self.requeued.append(len(self.orders))
                self._emit(row, order_id, price, size, side, SEEDED | int(Flag.REPLACE))

    def _passive(self, row: int) -> None:
        kind, side, price, size = self.type[row], self.side[row], self.price[row], self.size[row]
        if kind == ADD:
            self._emit(row, self.id[row], price, size, side, 0)
            self.held.add(side, price, self.id[row], size)
        elif kind in (PARTIAL, DELETE):
            self._emit(row, self.id[row], price, size, CANCEL, 0)
            self.held.reduce(side, price, self.id[row], size)
        elif not self.seeds or self.seeds[-1][1] != row:
            self.row_message[row], self.row_fills[row] = self.row_message[row - 1], self.row_fills[row - 1]
            return
        self.row_message[row] = len(self.orders) - 1

    def _take_over(self, row: int, time: int) -> None:
        """Make the levels that came into view at ``row`` what they are, before its message."""
        listed = self.entries.get(row, ())
        for side, price, size in listed:
            if (self.type[row] <= EXECUTE) and (side, price) == (self.side[row], self.price[row]):
                size += -self.size[row] if self.type[row] == ADD else self.size[row]
            held = self.held.level(side, price)
            self._reconcile(side, price, held, self._queue(side, price, size, held, row), row, time)
        for side in (ASK, BID):
            before, now = self.edges[side][row - 1], self.edges[side][row]
            low, high = (before + 1, now + 1) if side == ASK else (now, before)
            for price in self.held.prices(side, low, high):
                if (side, price) not in {(s, p) for s, p, _ in listed}:
                    self._reconcile(side, price, self.held.level(side, price), [], row, time)

    def _queue(self, side: int, price: int, size: int, held: dict[int, int], row: int) -> list[tuple[int, int]]:
        """Orders (id, size) in queue order that make up ``size`` shares at a level entering at ``row``."""
        rows, entries = self.key_rows.get((side, price), []), self.entry_rows[side, price]
        following = entries[bisect_left(entries, row + 1) :]
        until = following[0] if following else self.rows
        lost: dict[int, int] = {}
        most: dict[int, int] = {}
        gone: set[int] = set()
        added: set[int] = set()
        for r in rows[bisect_left(rows, row) : bisect_left(rows, until)]:
            order_id = self.id[r]
            if self.type[r] == EXECUTE:  # whoever stood before the one that trades is gone
                gone.update(i for i in lost if i < order_id or order_id in added)
            if self.type[r] == ADD:
                added.add(order_id)
            elif order_id not in added:
                lost[order_id] = lost.get(order_id, 0) + self.size[r]
                most.setdefault(order_id, max(self.future[r], held.get(order_id, 0)))
                if self.type[r] == DELETE:
                    gone.add(order_id)
        left = size - sum(lost.values())
        for order_id in sorted(lost):
            more = 0 if order_id in gone else max(min(left, most[order_id] - lost[order_id]), 0)
            lost[order_id] += more
            left -= more
        queue = sorted(lost.items())
        for order_id, kept in held.items():
            if order_id not in lost and left > 0:
                queue.append((order_id, min(kept, left)))
                left -= min(kept, left)
        if left > 0:
            queue.append((self._fresh_id(), left))
        return queue

    def _reconcile(
        self, side: int, price: int, held: dict[int, int], wanted: list[tuple[int, int]], row: int, time: int
    ) -> None:
        """Cancel and add until the level holds the wanted queue; an equal front stays untouched."""
        have, same = list(held.items()), 0
        while same < min(len(have), len(wanted)) and have[same][0] == wanted[same][0]:
            if have[same][1] < wanted[same][1]:
                break
            same += 1
            if have[same - 1][1] > wanted[same - 1][1]:
                break
        changes = [(i, s - wanted[k][1] if k < same else s, CANCEL) for k, (i, s) in enumerate(have)]
        for order_id, size, kind in [*changes, *((i, s, side) for i, s in wanted[same:])]:
            if size == 0:
                continue
            self.seeds.append((len(self.orders), row))
            self.orders.append((time, order_id, price, size, kind, SEEDED))
            if kind == CANCEL:
                self.held.reduce(side, price, order_id, size)
            else:
                self.held.add(side, price, order_id, size)

    def _emit(self, row: int, order_id: int, price: int, size: int, kind: int, flags: int) -> None:
        self.orders.append((self.time[row], order_id, price, size, kind, flags))

    def _fresh_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _result(self, book: BookState) -> dict[str, Any]:
        columns = np.array(self.orders, np.int64).reshape(-1, 6)
        orders = np.zeros(len(columns), ORDER)
        for k, name in enumerate(("time_ns", "order_id", "price_ticks", "size_shares", "kind", "flags")):
            orders[name] = columns[:, k]
        at = np.array(self.trade_rows, np.int64).reshape(-1, 2)
        rows = at[:, 0]
        side, ids = np.array(self.side)[rows], np.array(self.id, np.int64)[rows]
        trades = published_fills(
            time_ns=np.array(self.time)[rows],
            bid_id=np.where(side == BID, ids, 0),
            ask_id=np.where(side == ASK, ids, 0),
            seq=at[:, 1],
            price_ticks=np.array(self.price)[rows],
            size_shares=np.array(self.size)[rows],
            side=np.where(side == BID, ASK, BID),
        )
        seeds = np.array(self.seeds, np.int64).reshape(-1, 2)
        return {
            "book": BookState(book.resting, book.last_trade_ticks, 0, self.next_id, book.time_ns),
            "orders": orders,
            "row_message": np.array(self.row_message, np.int64),
            "row_fills": np.array(self.row_fills, np.int64),
            "trades": trades,
            "seed_message": seeds[:, 0],
            "seed_row": seeds[:, 1],
            "requeued": np.array(self.requeued, np.int64),
        }
