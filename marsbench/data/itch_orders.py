"""From the ITCH messages of one stock to the orders that somebody sent; see ``marsbench.data.itch``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError
from marsbench.data.itch_file import Messages
from marsbench.data.order_feed import ASK, BID, Fill, OrderStream

_NEVER = int(np.iinfo(np.int64).max)


class Rebuilder:
    """Reads the messages of a stock in order; ``stream`` holds what came of it."""

    def __init__(
        self, rows: dict[str, NDArray[np.int64]], messages: Messages, file: str, *, unit: int, levels: int
    ) -> None:
        self.file = file
        self.type: list[str] = messages.type.tolist()
        self.time: list[int] = messages.time_ns.tolist()
        self.number: list[int] = messages.number.tolist()
        self.side: list[int] = np.where(rows["side"] == 1, BID, ASK).tolist()
        self.order, self.new_order, self.shares = (rows[n].tolist() for n in ("order", "new_order", "shares"))
        self.unit = unit
        self.raw_price: list[int] = rows["price"].tolist()
        actions = messages.tables.get("H", np.zeros(0, [("state", "S1")]))
        self.states = iter([state.decode() for state in actions["state"].tolist()])
        largest = max(int(rows["order"].max(initial=0)), int(rows["new_order"].max(initial=0)))
        self.stream = OrderStream(levels, fresh_id=largest + 1, rows=len(self.type))
        self.halts: list[tuple[int, int]] = []
        """When trading stood still: from the halt to the resumption."""
        self.halted_since = -1

    def run(self) -> None:
        """Read all messages."""
        row, count = 0, len(self.type)
        while row < count:
            last = row
            if self.type[row] == "H":
                self._trading_action(self.time[row], next(self.states))
            elif self._trades(row):
                last = self._aggressive(row)
            else:
                self._passive(row)
            self.stream.row_done(last - row + 1)
            if self.type[row] in "AFECXDU":
                self.stream.picture(last=last == count - 1)
            row = last + 1
        if self.halted_since >= 0:
            self.halts.append((self.halted_since, _NEVER))

    def _trading_action(self, time: int, state: str) -> None:
        if state == "T" and self.halted_since >= 0:
            self.halts.append((self.halted_since, time))
            self.halted_since = -1
        elif state in "HPQ" and self.halted_since < 0:
            self.halted_since = time

    def _trades(self, row: int) -> bool:
        """Whether a message is an execution that an aggressive order made."""
        if self.type[row] not in "EC":
            return False
        self._known(row)
        if self.halted_since >= 0:
            return False
        _, price = self.stream.published.where[self.order[row]]
        return self.type[row] == "E" or self.raw_price[row] == price * self.unit

    def _aggressive(self, row: int) -> int:
        """The aggressive order whose executions begin here; returns its last row."""
        book, time = self.stream.published, self.time[row]
        side, price = book.where[self.order[row]]
        fills: list[Fill] = []
        met: set[int] = set()
        last = at = row
        while at < len(self.type) and self.time[at] == time:
            if self.type[at] in "EC" and self.order[at] not in met and self._trades(at):
                own, level = book.where[self.order[at]]
                if own != side or (level < price if side == ASK else level > price):
                    break
                last, price = at, level
                met.add(self.order[at])
                fills.append((self.order[at], level, self.shares[at]))
                self._reduce(at)
            elif self.type[at] != "P":
                break
            at += 1
        rest = last + 1
        if rest < len(self.type) and self.time[rest] == time and self.type[rest] in "AF" and self.side[rest] != side:
            limit = self.raw_price[rest] // self.unit
            if limit >= price if side == ASK else limit <= price:
                self._add(rest, self.order[rest])
                self.stream.aggressive(
                    time, self.order[rest], self.side[rest], fills, rest=self.shares[rest], limit=limit
                )
                return rest
        self.stream.aggressive(time, self.stream.fresh_id, 1 - side, fills)
        self.stream.fresh_id += 1
        return last

    def _passive(self, row: int) -> None:
        """Any other message."""
        kind, time, order_id = self.type[row], self.time[row], self.order[row]
        if kind in "AF":
            self._add(row, order_id)
            self.stream.follow(time, order_id, sent=True)
        elif kind in "ECX":
            self._known(row)
            self._reduce(row)
            if kind != "X":
                self.stream.facts["shares_executed_in_crosses"] += self.shares[row]
            self.stream.follow(time, order_id, sent=True)
        elif kind in "DU":
            self._known(row)
            side = self.stream.published.where[order_id][0]
            self.stream.published.remove(order_id)
            self.stream.follow(time, order_id, sent=True)
            if kind == "U":
                self.side[row] = side
                self._add(row, self.new_order[row])
                self.stream.follow(time, self.new_order[row], sent=True)

    def _known(self, row: int) -> None:
        if self.order[row] not in self.stream.published:
            raise DataError(
                self.file, f"message {self.type[row]} names order {self.order[row]}, which does not rest; the file "
                "must hold the whole day", row=self.number[row],
            )  # fmt: skip

    def _reduce(self, row: int) -> None:
        """Take the shares of a message off the published book."""
        left, size = self.stream.published.size(self.order[row]), self.shares[row]
        if not 0 < size <= left:
            raise DataError(
                self.file, f"message {self.type[row]} takes {size} shares off order {self.order[row]}, of which {left} "
                "are left", row=self.number[row],
            )  # fmt: skip
        self.stream.published.reduce(self.order[row], size)

    def _add(self, row: int, order_id: int) -> None:
        """Put the order of a message into the published book."""
        price, size = self.raw_price[row], self.shares[row]
        if order_id in self.stream.published:
            raise DataError(self.file, f"adds order {order_id}, which rests already", row=self.number[row])
        if size <= 0 or price <= 0 or size >= 1 << 31 or price >= 1 << 31:
            raise DataError(
                self.file, f"adds {size} shares at {price} (1e-4 dollar); both must be positive and fit into 31 bits",
                row=self.number[row],
            )  # fmt: skip
        self.stream.published.add(order_id, self.side[row], price // self.unit, size)
