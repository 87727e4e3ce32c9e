"""The slow, obvious twin of the compiled order book: the documented matching rules in plain Python.

It shares no code with the compiled book, only the vocabulary. Where the two differ, the text of
``marsbench.market.rules`` decides who is wrong.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import AUCTION, FILL, MARKET, NO_PRICE, ORDER, Flag, Kind, Reason
from marsbench.market.rules import MatchingRules, Phase, PhaseKind, SelfTrade, Tie
from marsbench.market.trajectory import BookState

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
IOC, REPLACE, BY_LEVEL, SEEDED = int(Flag.IOC), int(Flag.REPLACE), int(Flag.BY_LEVEL), int(Flag.SEEDED)
FLAGS_ALLOWED = {ASK: IOC | REPLACE | SEEDED, BID: IOC | REPLACE | SEEDED, CANCEL: BY_LEVEL | SEEDED}

NOTHING_CANCELLED = (0, 0, 0)
"""Shares, price and side that a message took off the book by cancelling or replacing."""

Message = tuple[int, int, int, int, int, int, int, int]
"""One row of an ``ORDER`` array, as ``tolist`` gives it."""


@dataclass
class Resting:
    """An order in the book, or on its way into it."""

    order_id: int
    price: int
    left: int
    owner: int
    side: int


class Side:
    """The orders of one side: a queue for each price, oldest order first."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.prices: list[int] = []  # ascending, those that have orders
        self.queues: dict[int, OrderedDict[int, Resting]] = {}

    def add(self, order: Resting) -> None:
        if order.price not in self.queues:
            self.queues[order.price] = OrderedDict()
            insort(self.prices, order.price)
        self.queues[order.price][order.order_id] = order

    def remove(self, order: Resting) -> None:
        queue = self.queues[order.price]
        del queue[order.order_id]
        if not queue:
            del self.queues[order.price]
            del self.prices[bisect_left(self.prices, order.price)]

    def best(self) -> Resting | None:
        """The oldest order at the best price."""
        if not self.prices:
            return None
        price = self.prices[0] if self.side == ASK else self.prices[-1]
        return next(iter(self.queues[price].values()))

    def best_first(self, levels: int | None = None) -> list[int]:
        """Prices from best to worst, at most ``levels`` of them."""
        if self.side == ASK:
            return self.prices[:levels]
        return self.prices[::-1] if levels is None else self.prices[-levels:][::-1]

    def size(self, price: int) -> int:
        """Shares that rest at a price."""
        return sum(order.left for order in self.queues[price].values())


