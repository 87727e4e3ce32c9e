"""The clearing house: many order books in lockstep, for rollouts.

Each book obeys ``MatchingRules``; whole streams go through ``marsbench.market.replay``, which runs the
same compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market import _book as kb
from marsbench.market import _streams as streams
from marsbench.market import _views as views
from marsbench.market._arrays import Books, Fills, run
from marsbench.market.orders import MARKET
from marsbench.market.rules import MatchingRules
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import BookState

Ints = NDArray[np.int64]


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
    def totals(self) -> Ints:
        """``[k, 2, 2]``: of each side (ask, bid) the number of price levels and the resting shares, all of them."""
        head = self._house.head
        return np.stack(
            [head[self.rows, kb.N_ASK : kb.N_BID + 1], head[self.rows, kb.VOLUME_ASK : kb.VOLUME_BID + 1]], 2
        )

    @property
    def last_trade_ticks(self) -> Ints:
        """``[k]``, 0 before the first trade."""
        return np.asarray(self._house.head[self.rows, kb.LAST_TRADE])

    @property
    def limits_ticks(self) -> tuple[Ints, Ints]:
        """Lowest and highest price allowed, each ``[k]``."""
        head = self._house.head
        return head[self.rows, kb.LOW], head[self.rows, kb.HIGH]

    @property
    def compiled(self) -> tuple[Any, ...]:
        """The arrays and capacities of all books, for generators with kernels of their own.

        They may look (``find`` builds its table of ids on the way) and must change nothing.
        """
        return (*self._house._books.arrays, *self._house._books.capacities)

    def volume_by_distance(self, anchors_ticks: Ints, edges_ticks: Ints) -> Ints:
        """The market's volume in bins of distance from an anchor price: ``[k, 2, J]`` shares.

        Parameters
        ----------
        anchors_ticks
            ``[k, 2]``, where distances start; they count upwards on the ask side (index 0) and
            downwards on the bid side.
        edges_ticks
            ``[k, J + 1]``, or ``[k, 2, J + 1]`` for sides apart, ascending; bin j holds distances in
            ``[edges[j], edges[j + 1])``.
        """
        house = self._house
        out = np.empty((len(self.rows), 2, edges_ticks.shape[-1] - 1), np.int64)
        if edges_ticks.ndim == 2:
            edges_ticks = np.repeat(edges_ticks[:, None], 2, axis=1)
        views.volume_by_distance(
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
        views.level_at_volume(
            house.head, *house._books.arrays[1:5], house._books.cap_nodes, house._books.cap_levels,
            self.rows, sides, anchors_ticks, near_ticks, far_ticks, targets_shares, out,
        )  # fmt: skip
        return out[:, 0], out[:, 1]

    def nearest_owned(
        self, sides: Ints, prices_ticks: Ints, low_ticks: Ints, high_ticks: Ints, *, owner: int = MARKET
    ) -> tuple[Ints, Ints]:
        """Level nearest to a price where ``owner`` has an order: price and its newest order's size there.

        Only levels at ``low_ticks`` .. ``high_ticks`` count; all ``[k]``. ``NO_PRICE`` and 0 where there is none.
        """
        out = np.zeros((len(self.rows), 2), np.int64)
        house = self._house
        views.nearest_owned(
            house.head, *house._books.arrays[1:5], house._books.cap_nodes, house._books.cap_levels, self.rows,
            *(np.ascontiguousarray(x, np.int64) for x in (sides, prices_ticks, low_ticks, high_ticks)), owner, out,
        )  # fmt: skip
        return out[:, 0], out[:, 1]

    def any_owned(
        self, low_ticks: Ints, high_ticks: Ints, uniforms: NDArray[np.float64], *, owner: int = MARKET
    ) -> tuple[Ints, Ints, Ints]:
        """One of an owner's orders in a range of prices, each as likely as another: price, size and id, each ``[k]``.

        Parameters
        ----------
        low_ticks, high_ticks
            ``[k, 2]``, first and last price on each side (ask, bid); a side with low > high is left out.
        uniforms
            ``[k]`` in [0, 1), which one it is. ``NO_PRICE``, 0 and 0 where there is none.
        """
        out = np.zeros((len(self.rows), 3), np.int64)
        house = self._house
        views.any_owned(
            house.head, *house._books.arrays[1:5], house._books.cap_nodes, house._books.cap_levels, self.rows,
            *(np.ascontiguousarray(x, np.int64) for x in (low_ticks, high_ticks)),
            np.ascontiguousarray(uniforms, np.float64), owner, out,
        )  # fmt: skip
        return out[:, 0], out[:, 1], out[:, 2]


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
        self._books = Books(rules, books)
        self._fills = Fills(self._books, 1024)

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
        views.copy_books(
            books.head, books.nodes, books.levels, books.keys, books.slots,
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
            status, at = streams.submit_batch(
                *books.arrays, *books.capacities, books.code, rows, orders, first, reasons, traded,
                fills.fills, fills.rows,
            )  # fmt: skip
            return int(status), int(at)

        run(books, fills, call)
        used = int(books.head[0, kb.N_FILLS])
        return Events(rows, orders, reasons, traded, fills.fills[:used].copy(), fills.rows[:used].copy())

    def snapshot(self, rows: Ints, levels: int) -> Snapshots:
        """The best levels of some books, ``[len(rows), 2, levels]``."""
        prices, sizes = np.empty((len(rows), 2, levels), np.int32), np.empty((len(rows), 2, levels), np.int64)
        books = self._books
        streams.snapshot_batch(
            books.head, books.levels, books.keys, books.slots, books.cap_levels, rows, prices, sizes, levels
        )
        return Snapshots(prices, sizes)

    def view(self, rows: Ints, now_ns: Ints) -> BookView:
        """A view for generators and agents, with the clock of each row."""
        return BookView(self, rows, now_ns)
