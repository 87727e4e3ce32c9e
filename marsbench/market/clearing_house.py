"""The clearing house: order books that obey ``MatchingRules``, one at a time or many in lockstep.

``replay`` sends a whole stream to one book in one compiled call. ``ClearingHouse`` holds B
independent books for rollouts. Both are exact at any price and any number of live orders: arrays
grow when they are full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market import _book as kb
from marsbench.market.orders import FILL, ORDER, Kind
from marsbench.market.rules import MatchingRules
from marsbench.market.trajectory import BookState, Trajectory

Ints = NDArray[np.int64]
_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Snapshots:
    """Price levels of n book states, best first. Axis 1 is the side: 0 ask, 1 bid (``Kind``)."""

    price_ticks: NDArray[np.int32]
    """``[n, 2, L]``, ``NO_PRICE`` where there is no such level."""
    size_shares: Ints
    """``[n, 2, L]``, 0 where there is no such level."""

    @cached_property
    def two_sided(self) -> NDArray[np.bool_]:
        """``[n]``, whether there is an ask and a bid."""
        return np.asarray((self.size_shares[:, 0, 0] > 0) & (self.size_shares[:, 1, 0] > 0))

    @cached_property
    def mid_half_ticks(self) -> Ints:
        """``[n]``, ask + bid in ticks (twice the mid price); meaningful where ``two_sided``, else 0."""
        total = self.price_ticks[:, 0, 0].astype(np.int64) + self.price_ticks[:, 1, 0]
        return np.where(self.two_sided, total, 0)

    def best(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Best ask and best bid in ticks, each ``[n]``."""
        return self.price_ticks[:, 0, 0], self.price_ticks[:, 1, 0]


@dataclass(frozen=True)
class Replay:
    """What became of a stream of n messages."""

    reason: NDArray[np.uint8]
    """``[n]``, a ``Reason`` per message."""
    traded_shares: Ints
    """``[n]``, executed at once as aggressor in continuous trading."""
    order_id: Ints
    """``[n]``, the ids given to new orders; as sent otherwise."""
    cancelled_shares: Ints
    """``[n]``, taken off the book by a cancel or the first half of a replace ..."""
    cancelled_price_ticks: Ints
    """``[n]``, ... the price where they rested ..."""
    cancelled_side: Ints
    """``[n]``, ... and the side; both meaningful where something was cancelled."""
    fills: NDArray[np.void]
    """``FILL`` array ``[m]`` in order of execution."""
    final: BookState
    snapshots: Snapshots | None
    """``[n + 1]``: entry i is the book right before message i, entry n the book at the end."""


@dataclass(slots=True)
class Events:
    """What happened in one lockstep step: k messages on some rows, and their fills."""

    rows: Ints
    """``[k]``, ascending."""
    orders: NDArray[np.void]
    """``ORDER`` array ``[k]`` with the ids that were given."""
    reason: NDArray[np.uint8]
    """``[k]``."""
    traded_shares: Ints
    """``[k]``."""
    fills: NDArray[np.void]
    """``FILL`` array ``[m]``; ``seq`` points into the k messages."""
    fill_rows: Ints
    """``[m]``."""


def _compile_rules(rules: MatchingRules) -> Ints:
    head = [
        rules.lot_shares,
        rules.price_step_ticks,
        int(rules.odd_lot_asks),
        int(rules.self_trade),
        int(rules.tie),
        len(rules.phases),
        len(rules.circuit_breakers),
    ]
    for p in rules.phases:
        head += [p.start_ns, p.end_ns, int(p.kind), _FOREVER if p.no_cancel_from_ns is None else p.no_cancel_from_ns]
    for c in rules.circuit_breakers:
        head += [round(c.threshold * 10_000), c.halt_ns]
    return np.array(head, np.int64)


def _check_state(state: BookState) -> None:
    resting = state.resting
    if resting.dtype != ORDER:
        raise TypeError(f"resting orders must have dtype ORDER, got {resting.dtype}")
    if len(resting) == 0:
        return
    if (resting["size_shares"] <= 0).any():
        raise ValueError(f"resting orders must have positive sizes, got {resting['size_shares'].min()}")
    if (resting["kind"] > Kind.BID).any():
        raise ValueError("resting orders must be of kind ASK or BID")
    if (resting["order_id"] == 0).any():
        raise ValueError("resting orders need an id other than 0")
    if len(np.unique(resting["order_id"])) != len(resting):
        raise ValueError("resting orders must have distinct ids")