class SlowBook:
    """One book that obeys ``MatchingRules``, one message at a time."""

    def __init__(self, rules: MatchingRules, state: BookState) -> None:
        self.rules = rules
        self.clock = int(state.time_ns)
        self.last_trade = int(state.last_trade_ticks)
        self.reference = int(state.reference_ticks)
        self.next_id = int(state.next_id)
        self.low, self.high = rules.limits_ticks(self.reference)
        self.sides = {ASK: Side(ASK), BID: Side(BID)}
        self.live: dict[int, Resting] = {}
        self.fills: list[tuple[int, ...]] = []
        self.cancelled = NOTHING_CANCELLED
        self.breakers_used = 0  # the first so many levels are used up
        self.halt_end: int | None = None
        # Phases that ended before the state was taken are closed already.
        self.open_phases = [phase for phase in rules.phases if phase.end_ns > self.clock]
        for row in state.resting.tolist():
            self._load(row)

    def _load(self, row: Message) -> None:
        _time_ns, order_id, price, size, owner, kind, _flags, _pad = row
        if order_id in self.live:
            raise ValueError(f"book state: order id {order_id} rests twice")
        if size <= 0:
            raise ValueError(f"book state: order {order_id} has size {size}, must be positive")
        if kind not in (ASK, BID):
            raise ValueError(f"book state: order {order_id} has kind {kind}, must be ASK or BID")
        self._rest(Resting(order_id, price, size, owner, kind))

    # Time -----------------------------------------------------------------------------------

    def advance(self, time_ns: int, index: int) -> None:
        """Close every halt and phase that ended at or before a time; ``index`` is the next message's."""
        while self.open_phases:
            phase = self.open_phases[0]
            if self.halt_end is not None and self.halt_end <= time_ns:
                self._uncross(self.halt_end, index)
                self.halt_end = None
            if phase.end_ns > time_ns:
                break
            if phase.kind == PhaseKind.AUCTION:
                self._uncross(phase.end_ns, index)
            self.open_phases.pop(0)
        self.clock = max(self.clock, time_ns)

    def phase(self) -> Phase | None:
        """The phase that the clock is in; None outside all of them."""
        if self.open_phases and self.open_phases[0].start_ns <= self.clock:
            return self.open_phases[0]
        return None

    def continuous(self) -> bool:
        """Whether orders that cross would trade now."""
        phase = self.phase()
        return phase is not None and phase.kind == PhaseKind.CONTINUOUS and self.halt_end is None

    def cancels_allowed(self) -> bool:
        if self.halt_end is not None:
            return True
        phase = self.phase()
        return phase is None or phase.no_cancel_from_ns is None or self.clock < phase.no_cancel_from_ns

    # Messages -------------------------------------------------------------------------------

    def submit(self, message: Message, index: int) -> tuple[Reason, int, int]:
        """Let one message act, after ``advance`` to its time: reason, shares traded as aggressor, order id."""
        _time_ns, order_id, price, size, owner, kind, flags, _pad = message
        self.cancelled = NOTHING_CANCELLED
        reason = self._check(message)
        if reason != Reason.OK:
            return reason, 0, order_id
        if kind == CANCEL:
            if flags & BY_LEVEL:
                self._cancel_level(price, size, owner)
            else:
                self._cancel(self.live[order_id], size)
            return reason, 0, order_id
        if flags & REPLACE:
            self._cancel(self.live[order_id], 0)
        if order_id == 0:
            order_id = self.next_id
        self.next_id = max(self.next_id, order_id + 1)
        order = Resting(order_id, price, size, owner, kind)
        traded = self._trade(order, index) if self.continuous() else 0
        if order.left > 0 and not flags & IOC:
            self._rest(order)
        if traded > 0:
            self._circuit_breaker()
        return reason, traded, order_id

    def _check(self, message: Message) -> Reason:
        """The first reason, in the order of the enumeration, to reject a message."""
        time_ns, order_id, price, size, owner, kind, flags, _pad = message
        is_new = kind != CANCEL  # a replace too
        by_level, replaces = bool(flags & BY_LEVEL), bool(flags & REPLACE)
        if kind not in FLAGS_ALLOWED or flags & ~FLAGS_ALLOWED[kind]:
            return Reason.BAD_KIND
        if time_ns < self.clock:
            return Reason.TIME_BACKWARDS
        if self.phase() is None:
            return Reason.CLOSED
        if size < 0 or (size == 0 and (is_new or by_level)):
            return Reason.BAD_SIZE
        if is_new:
            odd_lot_allowed = kind == ASK and self.rules.odd_lot_asks
            if size % self.rules.lot_shares != 0 and not odd_lot_allowed:
                return Reason.OFF_LOT
            if price % self.rules.price_step_ticks != 0:
                return Reason.OFF_TICK
            if not self.low <= price <= self.high:
                return Reason.PRICE_LIMIT
            if flags & IOC and not self.continuous():
                return Reason.NOT_CONTINUOUS
        if (not is_new or replaces) and not self.cancels_allowed():
            return Reason.NO_CANCEL
        if is_new and not replaces and order_id != 0 and order_id in self.live:
            return Reason.DUPLICATE_ID
        if replaces or (not is_new and not by_level):
            if order_id not in self.live:
                return Reason.UNKNOWN_ORDER
            if self.live[order_id].owner != owner:
                return Reason.NOT_OWNER
            if replaces and self.live[order_id].side != kind:
                return Reason.WRONG_SIDE
        if by_level and not self._owned(BID, price, owner) and not self._owned(ASK, price, owner):
            return Reason.EMPTY_LEVEL
        return Reason.OK

    # The book -------------------------------------------------------------------------------

    def _rest(self, order: Resting) -> None:
        self.live[order.order_id] = order
        self.sides[order.side].add(order)
        self.next_id = max(self.next_id, order.order_id + 1)

    def _remove(self, order: Resting) -> None:
        del self.live[order.order_id]
        self.sides[order.side].remove(order)

    def _reduce(self, order: Resting, size: int) -> None:
        """Take shares off an order, which keeps its place; an empty order leaves."""
        order.left -= size
        if order.left == 0:
            self._remove(order)

    def _cancel(self, order: Resting, size: int) -> int:
        """Take up to ``size`` shares off an order (0: all of them); returns how many."""
        taken = min(size, order.left) if size > 0 else order.left
        self.cancelled = (self.cancelled[0] + taken, order.price, order.side)
        self._reduce(order, taken)
        return taken

    def _owned(self, side: int, price: int, owner: int) -> list[Resting]:
        """An owner's orders at a price, oldest first."""
        return [order for order in self.sides[side].queues.get(price, {}).values() if order.owner == owner]

    def _cancel_level(self, price: int, size: int, owner: int) -> None:
        orders = self._owned(BID, price, owner) or self._owned(ASK, price, owner)
        for order in reversed(orders):
            size -= self._cancel(order, size)
            if size == 0:
                break

    def _trade(self, order: Resting, index: int) -> int:
        """Let an order take what it crosses, best price first and oldest first; returns the shares traded."""
        traded = 0
        while order.left > 0:
            other = self.sides[BID if order.side == ASK else ASK].best()
            if other is None or (other.price > order.price if order.side == BID else other.price < order.price):
                break
            if order.owner == other.owner != MARKET and self.rules.self_trade != SelfTrade.ALLOW:
                if self.rules.self_trade == SelfTrade.CANCEL_RESTING:
                    self._remove(other)
                    continue
                order.left = 0
                break
            size = min(order.left, other.left)
            bid, ask = (order, other) if order.side == BID else (other, order)
            self._fill(self.clock, bid, ask, index, other.price, size, order.side)
            self._reduce(other, size)
            order.left -= size
            traded += size
        return traded

    def _fill(self, time_ns: int, bid: Resting, ask: Resting, index: int, price: int, size: int, side: int) -> None:
        self.fills.append((time_ns, bid.order_id, ask.order_id, index, price, size, bid.owner, ask.owner, side))
        self.last_trade = price

    def _circuit_breaker(self) -> None:
        if self.reference == 0:
            return
        moved = abs(self.last_trade - self.reference)
        fires = None
        for level, breaker in enumerate(self.rules.circuit_breakers):
            basis_points = round(breaker.threshold * 10_000)
            if level >= self.breakers_used and moved * 10_000 >= basis_points * self.reference:
                fires = level
        if fires is None:
            return
        self.breakers_used = fires + 1
        phase = self.phase()
        assert phase is not None
        halt_ns = self.rules.circuit_breakers[fires].halt_ns
        self.halt_end = min(self.clock + halt_ns, phase.end_ns) if halt_ns > 0 else phase.end_ns

    # Call auctions --------------------------------------------------------------------------

    def auction_price(self) -> int | None:
        """The price at which the book would uncross now; None when nothing would trade."""
        asks, bids = self.sides[ASK], self.sides[BID]
        prices = sorted({*asks.prices, *bids.prices})
        offered, offered_below, total = {}, {}, 0
        for price in prices:  # S(p): offered at p or lower
            offered_below[price] = total
            total += asks.size(price) if price in asks.queues else 0
            offered[price] = total
        demanded, demanded_above, total = {}, {}, 0
        for price in reversed(prices):  # D(p): bid at p or higher
            demanded_above[price] = total
            total += bids.size(price) if price in bids.queues else 0
            demanded[price] = total

        volume = max((min(demanded[p], offered[p]) for p in prices), default=0)
        if volume == 0:
            return None
        prices = [p for p in prices if min(demanded[p], offered[p]) == volume]
        # Every bid above and every ask below is filled entirely.
        prices = [p for p in prices if demanded_above[p] <= volume and offered_below[p] <= volume]
        imbalance = min(abs(demanded[p] - offered[p]) for p in prices)
        prices = [p for p in prices if abs(demanded[p] - offered[p]) == imbalance]
        if self.rules.tie == Tie.MIDDLE:
            return (prices[0] + prices[-1] + 1) // 2
        goal = self.last_trade if self.last_trade != 0 else self.reference
        return min(prices, key=lambda p: (abs(p - goal), -p))

    def _uncross(self, time_ns: int, index: int) -> None:
        price = self.auction_price()
        if price is None:
            return
        while True:
            bid, ask = self.sides[BID].best(), self.sides[ASK].best()
            if bid is None or ask is None or bid.price < price or ask.price > price:
                return
            size = min(bid.left, ask.left)
            self._fill(time_ns, bid, ask, index, price, size, AUCTION)
            self._reduce(bid, size)
            self._reduce(ask, size)

    # What can be seen -----------------------------------------------------------------------

    def totals(self) -> list[list[int]]:
        """Number of price levels and resting shares of each side."""
        return [[len(s.prices), sum(map(s.size, s.prices))] for s in (self.sides[ASK], self.sides[BID])]

    def snapshot(self, levels: int) -> tuple[list[list[int]], list[list[int]]]:
        """Prices and sizes, each ``[ask levels, bid levels]``, best first and padded."""
        prices, sizes = [], []
        for side in (self.sides[ASK], self.sides[BID]):
            best = side.best_first(levels)
            missing = levels - len(best)
            prices.append(best + [NO_PRICE] * missing)
            sizes.append([side.size(price) for price in best] + [0] * missing)
        return prices, sizes

    def state(self) -> BookState:
        """Asks from best to worst, then bids from best to worst, oldest first within each price.

        Rows carry no time and no flags: a place in the queue is all that is left of them.
        """
        rows = [
            (0, o.order_id, o.price, o.left, o.owner, o.side, 0, 0)
            for side in (self.sides[ASK], self.sides[BID])
            for price in side.best_first()
            for o in side.queues[price].values()
        ]
        return BookState(
            resting=np.array(rows, ORDER),
            last_trade_ticks=self.last_trade,
            reference_ticks=self.reference,
            next_id=self.next_id,
            time_ns=self.clock,
        )


