"""From Databento's records of one instrument to the orders that somebody sent.

Records up to one flagged LAST are one event. A, C, M and R change the book; T (an aggressive order
traded) and F (a resting order was filled) do not, the C or M that follows does. So the published book
follows A, C, M and R alone, while the aggressive orders come from T and F alone:

- one message for each aggressor of an event: shares = its fills + what then rests of it (an A or M of the
  same id in the event), limit = where that rests, else the worst price paid. An aggressor that rested
  before (an M to a price that crosses) replaces itself.
- orders that go in the same event without being filled (self-match prevention) go first.
- M keeps the place in the queue if only the size falls, else the order goes to the back.
- an order that was filled beyond what it showed, or shows more after it was filled, is an iceberg:
  its next part is added when it comes to light (``VenueDay.revealed``).
- T with side N is a call auction. Its orders are left to the clearing house's own uncross; those that were
  never shown are added right before, at the best price of their side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError
from marsbench.data.order_feed import ASK, BID, Fill, OrderStream

LAST, TOB, SNAPSHOT, MBP, MAYBE_BAD_BOOK = 128, 64, 32, 16, 4
_SIDES = {"A": ASK, "B": BID, "N": -1}
Row = tuple[int, str, int, int, int, int]
"""Time in ns since midnight, action, side (-1 for none), price in ticks, size, order id."""


class Rebuilder:
    """Reads the records of one instrument in order; ``stream`` holds what came of it."""

    def __init__(self, columns: dict[str, NDArray[Any]], time_ns: NDArray[np.int64], file: str, *, levels: int) -> None:
        self.file, self.flags = file, columns["flags"].tolist()
        self.lines: list[int] = columns["line"].tolist()
        side = [_SIDES[s] for s in columns["side"].tolist()]
        names = ("price_ticks", "size", "order_id")
        self.rows: list[Row] = list(
            zip(time_ns.tolist(), columns["action"].tolist(), side, *(columns[n].tolist() for n in names), strict=True)
        )
        self.stream = OrderStream(levels, fresh_id=int(columns["order_id"].max(initial=0)) + 1, rows=len(self.rows))
        self.auctions: list[tuple[int, int]] = []
        """When each auction may have begun (the last trade before, or the start), and when it ended."""
        self.last_trade = -1

    def start(self) -> int:
        """Read the snapshot at the beginning of the file; returns how many records it has."""
        count = 0
        while count < len(self.rows) and (self.flags[count] & SNAPSHOT or self.rows[count][1] == "R"):
            self._publish(count)
            count += 1
        if count and count == len(self.rows) and not self.flags[-1] & LAST:
            raise self._cut("the snapshot")
        for side in (ASK, BID):
            for price, queue in self.stream.published.queues[side].items():
                for order_id, size in queue.items():
                    self.stream.ours.add(order_id, side, price, size)
        return count

    def _cut(self, what: str) -> DataError:
        return DataError(self.file, f"{what} has no end (flag LAST): the file is truncated", row=self.lines[-1])

    def run(self, first: int) -> None:
        """Read the events from record ``first`` on."""
        for low, high in self._events(first):
            actions = {self.rows[k][1] for k in range(low, high)}
            bad = any(self.flags[k] & MAYBE_BAD_BOOK for k in range(low, high))
            self.stream.problems["records_of_a_book_that_may_be_bad"] += bad
            if "T" in actions or "F" in actions:
                self._trade(low, high)
            else:
                for k in self._cancels_first(low, high):
                    self._plain(k)
            self.stream.row_done(high - low)
            if not any(self.rows[k][1] == "T" and self.rows[k][2] < 0 for k in range(low, high)):
                self.stream.picture()

    def _events(self, first: int) -> Iterator[tuple[int, int]]:
        low = first
        for k in range(first, len(self.rows)):
            if self.flags[k] & LAST:
                yield low, k + 1
                low = k + 1
        if low < len(self.rows):
            raise self._cut("the last event")

    def _cancels_first(self, low: int, high: int) -> list[int]:
        """Records of an event without a trade: what goes (self-match prevention) makes room for what comes."""
        rows = list(range(low, high))
        if high - low > 1:
            ids = [self.rows[k][5] for k in rows]
            rows.sort(key=lambda k: not (self.rows[k][1] == "C" and ids.index(self.rows[k][5]) == k - low))
        return rows

    def _publish(self, k: int) -> None:
        """Apply a record to the published book."""
        _, action, side, price, size, order_id = self.rows[k]
        book = self.stream.published
        if action == "R":
            for live in list(book.where):
                book.remove(live)
        elif action == "A":
            if order_id in book:
                raise DataError(self.file, f"adds order {order_id}, which rests already", row=self.lines[k])
            book.add(order_id, side, price, size)
        elif action in "CM":
            what = "cancels" if action == "C" else "modifies"
            if order_id not in book:
                raise DataError(
                    self.file, f"{what} order {order_id}, which does not rest; the file must begin with a snapshot or "
                    "before the first order", row=self.lines[k],
                )  # fmt: skip
            left, where = book.size(order_id), book.where[order_id]
            if action == "C":
                if size > left:
                    raise DataError(self.file, f"cancels {size} of order {order_id}, of which {left} are left",
                                    row=self.lines[k])  # fmt: skip
                self.stream.problems["cancel_at_another_side_or_price"] += where != (side, price)
                book.reduce(order_id, size)
            else:
                self.stream.problems["modify_changes_the_side"] += where[0] != side
                if where == (side, price) and size < left:
                    book.reduce(order_id, left - size)
                else:
                    book.remove(order_id)
                    book.add(order_id, side, price, size)

    def _plain(self, k: int) -> None:
        """A record outside trades: the published book changes, and ours follows."""
        time, action, _, _, _, order_id = self.rows[k]
        if action == "R":
            gone = list(self.stream.published.where)
            self._publish(k)
            for live in gone:
                self.stream.follow(time, live, sent=False)
            self.stream.facts["books_cleared"] += 1
        elif action in "ACM":
            known = order_id in self.stream.published
            same = known and self.rows[k][2:5] == (
                *self.stream.published.where[order_id], self.stream.published.size(order_id)
            )  # fmt: skip
            self._publish(k)
            self.stream.follow(time, order_id, sent=True, back=action == "M" and same)

    def _trade(self, low: int, high: int) -> None:
        takers = self._takers(low, high)
        ids = {taker["id"] for taker in takers}
        filled = {i for taker in takers for i, _, _ in taker["fills"]}
        book = [k for k in range(low, high) if self.rows[k][1] in "ACMR"]
        bystanders = [k for k in book if self.rows[k][1] == "C" and self.rows[k][5] not in ids | filled]
        for k in bystanders:
            self._plain(k)
        rests = {self.rows[k][5]: self.rows[k] for k in book if self.rows[k][1] in "AM"}
        for number, taker in enumerate(takers):
            if taker["side"] < 0:
                self._auction(low, taker)
                continue
            more = taker["size"] - sum(size for _, _, size in taker["fills"])
            self.stream.problems["fills_exceed_their_trade"] += more < 0
            if more > 0:
                self.stream.facts["shares_traded_without_a_resting_order"] += more
            if not taker["fills"]:
                continue
            rest = rests.get(taker["id"]) if taker["id"] else None
            if rest is None or rest[2] != taker["side"]:
                self.stream.aggressive(self.rows[low][0], taker["id"] or self._fresh(), taker["side"], taker["fills"])
            else:
                later = sum(z for t in takers[number + 1 :] for i, _, z in t["fills"] if i == taker["id"])
                self.stream.aggressive(
                    self.rows[low][0], taker["id"], taker["side"], taker["fills"], rest=rest[4] + later, limit=rest[3]
                )
            self.last_trade = self.rows[low][0]
        done = set(bystanders)
        for k in book:
            if k not in done:
                order_id = self.rows[k][5]
                if order_id in filled or order_id in ids:
                    self._publish(k)
                else:
                    self._plain(k)
        for order_id in dict.fromkeys(self.rows[k][5] for k in book if k not in done):
            self.stream.follow(self.rows[low][0], order_id, sent=False)
        missing = [i for i in filled if self.stream.ours.size(i) != self.stream.published.size(i)]
        self.stream.problems["fills_that_the_book_does_not_follow"] += len(missing)

    def _fresh(self) -> int:
        self.stream.fresh_id += 1
        return self.stream.fresh_id - 1

    def _takers(self, low: int, high: int) -> list[dict[str, Any]]:
        """The aggressive orders of an event in sequence, each with its fills."""
        takers: list[dict[str, Any]] = []
        for k in range(low, high):
            _, action, side, price, size, order_id = self.rows[k]
            if action == "T":
                same = takers and (takers[-1]["id"], takers[-1]["side"]) == (order_id, side) and side >= 0
                if not same:
                    takers.append({"id": order_id, "side": side, "fills": [], "price": price, "size": 0})
                takers[-1]["size"] += size
            elif action == "F":
                if not takers:
                    raise DataError(self.file, f"fills order {order_id} without a trade (T) before", row=self.lines[k])
                taker = takers[-1]
                if order_id and order_id == taker["id"]:
                    continue  # the aggressor's own side of the trade
                if taker["side"] >= 0 and order_id not in self.stream.ours:
                    raise DataError(self.file, f"fills order {order_id}, which does not rest", row=self.lines[k])
                taker["fills"].append((order_id, price, size))
        return takers

    def _auction(self, low: int, taker: dict[str, Any]) -> None:
        """A call auction: what each order traded, and the orders that nobody saw before."""
        time, fills, ours = self.rows[low][0], taker["fills"], self.stream.ours
        self.auctions.append((self.last_trade + 1, time))
        legs: list[tuple[int, Fill]] = []
        for fill in fills:
            unseen = fill[0] not in ours
            # CME lists a bid and an ask in turn, which tells the side of an order that was never shown.
            side = (1 - legs[-1][0] if legs else BID) if unseen else ours.where[fill[0]][0]
            legs.append((side, fill))
            if unseen:
                best = [p for own in (ASK, BID) for p, _ in ours.top(own, 1)] + [fill[1]]
                price = max(best) if side == BID else min(best)
                self.stream.new(time - 1, fill[0], side, price, fill[2], seeded=True)
        shown = {side: sum(fill[2] for own, fill in legs if own == side) for side in (ASK, BID)}
        self.stream.problems["auction_with_unequal_sides"] += shown[BID] != shown[ASK]
        for side, (order_id, price, size) in legs:
            self.stream.auction_leg(time, order_id, side, price, size)
            held = ours.size(order_id)
            ours.reduce(order_id, min(size, held))
        self.last_trade = time