class _Books:
    """The arrays behind B books, and their growth."""

    def __init__(self, rules: MatchingRules, count: int, orders: int = 256, levels: int = 64) -> None:
        self.count = count
        self.rules = rules
        self.code = _compile_rules(rules)
        self.head = np.zeros((count, kb.HEAD), np.int64)
        self.cap_nodes = self.cap_levels = self.cap_table = 0
        self.nodes = np.zeros(0, kb.NODE)
        self.levels = np.zeros(0, kb.LEVEL)
        self.keys = np.zeros(0, np.int32)
        self.slots = np.zeros(0, np.int32)
        self.table = np.zeros(0, np.int32)
        self._allocate(max(orders, 16), max(levels, 16))
        for b in range(count):
            self.clear(b)

    def _allocate(self, cap_nodes: int, cap_levels: int) -> None:
        def grown(array: NDArray[Any], blocks: int, old: int, new: int) -> NDArray[Any]:
            out = np.zeros(blocks * new, array.dtype)
            if old:
                out.reshape(blocks, new)[:, :old] = array.reshape(blocks, old)
            return out

        count = self.count
        self.nodes = grown(self.nodes, count, self.cap_nodes, cap_nodes)
        self.levels = grown(self.levels, count, self.cap_levels, cap_levels)
        self.keys = grown(self.keys, count * 2, self.cap_levels, cap_levels)
        self.slots = grown(self.slots, count * 2, self.cap_levels, cap_levels)
        self.cap_nodes, self.cap_levels = cap_nodes, cap_levels
        self.cap_table = 1 << (2 * cap_nodes - 1).bit_length()
        self.table = np.full(count * self.cap_table, -1, np.int32)
        self.head[:, kb.HASHED] = 0

    def grow(self) -> None:
        """Double what is nearly full in some book."""
        nodes_full = ((self.head[:, kb.FREE_NODE] < 0) & (self.head[:, kb.USED_NODES] >= self.cap_nodes)).any()
        levels_full = ((self.head[:, kb.FREE_LEVEL] < 0) & (self.head[:, kb.USED_LEVELS] >= self.cap_levels)).any()
        self._allocate(self.cap_nodes * (2 if nodes_full else 1), self.cap_levels * (2 if levels_full else 1))

    def reserve(self, orders: int) -> None:
        """Make sure that a book of that many orders fits."""
        if orders > self.cap_nodes:
            self._allocate(1 << (orders - 1).bit_length(), self.cap_levels)

    def clear(self, b: int) -> None:
        row = self.head[b]
        fills = self.head[0, kb.N_FILLS]
        row[:] = 0
        row[kb.FREE_NODE] = row[kb.FREE_LEVEL] = row[kb.HALT_END] = -1
        row[kb.NEXT_ID] = 1
        row[kb.LOW], row[kb.HIGH] = self.rules.limits_ticks(0)
        self.head[0, kb.N_FILLS] = fills

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.head, self.nodes, self.levels, self.keys, self.slots, self.table

    @property
    def capacities(self) -> tuple[int, int, int]:
        return self.cap_nodes, self.cap_levels, self.cap_table

    def load(self, b: int, state: BookState) -> None:
        _check_state(state)
        self.reserve(len(state.resting) + 16)
        while True:
            self.clear(b)
            row = self.head[b]
            row[kb.CLOCK] = state.time_ns
            row[kb.LAST_TRADE] = state.last_trade_ticks
            row[kb.REFERENCE] = state.reference_ticks
            row[kb.LOW], row[kb.HIGH] = self.rules.limits_ticks(state.reference_ticks)
            row[kb.PHASE] = sum(p.end_ns <= state.time_ns for p in self.rules.phases)
            resting_next = int(state.resting["order_id"].max()) + 1 if len(state.resting) else 1
            row[kb.NEXT_ID] = max(state.next_id, resting_next)
            if kb.load_book(*self.arrays, b, *self.capacities, state.resting) == kb.DONE:
                return
            self.grow()

    def store(self, b: int) -> BookState:
        row = self.head[b]
        resting = np.zeros(int(row[kb.LIVE]), ORDER)
        head, nodes, levels, keys, slots, _ = self.arrays
        kb.store_book(head, nodes, levels, keys, slots, b, self.cap_nodes, self.cap_levels, resting)
        return BookState(
            resting=resting,
            last_trade_ticks=int(row[kb.LAST_TRADE]),
            reference_ticks=int(row[kb.REFERENCE]),
            next_id=int(row[kb.NEXT_ID]),
            time_ns=int(row[kb.CLOCK]),
        )


