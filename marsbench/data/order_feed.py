"""What feeds of single orders (Databento MBO, ITCH) share: the book that they describe, and the orders behind it.

Such a feed says what happened to every resting order, and leaves out the aggressive orders that made it
happen. ``OrderStream`` therefore keeps two books. The **published** one obeys the feed's own messages and
nothing else. **Ours** obeys the orders that are put together for the clearing house. Wherever the feed
changed an order without an execution, ours is brought in line by a message; what both must agree
on (every fill, every published book, every order left at the end) is left to ``marsbench.data.verify``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.day import PublishedBooks, published_fills
from marsbench.data.lobster_queues import to_the_back
from marsbench.market.orders import AUCTION, NO_PRICE, ORDER, Flag, Kind

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
REPLACE, SEEDED = int(Flag.REPLACE), int(Flag.SEEDED)
MOST_BOOKS = 200_000
"""Published books that are kept for comparison; of a longer day, evenly spread."""
Fill = tuple[int, int, int]
"""Resting order id, price in ticks, size."""


class FeedBook:
    """Resting orders by id, and by side and price in order of arrival."""

    def __init__(self) -> None:
        self.where: dict[int, tuple[int, int]] = {}
        """Side and price of each live order."""
        self.queues: tuple[dict[int, dict[int, int]], ...] = ({}, {})
        self._totals: tuple[dict[int, int], ...] = ({}, {})
        self._keys: tuple[list[int], ...] = ([], [])
        """Prices of each side, best first: those of bids negative."""

    def __contains__(self, order_id: int) -> bool:
        return order_id in self.where

    def size(self, order_id: int) -> int:
        """What is left of an order, 0 if it does not rest."""
        if order_id not in self.where:
            return 0
        side, price = self.where[order_id]
        return self.queues[side][price][order_id]

    def add(self, order_id: int, side: int, price: int, size: int) -> None:
        """Put an order at the end of its queue."""
        queue = self.queues[side].get(price)
        if queue is None:
            queue = self.queues[side][price] = {}
            self._totals[side][price] = 0
            insort(self._keys[side], price if side == ASK else -price)
        queue[order_id] = size
        self._totals[side][price] += size
        self.where[order_id] = (side, price)

    def reduce(self, order_id: int, size: int) -> None:
        """Take shares off an order, which keeps its place."""
        side, price = self.where[order_id]
        queue = self.queues[side][price]
        queue[order_id] -= size
        self._totals[side][price] -= size
        if queue[order_id] > 0:
            return
        del queue[order_id], self.where[order_id]
        if not queue:
            key = price if side == ASK else -price
            del self.queues[side][price], self._totals[side][price]
            del self._keys[side][bisect_left(self._keys[side], key)]

    def remove(self, order_id: int) -> None:
        """Take an order off the book."""
        self.reduce(order_id, self.size(order_id))

    def top(self, side: int, levels: int) -> list[tuple[int, int]]:
        """Price and size of the best levels of a side."""
        sign = 1 if side == ASK else -1
        totals = self._totals[side]
        return [(sign * key, totals[sign * key]) for key in self._keys[side][:levels]]

    @property
    def crossed(self) -> bool:
        """Whether the best bid reaches the best ask, as it may before an auction."""
        asks, bids = self._keys
        return bool(asks and bids) and -bids[0] >= asks[0]

    def orders(self, time_ns: int) -> NDArray[np.void]:
        """All resting orders as an ``ORDER`` array, oldest first within each price."""
        rows = [
            (time_ns, order_id, price, size, 0, side, 0, 0)
            for side in (ASK, BID)
            for price, queue in self.queues[side].items()
            for order_id, size in queue.items()
        ]
        return np.array(rows, ORDER)


class OrderStream:
    """Collects the orders of a day, message by message; see the module's docstring."""

    def __init__(self, levels: int, *, fresh_id: int, rows: int) -> None:
        self.levels, self.fresh_id = levels, fresh_id
        self.every = max(-(-rows // MOST_BOOKS), 1)
        self.published, self.ours = FeedBook(), FeedBook()
        self.orders: list[tuple[int, int, int, int, int, int]] = []
        self.trades: list[tuple[int, int, int, int, int, int, int]] = []
        self.requeued: list[int] = []
        self.revealed: list[int] = []
        self.row_message: list[int] = []
        self.books: list[tuple[int, NDArray[np.int64]]] = []
        self.problems: Counter[str] = Counter()
        self.facts: Counter[str] = Counter()

    def emit(self, time: int, order_id: int, price: int, size: int, kind: int, flags: int = 0) -> None:
        self.orders.append((time, order_id, price, size, kind, flags))

    def new(self, time: int, order_id: int, side: int, price: int, size: int, *, seeded: bool = False) -> None:
        """An order comes to rest, without a trade; ``seeded`` if nobody sent it just now."""
        if seeded:
            self.revealed.append(len(self.orders))
            self.facts["hidden_orders_that_came_to_light"] += 1
            self.facts["hidden_shares_that_came_to_light"] += size
        self.emit(time, order_id, price, size, side, SEEDED if seeded else 0)
        self.ours.add(order_id, side, price, size)

    def follow(self, time: int, order_id: int, *, sent: bool, back: bool = False) -> None:
        """Bring our order in line with the published one.

        Parameters
        ----------
        sent
            Whether an order that we do not hold was sent just now (else it was hidden until now).
        back
            Whether it loses its place even if nothing else changes.
        """
        here, there = self.ours.size(order_id), self.published.size(order_id)
        if not there and not here:
            return
        if not there:
            self.emit(time, order_id, 0, 0, CANCEL)
            self.ours.remove(order_id)
            return
        side, price = self.published.where[order_id]
        if not here:
            self.new(time, order_id, side, price, there, seeded=not sent)
        elif self.ours.where[order_id] != (side, price) or there > here or (back and there == here):
            self.emit(time, order_id, price, there, side, REPLACE)
            self.ours.remove(order_id)
            self.ours.add(order_id, side, price, there)
        elif there < here:
            self.emit(time, order_id, price, here - there, CANCEL)
            self.ours.reduce(order_id, here - there)

    def aggressive(
        self, time: int, order_id: int, side: int, fills: list[Fill], *, rest: int = 0, limit: int | None = None
    ) -> None:
        """An aggressive order and its fills, in the order published; ``rest`` is what then rests at ``limit``.

        Shares that an order traded beyond what it showed stood hidden behind everybody at its price:
        they are added there as an order of their own right before, flagged SEEDED.
        """
        shown: dict[int, list[Fill]] = {}
        hidden: dict[int, list[Fill]] = {}
        for resting, price, size in fills:
            here = self.ours.size(resting) - sum(z for i, _, z in shown.get(price, ()) if i == resting)
            if here and self.ours.where[resting] != (1 - side, price):
                self.problems["fill_at_a_price_where_the_order_does_not_rest"] += 1
                here = 0
            if here:
                shown.setdefault(price, []).append((resting, price, min(size, here)))
            if size > here:
                self.new(time, self.fresh_id, 1 - side, price, size - here, seeded=True)
                hidden.setdefault(price, []).append((self.fresh_id, price, size - here))
                self.fresh_id += 1
        prices = list(dict.fromkeys(price for _, price, _ in fills))
        for price in prices:
            shown[price] = self._in_place(time, 1 - side, price, shown.get(price, []))
        total = sum(size for _, _, size in fills) + rest
        flags = 0
        if order_id in self.ours:
            flags = REPLACE
            self.ours.remove(order_id)
        message = len(self.orders)
        self.emit(time, order_id, fills[-1][1] if limit is None else limit, total, side, flags)
        for price in prices:
            for resting, _, size in shown[price] + hidden.get(price, []):
                self.ours.reduce(resting, size)
                pair = (order_id, resting) if side == BID else (resting, order_id)
                self.trades.append((time, message, *pair, price, size, side))
        if rest:
            self.ours.add(order_id, side, fills[-1][1] if limit is None else limit, rest)

    def _in_place(self, time: int, side: int, price: int, fills: list[Fill]) -> list[Fill]:
        """The fills at a price in the order of its queue, at whose front the orders that traded then stand.

        A feed may list them otherwise (CME: by the place that an iceberg has afterwards). Orders that
        stand before one that traded, and were not filled themselves, were passed over by the venue: they
        are sent to the back of their level.
        """
        level = self.ours.queues[side].get(price, {})
        size: dict[int, int] = {}
        for order_id, _, part in fills:
            size[order_id] = size.get(order_id, 0) + part
        front = list(level)[: len(size)]
        if set(front) == set(size) and all(size[i] == level[i] for i in front[:-1]):
            return [(i, price, size[i]) for i in front]
        for order_id in to_the_back(list(level), list(size)):
            left = level.pop(order_id)
            level[order_id] = left
            self.requeued.append(len(self.orders))
            self.emit(time, order_id, price, left, side, SEEDED | REPLACE)
        return [(i, price, z) for i, z in size.items()]

    def auction_leg(self, time: int, order_id: int, side: int, price: int, size: int) -> None:
        """What one order traded in a call auction: published without the other side."""
        pair = (order_id, 0) if side == BID else (0, order_id)
        self.trades.append((time, len(self.orders), *pair, price, size, AUCTION))

    def row_done(self, count: int = 1) -> None:
        """The next rows of the source lie after the last message."""
        self.row_message += [len(self.orders) - 1] * count

    def picture(self, *, last: bool = False) -> None:
        """Keep the published book after the last row, unless that is more often than needed."""
        row = len(self.row_message) - 1
        taken = self.books[-1][0] if self.books else -1
        if row // self.every == taken // self.every and taken >= 0 and not (last and row > taken):
            return
        flat = np.zeros((2, self.levels, 2), np.int64)
        flat[:, :, 0] = NO_PRICE
        for side in (ASK, BID):
            if levels := self.published.top(side, self.levels):
                flat[side, : len(levels)] = levels
        self.books.append((row, flat))

    def result(self) -> dict[str, Any]:
        """The fields of a ``VenueDay`` that follow from the stream."""
        columns = np.array(self.orders, np.int64).reshape(-1, 6)
        orders = np.zeros(len(columns), ORDER)
        for k, name in enumerate(("time_ns", "order_id", "price_ticks", "size_shares", "kind", "flags")):
            orders[name] = columns[:, k]
        trades = np.array(self.trades, np.int64).reshape(-1, 7)
        names = ("time_ns", "seq", "bid_id", "ask_id", "price_ticks", "size_shares", "side")
        return {
            "orders": orders,
            "trades": published_fills(**{name: trades[:, k] for k, name in enumerate(names)}),
            "row_message": np.array(self.row_message, np.int64),
            "row_fills": np.full(len(self.row_message), -1, np.int64),
            "books": self._books(),
            "requeued": np.array(self.requeued, np.int64),
            "revealed": np.array(self.revealed, np.int64),
            "resting_at_end": self.published.orders(0),
            "problems": dict(self.problems),
        }

    def _books(self) -> PublishedBooks:
        self.facts["published_books_compared_one_in"] = self.every
        if not self.books:
            return PublishedBooks()
        rows = np.array([row for row, _ in self.books], np.int64)
        values = np.stack([flat for _, flat in self.books])
        return PublishedBooks(
            price_ticks=values[..., 0].astype(np.int32),
            size_shares=values[..., 1].copy(),
            first_row=rows,
            last_row=rows,
        )
