"""Tables of order events in anybody's CSV or Parquet, described by a small YAML file, read as the orders sent.

The table says what happened to resting orders: ``new``, ``cancel``, ``modify``, ``execute``. As in LOBSTER's
files the aggressive order is not in it; executions in a row at one time, on one side, at prices that do
not get better, each order met once, are put together as one order of the other side, with the new or
modified order that follows as its rest. See docs/sources/generic.md for the schema and every error.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.data.generic_mapping import ACTIONS, Mapping, read_mapping
from marsbench.data.generic_table import Events, read_events
from marsbench.data.order_feed import ASK, BID, Fill, OrderStream
from marsbench.market.rules import clock_text
from marsbench.market.trajectory import BookState

NEW, CANCEL, MODIFY, EXECUTE, TRADE, CLEAR, IGNORE = range(len(ACTIONS))
ENDINGS = (".yaml", ".yml")
_LEVELS = 10


def is_generic(path: Path) -> bool:
    """Whether a path is a YAML file, a folder that holds one, or a table with one of the same name beside it."""
    if path.is_dir():
        return any(p.suffix in ENDINGS for p in path.iterdir())
    return path.exists() and (path.suffix in ENDINGS or _beside(path) is not None)


def _beside(path: Path) -> Path | None:
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    found = [path.with_name(stem + ending) for ending in ENDINGS]
    return next((p for p in found if p.exists()), None)


def _mapping_file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in ENDINGS)
        if len(found) != 1:
            raise DataError(path.name, f"holds {len(found)} YAML files, name one of them: {[p.name for p in found]}")
        return found[0]
    if not path.exists():
        raise DataError(path.name, "there is no such file or folder")
    return path if path.suffix in ENDINGS else _beside(path) or path


def read(path: str | Path) -> VenueDay:
    """The day that a YAML file describes.

    Parameters
    ----------
    path
        The YAML file, the folder that holds it, or the table that it lies beside under the same name.

    Raises
    ------
    DataError
        If the YAML has a key or value that does not exist, the table is damaged or not as described, a
        price is off the tick grid, times go backwards, or the book is crossed when trading begins.
    """
    mapping = read_mapping(_mapping_file(Path(path)))
    events = read_events(mapping)
    _check(events, mapping)
    return _Reader(events, mapping).day()


def _check(events: Events, mapping: Mapping) -> None:
    """What every row must have, and the order of rows."""

    def require(ok: NDArray[np.bool_], reason: str) -> None:
        bad = np.flatnonzero(~ok)
        if len(bad):
            k = int(bad[0])
            raise DataError(mapping.files[events.file[k]].name, reason, row=int(events.row[k]))

    action = events.action
    back = np.diff(events.time_ns) < 0
    if back.any():
        k = int(np.flatnonzero(back)[0]) + 1
        was, now = events.time_ns[k - 1], events.time_ns[k]
        require(np.r_[True, ~back], f"time goes back by {was - now} ns to {clock_text(now)}; rows must be in order")
    named = np.isin(action, (NEW, CANCEL, MODIFY, EXECUTE))
    require(~named | (events.id > 0), "the order has no id")
    require((action != NEW) | (events.side >= 0), "a new order needs a side")
    require(~np.isin(action, (NEW, MODIFY)) | events.priced, "a new or modified order needs a price")
    sized = np.isin(action, (NEW, MODIFY, EXECUTE))
    require(~sized | (events.size > 0), "size must be positive")
    require((action != CANCEL) | (events.size >= -1), "size must not be negative")
    open_ns, close_ns = mapping.rules.phases[0].start_ns, mapping.rules.phases[-1].end_ns
    if not ((events.time_ns >= open_ns) & (events.time_ns < close_ns)).any():
        span = f"{clock_text(events.time_ns[0])} to {clock_text(events.time_ns[-1])}"
        trading = f"{clock_text(open_ns)} to {clock_text(close_ns)}"
        raise DataError(
            mapping.file,
            f"no row lies in the trading session {trading}: times are {span} (time.format, time.since, time.zone?)",
        )


class _Row(NamedTuple):
    time: int
    action: int
    id: int
    new_id: int
    side: int
    price: int
    priced: bool
    size: int


class _Reader:
    """Walks through the rows once: what they say happens to the published book, what was sent for that to ours."""

    def __init__(self, events: Events, mapping: Mapping) -> None:
        self.events, self.mapping = events, mapping
        phases = mapping.rules.phases
        self.open_ns, self.close_ns = phases[0].start_ns, phases[-1].end_ns
        largest = int(max(events.id.max(), events.new_id.max(), 0))
        self.stream = OrderStream(_LEVELS, fresh_id=largest + 1, rows=len(events.id))
        self.gone: set[int] = set()

    def day(self) -> VenueDay:
        events, mapping, stream = self.events, self.mapping, self.stream
        first, last = np.searchsorted(events.time_ns, [self.open_ns, self.close_ns]).tolist()
        for row in self._rows(0, first):
            self._publish(row)
        stream.row_done(first)
        resting = self._start()
        self._walk(self._rows(first, last))
        stream.row_done(len(events.action) - last)
        counts = np.bincount(events.action[first:last], minlength=len(ACTIONS)).tolist()
        facts: dict[str, Any] = {f"{name}_rows": n for name, n in zip(ACTIONS, counts, strict=True) if n}
        facts |= {"rows_before_trading": first, "rows_after_trading": len(events.action) - last}
        facts |= {"order_ids": "numbered as they appear"} if events.renumbered else {}
        fields = stream.result()
        return VenueDay(
            source="generic",
            file=mapping.file,
            instrument=mapping.instrument,
            date=mapping.date,
            rules=mapping.rules,
            start_ns=self.open_ns,
            end_ns=self.close_ns,
            book=BookState(resting, 0, mapping.reference_ticks, stream.fresh_id, self.open_ns),
            deleted_ids=np.array(sorted(self.gone), np.int64),
            facts=facts | dict(stream.facts),
            **fields,
        )

    def _rows(self, first: int, last: int) -> list[_Row]:
        e = self.events
        columns = (e.time_ns, e.action, e.id, e.new_id, e.side, e.price_ticks, e.priced, e.size)
        return [_Row._make(row) for row in zip(*(column[first:last].tolist() for column in columns), strict=True)]

    def _start(self) -> NDArray[np.void]:
        """What the rows before trading left in the book."""
        published, ours = self.stream.published, self.stream.ours
        if published.crossed:
            tick = Decimal(self.mapping.rules.tick_size)
            ask, bid = (published.top(side, 1)[0][0] * tick for side in (ASK, BID))
            raise DataError(
                self.mapping.file,
                f"the book is crossed when trading begins at {clock_text(self.open_ns)}: bid {bid}, ask {ask}; "
                "the executions of the opening auction belong before it, or 'sessions' begins too early",
            )
        resting = published.orders(self.open_ns)
        for row in resting:
            ours.add(*(int(row[name]) for name in ("order_id", "kind", "price_ticks", "size_shares")))
        return resting

    def _walk(self, rows: list[_Row]) -> None:
        at = 0
        while at < len(rows):
            taken = self._execution(rows, at) if rows[at].action == EXECUTE else self._one(rows[at])
            self.stream.row_done(taken)
            at += taken
            self.stream.picture(last=at == len(rows))

    def _one(self, row: _Row) -> int:
        """A row that trades nothing; returns 1, the number of rows taken."""
        cleared = list(self.stream.published.where) if row.action == CLEAR else []
        self._publish(row)
        if row.action in (NEW, CANCEL, MODIFY):
            self.stream.follow(row.time, row.id, sent=True, back=row.action == NEW)
        if row.new_id and row.action == MODIFY:
            self.stream.follow(row.time, row.new_id, sent=True, back=True)
        for order_id in cleared:
            self.stream.follow(row.time, order_id, sent=False)
        return 1

    def _publish(self, row: _Row) -> None:
        """Apply a row to the published book; what contradicts it is counted."""
        book, problems = self.stream.published, self.stream.problems
        if row.action == NEW:
            if row.id in book:
                problems["new_order_under_the_id_of_a_live_one"] += 1
                book.remove(row.id)
            book.add(row.id, row.side, row.price, row.size)
            self.gone.discard(row.id)
        elif row.action == CLEAR:
            for order_id in list(book.where):
                book.remove(order_id)
        elif row.action not in (CANCEL, MODIFY, EXECUTE):
            return
        elif row.id not in book:
            problems[f"{ACTIONS[row.action]}_of_an_order_that_is_not_there"] += 1
        elif row.action == MODIFY:
            self._modify(row)
        else:
            self._reduce(row)

    def _reduce(self, row: _Row) -> None:
        """A cancel or an execution of an order that is there."""
        book, problems, name = self.stream.published, self.stream.problems, ACTIONS[row.action]
        side, price = book.where[row.id]
        left = book.size(row.id)
        problems[f"{name}_on_another_side_than_the_order"] += row.side not in (-1, side)
        elsewhere = row.priced and row.price not in (0, price) and row.time >= self.open_ns  # an auction has one price
        problems[f"{name}_at_another_price_than_the_order"] += elsewhere
        whole = row.action == CANCEL and (self.mapping.cancel_all or row.size <= 0)
        if whole:
            self.gone.add(row.id)
        problems[f"{name}_of_more_than_is_left"] += not whole and row.size > left
        book.reduce(row.id, left if whole else min(row.size, left))

    def _modify(self, row: _Row) -> None:
        """An order that is there changes; it keeps its place only if nothing but its size goes down."""
        book, problems = self.stream.published, self.stream.problems
        side, price = book.where[row.id]
        left = book.size(row.id)
        problems["modify_that_changes_the_side"] += row.side not in (-1, side)
        if not row.new_id and row.price == price and row.size <= left:
            if row.size < left:
                book.reduce(row.id, left - row.size)
            return
        book.remove(row.id)
        now = row.new_id or row.id
        if now in book:
            problems["new_order_under_the_id_of_a_live_one"] += 1
            book.remove(now)
        book.add(now, side, row.price, row.size)
        self.gone.discard(now)

    def _execution(self, rows: list[_Row], at: int) -> int:
        """An aggressive order whose executions begin at row ``at``; returns the number of rows that belong to it."""
        book = self.stream.published
        time, end, side = rows[at].time, at, -1
        fills: list[Fill] = []
        met: set[int] = set()
        for k in range(at, len(rows)):
            row = rows[k]
            if row.time != time or row.action not in (EXECUTE, TRADE, IGNORE):
                break
            if row.action != EXECUTE:
                continue
            if row.id not in book:
                if row.id in met:
                    break
                self._publish(row)
            else:
                own, rests = book.where[row.id]
                price = row.price if row.priced and row.price else rests
                better = bool(fills) and (price < fills[-1][1] if own == ASK else price > fills[-1][1])
                if fills and (own != side or better or row.id in met):
                    break
                side = own
                fills.append((row.id, price, min(row.size, book.size(row.id))))
                met.add(row.id)
                self._publish(row)
            end = k + 1
        if not fills:
            return end - at
        k, rest = self._rest(rows, end, 1 - side, fills[-1][1], met)
        if rest is None:
            self.stream.aggressive(time, self._fresh_id(), 1 - side, fills)
            return end - at
        self._publish(rest)
        self.stream.aggressive(time, rest.id, 1 - side, fills, rest=rest.size, limit=rest.price)
        return k + 1 - at

    def _rest(self, rows: list[_Row], at: int, side: int, worst: int, met: set[int]) -> tuple[int, _Row | None]:
        """The order in which the unfilled rest of an aggressive order comes to rest, and its row."""
        time, book = rows[at - 1].time, self.stream.published
        for k in range(at, len(rows)):
            row = rows[k]
            if row.action in (TRADE, IGNORE) and row.time == time:
                continue
            reaches = row.priced and (row.price >= worst if side == BID else row.price <= worst)
            if row.time != time or not reaches or row.id in met:
                break
            fresh = row.action == NEW and row.side == side and row.id not in book
            moved = row.action == MODIFY and not row.new_id and row.id in book
            if fresh or (moved and book.where[row.id][0] == side and book.where[row.id][1] != row.price):
                return k, row
            break
        return at, None

    def _fresh_id(self) -> int:
        self.stream.fresh_id += 1
        return self.stream.fresh_id - 1