class _Fills:
    """A fills buffer that grows; the kernels count in ``head[0, N_FILLS]``."""

    def __init__(self, books: _Books, size: int) -> None:
        self.books = books
        self.fills = np.zeros(size, FILL)
        self.rows = np.zeros(size, np.int64)
        self.used = 0

    def reset(self) -> None:
        self.books.head[0, kb.N_FILLS] = 0

    def grow(self) -> None:
        size = 2 * len(self.fills) + int(self.books.head[:, kb.LIVE].max())
        self.fills, self.rows = _extended(self.fills, size), _extended(self.rows, size)


def _extended(array: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.zeros(size, array.dtype)
    out[: len(array)] = array
    return out


def _run(books: _Books, fills: _Fills, call: Callable[[int], tuple[int, int]]) -> None:
    """Call a kernel until it is done, making room whenever it asks for it."""
    first = 0
    while True:
        status, first = call(first)
        if status == kb.DONE:
            return
        if status == kb.GROW_BOOK:
            books.grow()
        else:
            fills.grow()


def replay(
    rules: MatchingRules,
    book: BookState,
    orders: NDArray[np.void],
    *,
    levels: int = 0,
    end_ns: int | None = None,
) -> Replay:
    """Send a stream of messages to one book and return everything that happened.

    Parameters
    ----------
    rules
        The exchange's rules: auctions, breaks, limits and circuit breakers included.
    book
        Where it starts. Phases that ended at or before ``book.time_ns`` are over.
    orders
        ``ORDER`` array ``[n]`` in sequence.
    levels
        Depth of the snapshots, 0 for none.
    end_ns
        Let time run to here after the last message: phases that ended by then are closed (their
        auctions take place; their fills have ``seq`` n).

    Raises
    ------
    TypeError, ValueError
        For arrays of another layout or a starting book that cannot exist.
    """
    if orders.dtype != ORDER:
        raise TypeError(f"orders must have dtype ORDER, got {orders.dtype}")
    if levels < 0:
        raise ValueError(f"levels must be 0 or more, got {levels}")
    orders = np.ascontiguousarray(orders)
    n = len(orders)
    books = _Books(rules, 1, orders=len(book.resting) + 1024, levels=len(book.resting) // 2 + 256)
    books.load(0, book)
    fills = _Fills(books, n + len(book.resting) + 1024)
    reasons, outs = np.zeros(n, np.uint8), np.zeros((n, 5), np.int64)
    # zeros, not empty: calloc hands out huge pages, and page faults would cost more than the matching.
    prices = np.zeros((n + 1 if levels else 0, 2, levels), np.int32)
    sizes = np.zeros(prices.shape, np.int64)

    def stream(first: int) -> tuple[int, int]:
        status, at = kb.replay_stream(
            *books.arrays, *books.capacities, books.code, orders, first, reasons, outs, fills.fills,
            prices, sizes, levels,
        )  # fmt: skip
        return int(status), int(at)

    def close(_: int) -> tuple[int, int]:
        status = kb.close_phases(*books.arrays, *books.capacities, books.code, fills.fills, end_ns, n)
        return int(status), 0

    _run(books, fills, stream)
    if end_ns is not None:
        _run(books, fills, close)
    if levels:
        kb.write_snapshot(
            books.head, books.levels, books.keys, books.slots, 0, books.cap_levels, prices, sizes, n, levels
        )
    return Replay(
        reason=reasons,
        traded_shares=outs[:, 0],
        order_id=outs[:, 1],
        cancelled_shares=outs[:, 2],
        cancelled_price_ticks=outs[:, 3],
        cancelled_side=outs[:, 4],
        fills=fills.fills[: books.head[0, kb.N_FILLS]].copy(),
        final=books.store(0),
        snapshots=Snapshots(prices, sizes) if levels else None,
    )


def replay_trajectory(trajectory: Trajectory, *, levels: int = 0) -> Replay:
    """Replay a trajectory from its starting book to its end."""
    return replay(trajectory.rules, trajectory.book, trajectory.orders, levels=levels, end_ns=trajectory.end_ns)


def make_trajectory(
    *, instrument: str, date: str, rules: MatchingRules, start_ns: int, end_ns: int, book: BookState,
    orders: NDArray[np.void], labels: dict[str, Any] | None = None,
) -> Trajectory:  # fmt: skip
    """A trajectory from orders alone: ids are given and fills made by the clearing house."""
    done = replay(rules, book, orders, end_ns=end_ns)
    orders = orders.copy()
    orders["order_id"] = done.order_id
    return Trajectory(instrument, date, rules, start_ns, end_ns, book, orders, done.fills, labels or {})


def cut(trajectory: Trajectory, start_ns: int, end_ns: int) -> Trajectory:
    """The part of a trajectory in ``(start_ns, end_ns]``, with the book as it was at ``start_ns``.

    Auctions that end at or before ``start_ns`` have taken place in that book.

    Raises
    ------
    ValueError
        If the part reaches beyond the trajectory.
    """
    if start_ns < trajectory.start_ns or end_ns > trajectory.end_ns or end_ns < start_ns:
        raise ValueError(
            f"cannot cut ({start_ns}, {end_ns}] out of a trajectory over ({trajectory.start_ns}, {trajectory.end_ns}]"
        )
    times = trajectory.orders["time_ns"]
    first, last = np.searchsorted(times, [start_ns, end_ns], side="right")
    before = replay(trajectory.rules, trajectory.book, trajectory.orders[:first], end_ns=start_ns)
    inside = trajectory.orders[first:last]
    book = replace(before.final, time_ns=start_ns)
    done = replay(trajectory.rules, book, inside, end_ns=end_ns)
    return replace(trajectory, start_ns=start_ns, end_ns=end_ns, book=book, orders=inside.copy(), fills=done.fills)


class BookView:
    """What a generator or an agent sees of the books of some rows, as they are now."""

    def __init__(self, house: ClearingHouse, rows: Ints, now_ns: Ints) -> None:
        self.rows = rows
        self.now_ns = now_ns
        """Clock of each row, ``[k]``."""
        self._house = house

    def of(self, positions: Ints) -> BookView:
        """A view of some of these rows, by position."""
        return BookView(self._house, self.rows[positions], self.now_ns[positions])

    @cached_property
    def touch(self) -> Snapshots:
        """Best quotes, ``[k, 2, 1]``."""
        return self._house.snapshot(self.rows, 1)

    @cached_property
    def ten(self) -> Snapshots:
        """Ten levels, ``[k, 2, 10]``."""
        return self._house.snapshot(self.rows, 10)

    @cached_property
    def quotes_ticks(self) -> tuple[Ints, Ints]:
        """Best ask and best bid, each ``[k]``, with a stand-in where a side is empty.

        A missing quote is put one tick behind the other side's; with no quote at all, both stand
        around the last trade. For generators that must go on; metrics never see stand-ins.
        """
        ask, bid = (q.astype(np.int64) for q in self.touch.best())
        has_ask, has_bid = (self.touch.size_shares[:, s, 0] > 0 for s in (0, 1))
        last = self.last_trade_ticks
        bid_or = np.where(has_bid, bid, np.where(has_ask, ask - 1, last))
        return np.where(has_ask, ask, bid_or + 1), bid_or

    @property
    def last_trade_ticks(self) -> Ints:
        """``[k]``, 0 before the first trade."""
        return np.asarray(self._house.head[self.rows, kb.LAST_TRADE])

    @property
    def limits_ticks(self) -> tuple[Ints, Ints]:
        """Lowest and highest price allowed, each ``[k]``."""
        head = self._house.head
        return head[self.rows, kb.LOW], head[self.rows, kb.HIGH]

    def volume_by_distance(self, anchors_ticks: Ints, edges_ticks: Ints) -> Ints:
        """The market's volume in bins of distance from an anchor price: ``[k, 2, J]`` shares.

        Parameters
        ----------
        anchors_ticks
            ``[k, 2]``, where distances start; they count upwards on the ask side (index 0) and
            downwards on the bid side.
        edges_ticks
            ``[k, J + 1]``, ascending; bin j holds distances in ``[edges[j], edges[j + 1])``.
        """
        house = self._house
        out = np.empty((len(self.rows), 2, edges_ticks.shape[1] - 1), np.int64)
        kb.volume_by_distance(
            house.head, *house._books.arrays[1:5], house._books.cap_nodes, house._books.cap_levels,
            self.rows, anchors_ticks, edges_ticks, out,
        )  # fmt: skip
        return out

    def level_at_volume(
        self, sides: Ints, anchors_ticks: Ints, near_ticks: Ints, far_ticks: Ints, targets_shares: NDArray[np.float64]
    ) -> tuple[Ints, Ints]:
        """The level where the market's volume at distances ``[near, far)`` passes a target.

        With a uniform draw times the volume of a bin as target, levels come out in proportion to
        their volume. All arguments ``[k]``; returns price ``[k]`` (``NO_PRICE`` if the volume does not
        reach the target) and the size of the market's newest order there ``[k]``.
        """
        out = np.zeros((len(self.rows), 2), np.int64)
        house = self._house
        kb.level_at_volume(
            house.head, *house._books.arrays[1:5], house._books.cap_nodes, house._books.cap_levels,
            self.rows, sides, anchors_ticks, near_ticks, far_ticks, targets_shares, out,
        )  # fmt: skip
        return out[:, 0], out[:, 1]

    def nearest_owned(self, sides: Ints, prices_ticks: Ints, reach_ticks: Ints, *, owner: int = 0) -> tuple[Ints, Ints]:
        """Level nearest to a price where ``owner`` has volume: (price ``[k]``, its newest order's size ``[k]``).

        ``NO_PRICE`` and 0 where there is none within ``reach_ticks``.
        """
        out = np.zeros((len(self.rows), 2), np.int64)
        house = self._house
        kb.nearest_owned(
            house.head, *house._books.arrays[1:5], house._books.cap_nodes, house._books.cap_levels,
            self.rows, np.asarray(sides, np.int64), np.asarray(prices_ticks, np.int64),
            np.asarray(reach_ticks, np.int64), owner, out,
        )  # fmt: skip
        return out[:, 0], out[:, 1]


class ClearingHouse:
    """B independent order books under the same rules, stepped together.

    >>> from marsbench.market.rules import CONTINUOUS
    >>> from marsbench.market.orders import orders
    >>> house = ClearingHouse(CONTINUOUS, books=2)
    >>> events = house.submit(np.array([0, 1]), orders(1, kind=[0, 1], price_ticks=100, size_shares=5))
    >>> house.snapshot(np.array([0, 1]), 1).size_shares[:, :, 0].tolist()
    [[5, 0], [0, 5]]
    """

    def __init__(self, rules: MatchingRules, books: int) -> None:
        if books < 1:
            raise ValueError(f"a clearing house needs at least one book, got {books}")
        self.rules = rules
        self.books = books
        self._books = _Books(rules, books)
        self._fills = _Fills(self._books, 1024)

    @property
    def head(self) -> Ints:
        return self._books.head

    def load(self, row: int, state: BookState) -> None:
        """Put a state into a book, replacing what was there."""
        self._books.load(int(row), state)

    def state(self, row: int) -> BookState:
        """The state of a book, as ``load`` takes it."""
        return self._books.store(int(row))

    def fork(self, source: int, rows: Ints) -> None:
        """Copy one book into others."""
        books = self._books
        kb.copy_books(
            books.head, books.nodes.view(np.int64), books.levels.view(np.int64), books.keys, books.slots,
            int(source), np.asarray(rows, np.int64), books.cap_nodes, books.cap_levels,
        )  # fmt: skip

    def submit(self, rows: Ints, orders: NDArray[np.void]) -> Events:
        """Send ``orders[k]`` to book ``rows[k]``, in sequence; several for one row are allowed."""
        count = len(orders)
        orders = orders.copy()
        reasons, traded = np.empty(count, np.uint8), np.empty(count, np.int64)
        books, fills = self._books, self._fills
        fills.reset()

        def call(first: int) -> tuple[int, int]:
            status, at = kb.submit_batch(
                *books.arrays, *books.capacities, books.code, rows, orders, first, reasons, traded,
                fills.fills, fills.rows,
            )  # fmt: skip
            return int(status), int(at)

        _run(books, fills, call)
        used = int(books.head[0, kb.N_FILLS])
        return Events(rows, orders, reasons, traded, fills.fills[:used].copy(), fills.rows[:used].copy())

    def snapshot(self, rows: Ints, levels: int) -> Snapshots:
        """The best levels of some books, ``[len(rows), 2, levels]``."""
        prices, sizes = np.empty((len(rows), 2, levels), np.int32), np.empty((len(rows), 2, levels), np.int64)
        books = self._books
        kb.snapshot_batch(
            books.head, books.levels, books.keys, books.slots, books.cap_levels, rows, prices, sizes, levels
        )
        return Snapshots(prices, sizes)

    def view(self, rows: Ints, now_ns: Ints) -> BookView:
        """A view for generators and agents, with the clock of each row."""
        return BookView(self, rows, now_ns)