@dataclass(frozen=True)
class SlowSnapshots:
    """The book before each message and at the end; ``index`` says which of them were taken."""

    price_ticks: NDArray[np.int32]  # [k, 2, L]
    size_shares: NDArray[np.int64]  # [k, 2, L]
    totals: NDArray[np.int64]  # [k, 2, 2], levels and shares of each side
    index: NDArray[np.int64]  # [k]


@dataclass(frozen=True)
class SlowReplay:
    """What ``replay`` returns, from the slow book."""

    reason: NDArray[np.uint8]
    traded_shares: NDArray[np.int64]
    order_id: NDArray[np.int64]
    cancelled_shares: NDArray[np.int64]
    cancelled_price_ticks: NDArray[np.int64]
    cancelled_side: NDArray[np.int64]
    fills: NDArray[np.void]
    final: BookState
    snapshots: SlowSnapshots | None


def play(
    book: SlowBook,
    messages: Iterable[Message],
    *,
    levels: int = 0,
    end_ns: int | None = None,
    snapshots_at: Collection[int] | None = None,
) -> SlowReplay:
    """Submit messages one after the other; they may be made while the book runs.

    ``snapshots_at`` takes only the snapshots with these numbers (default: every one).
    """
    results: list[tuple[int, ...]] = []
    seen: list[tuple[int, list[list[int]], list[list[int]], list[list[int]]]] = []

    def look(index: int) -> None:
        if levels and (snapshots_at is None or index in snapshots_at):
            seen.append((index, *book.snapshot(levels), book.totals()))

    for index, message in enumerate(messages):
        book.advance(message[0], index)
        look(index)
        results.append((*book.submit(message, index), *book.cancelled))
    if end_ns is not None:
        book.advance(end_ns, len(results))
    look(len(results))

    columns = np.array(results, np.int64).reshape(-1, 6)
    snapshots = None
    if levels:
        shape = (len(seen), 2, levels)
        snapshots = SlowSnapshots(
            price_ticks=np.array([prices for _, prices, _, _ in seen], np.int32).reshape(shape),
            size_shares=np.array([sizes for _, _, sizes, _ in seen], np.int64).reshape(shape),
            totals=np.array([totals for *_, totals in seen], np.int64).reshape(len(seen), 2, 2),
            index=np.array([index for index, *_ in seen], np.int64),
        )
    return SlowReplay(
        reason=columns[:, 0].astype(np.uint8),
        traded_shares=columns[:, 1],
        order_id=columns[:, 2],
        cancelled_shares=columns[:, 3],
        cancelled_price_ticks=columns[:, 4],
        cancelled_side=columns[:, 5],
        fills=np.array(book.fills, FILL),
        final=book.state(),
        snapshots=snapshots,
    )


def slow_replay(
    rules: MatchingRules,
    book_state: BookState,
    orders: NDArray[np.void],
    levels: int = 0,
    end_ns: int | None = None,
    snapshots_at: Collection[int] | None = None,
) -> SlowReplay:
    """The slow counterpart of ``marsbench.market.replay.replay``."""
    book = SlowBook(rules, book_state)
    return play(book, orders.tolist(), levels=levels, end_ns=end_ns, snapshots_at=snapshots_at)


def difference(slow: SlowReplay, fast: object) -> str | None:
    """The first difference between two replays in words, None if they agree in everything."""
    for name in ("reason", "traded_shares", "order_id", "cancelled_shares", "fills"):
        found = _first_row(name, getattr(slow, name), getattr(fast, name))
        if found:
            return found
    took = slow.cancelled_shares > 0
    for name in ("cancelled_price_ticks", "cancelled_side"):
        found = _first_row(name, getattr(slow, name)[took], getattr(fast, name)[took], np.flatnonzero(took))
        if found:
            return found
    final = fast.final  # type: ignore[attr-defined]
    for name in ("last_trade_ticks", "reference_ticks", "next_id", "time_ns"):
        if getattr(slow.final, name) != getattr(final, name):
            return f"final {name}: slow {getattr(slow.final, name)}, fast {getattr(final, name)}"
    found = _first_row("final resting", slow.final.resting, final.resting)
    if found or slow.snapshots is None:
        return found
    snapshots = fast.snapshots  # type: ignore[attr-defined]
    if len(snapshots.price_ticks) != len(slow.reason) + 1:
        return f"snapshots: fast has {len(snapshots.price_ticks)}, not one more than the messages"
    at = slow.snapshots.index
    pictures = (
        ("snapshot prices", slow.snapshots.price_ticks, snapshots.price_ticks[at]),
        ("snapshot sizes", slow.snapshots.size_shares, snapshots.size_shares[at]),
        ("totals", slow.snapshots.totals, fast.totals[at]),  # type: ignore[attr-defined]
    )
    return next((found for name, a, b in pictures if (found := _first_row(name, a, b, at))), None)


def _first_row(name: str, slow: NDArray, fast: NDArray, index: NDArray | None = None) -> str | None:
    if np.array_equal(slow, fast):
        return None
    if slow.dtype != fast.dtype:
        return f"{name}: slow has dtype {slow.dtype}, fast {fast.dtype}"
    for i, (a, b) in enumerate(zip(slow, fast, strict=False)):
        if not np.array_equal(a, b):
            return f"{name}[{i if index is None else index[i]}]: slow {a}, fast {b}"
    return f"{name}: slow has {len(slow)} rows, fast {len(fast)}"
